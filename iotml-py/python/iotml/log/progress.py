"""A bar that shows how far a read is, in a terminal and in a notebook."""

from __future__ import annotations

import sys
import time
from typing import Any

from iotml._iotml import LogStats
from iotml.exceptions import MissingPackageError

#: Seconds between two looks: a look costs more than a small batch.
_PAUSE = 0.1


class Bar:
    """Records, rate, what is left, and how long it will take, by tqdm.

    `shown=None` shows it where someone may look at it: in a terminal and in a notebook, if tqdm is installed.
    """

    def __init__(self, title: str, total: int | None, shown: bool | None) -> None:
        """Raise `MissingPackageError` if it is asked for, and tqdm is not installed."""
        self._bar: Any = None
        self._next = 0.0
        if shown or (shown is None and _is_watched()):
            try:
                from tqdm.auto import tqdm
            except ImportError as error:
                if shown:
                    raise MissingPackageError("a progress bar needs tqdm: pip install 'iotml[progress]'") from error
                return
            self._bar = tqdm(total=total, desc=title, unit=" records", unit_scale=True, mininterval=_PAUSE)

    @property
    def is_due(self) -> bool:
        """Whether it is time to show something new."""
        return self._bar is not None and time.monotonic() >= self._next

    def show(self, stats: LogStats) -> None:
        """Show this."""
        if self._bar is None:
            return
        self._next = time.monotonic() + _PAUSE
        told = {"rows": f"{stats.rows:,}", "lag": f"{stats.lag:,}"}
        if stats.rejected:
            told["rejected"] = f"{stats.rejected:,}"
        self._bar.set_postfix(told, refresh=False)
        self._bar.update(stats.offsets - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _is_watched() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return (shell is not None and "IPKernelApp" in shell.config) or (sys.stderr is not None and sys.stderr.isatty())
