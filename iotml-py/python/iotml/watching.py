"""How a pipeline is doing, shown while it runs."""

from __future__ import annotations

import html
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from iotml._iotml import Stats


class Watching:
    """One line that is written over in a terminal, one table in a notebook, a line each time elsewhere."""

    def __init__(self, name: str) -> None:
        """For the pipeline called `name`."""
        self._name = name
        self._table: Any = None
        self._is_terminal = sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> Self:
        """Look for a notebook."""
        if _in_notebook():
            from IPython.display import HTML, display

            self._table = display(HTML(""), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the line."""
        if self._is_terminal and self._table is None and self._last:
            print(file=sys.stderr)

    def show(self, stats: Stats) -> None:
        """Show this snapshot in the place of the one before."""
        if self._table is not None:
            from IPython.display import HTML

            self._table.update(HTML(_table(self._name, stats)))
            return
        line = (
            f"{self._name}: {stats.state}, {stats.received:,} received ({stats.received_per_second:,.0f}/s), "
            f"{stats.delivered:,} delivered, {stats.dead_lettered:,} dead-lettered, {stats.filtered:,} filtered, "
            f"{stats.skipped:,} skipped, {stats.in_flight:,} in flight"
        )
        if not stats.is_healthy:
            line += f" - {stats.detail}"
        if self._is_terminal:
            # Blanks over what is left of a longer line.
            print("\r" + line.ljust(len(self._last)), end="", file=sys.stderr, flush=True)
        elif line != self._last:
            print(line, file=sys.stderr, flush=True)
        self._last = line


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def _table(name: str, stats: Stats) -> str:
    rows = {
        "state": stats.state if stats.is_healthy else f"{stats.state}: {stats.detail}",
        "received": f"{stats.received:,} ({stats.received_per_second:,.0f}/s)",
        "delivered": f"{stats.delivered:,}",
        "dead-lettered": f"{stats.dead_lettered:,}",
        "filtered": f"{stats.filtered:,}",
        "skipped": f"{stats.skipped:,}",
        "in flight": f"{stats.in_flight:,}",
        "running for": f"{stats.seconds:,.0f} s",
    }
    cells = "".join(f"<tr><th>{key}</th><td>{html.escape(value)}</td></tr>" for key, value in rows.items())
    return f"<table><caption>{html.escape(name)}</caption>{cells}</table>"
