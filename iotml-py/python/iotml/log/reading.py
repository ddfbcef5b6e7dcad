"""One read of a log: its batches, and what became of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from iotml._iotml import FileRange, LogBatch, LogRange, LogRead, LogStats, Rejection
from iotml.log.progress import Bar

if TYPE_CHECKING:
    from typing_extensions import Self


class Reading(Iterator[LogBatch]):
    """The batches of one read, in order, filled ahead by a native thread; also a context manager that ends it.

    Raises `SourceError` if the topic or file cannot be read on, `DecodeError` for a row that cannot be used (unless
    such rows are skipped), `ConfigError` if a column is not there or of the wrong kind. Ctrl-C is honoured while it
    waits.
    """

    def __init__(self, native: LogRead, range_: LogRange | FileRange, title: str, *, progress: bool | None) -> None:
        """Take over a read that has begun."""
        self._native = native
        self._range = range_
        self._bar = Bar(title, None if native.follows else range_.n_offsets, progress)

    def __iter__(self) -> Self:
        """Give itself."""
        return self

    def __next__(self) -> LogBatch:
        """Give the next batch."""
        try:
            batch = next(self._native)
        except BaseException:
            if self._bar.is_due or self._native.stats().complete:
                self._bar.show(self._native.stats())
            self._bar.close()
            raise
        if self._bar.is_due:
            self._bar.show(self._native.stats())
        return batch

    @property
    def range(self) -> LogRange | FileRange:
        """What is read."""
        return self._range

    @property
    def stats(self) -> LogStats:
        """What became of the rows, as of the last batch."""
        return self._native.stats()

    @property
    def digest(self) -> str | None:
        """`sha256:...` of the rows of `x` in order, as little-endian float32; `None` until everything is read."""
        return self._native.stats().digest

    @property
    def rejected(self) -> Sequence[Rejection]:
        """The rows that could not be used, in order; the first thousand. `stats.rejected` counts all."""
        return self._native.stats().rejections

    def close(self) -> None:
        """End the read; nothing more comes."""
        self._native.close()
        self._bar.close()

    def to_dict(self) -> dict[str, Any]:
        """Give what a model's manifest should say of its data: range, rows by what became of them, digest."""
        stats = self.stats
        counts = {name: getattr(stats, name) for name in ("rows", "filtered", "rejected", "tombstones", "holes")}
        gaps = [list(gap) for gap in stats.gaps]
        return {"range": self._range.to_dict(), **counts, "gaps": gaps, "digest": stats.digest}

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the read."""
        self.close()

    def __repr__(self) -> str:
        """Say how far it is."""
        return f"<Reading {self._range!r}: {self.stats!r}>"
