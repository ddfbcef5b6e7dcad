"""What a log of any kind gives: NumPy, Arrow, TensorFlow, PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from iotml._iotml import FileRange, LogRange, LogRead, LogStream
from iotml.exceptions import ConfigError
from iotml.log.reading import Reading
from iotml.log.rows import Features, Missing, OnBad, RowOptions
from iotml.manifest import Feature

if TYPE_CHECKING:
    from iotml.log.pytorch import LogDataset

FloatArray = npt.NDArray[np.float32]

Range = TypeVar("Range", LogRange, FileRange)

#: Rows of a batch where nobody says how many.
BATCH_ROWS = 4096

#: Rows of a batch where only their number as a whole counts.
_BLOCK_ROWS = 16_384


class Log(ABC, Generic[Range]):
    """Rows in a defined order, read as often as wanted.

    A log holds no connection and no thread: it may be pickled, and used in processes that were forked off. Every read
    has its own.
    """

    def __init__(
        self,
        *,
        features: Features | None = None,
        label: str | None = None,
        filter: str | Sequence[str] | None = None,  # noqa: A002
        columns: Sequence[str] = (),
        missing: Missing = "reject",
        on_bad: OnBad = "raise",
        progress: bool | None = None,
    ) -> None:
        """Take what to make of the rows; see the classes that read."""
        self._rows = RowOptions.of(
            features, label=label, filter=filter, columns=columns, missing=missing, on_bad=on_bad
        )
        self._progress = progress
        self._last_read: Reading | None = None

    @property
    def features(self) -> Sequence[Feature]:
        """The columns of `x`, in order, with their scaling."""
        return self._rows.features

    @property
    def label(self) -> str | None:
        """The column of `y`."""
        return self._rows.label

    @property
    def last_read(self) -> Reading | None:
        """The read that was begun last, with its range, its digest and its rejected rows."""
        return self._last_read

    @abstractmethod
    def _all(self) -> Range:
        """Give everything that is there now."""

    @abstractmethod
    def _read(self, range_: Range, rows: str) -> LogRead:
        """Begin a read."""

    @abstractmethod
    def _title(self) -> str:
        """Give the name in front of a progress bar."""

    def batches(
        self,
        batch_rows: int = BATCH_ROWS,
        *,
        range: Range | None = None,  # noqa: A002
        windows: int | None = None,
        digest: bool = True,
        progress: bool | None = None,
    ) -> Reading:
        """Read batches of `batch_rows` rows, the last one smaller; without a `range`, everything that is there now.

        With `windows=k`, `batch.x` holds windows of k consecutive rows of one key, `(n, k, n_features)`, and
        `batch.target` the row that came after each, `(n, n_features)`; rows that were filtered out or skipped are not
        part of them, and no window spans two partitions. `digest=False` saves the hashing of the rows, a few per cent
        of the time. `progress` takes precedence over the log's own.
        """
        wanted = self._all() if range is None else range
        native = self._read(wanted, self._rows.to_json(batch_rows, windows, 0.0, digest=digest))
        return self._reading(native, wanted, progress)

    def numpy(
        self,
        *,
        range: Range | None = None,  # noqa: A002
        windows: int | None = None,
        digest: bool = True,
        progress: bool | None = None,
    ) -> tuple[FloatArray, FloatArray | None]:
        """Read everything into memory: `x (n, n_features)` and the labels `y (n,)`, `None` without a label.

        With `windows=k`: `x (n, k, n_features)` and, in place of the labels, the row after each window `(n,
        n_features)`.
        """
        self._need_features("numpy")
        width = len(self.features)
        with self.batches(_BLOCK_ROWS, range=range, windows=windows, digest=digest, progress=progress) as reading:
            # Memory that is never written to costs nothing, so there is room for every offset.
            n_offsets = reading.range.n_offsets
            x = np.empty((n_offsets, width) if windows is None else (n_offsets, windows, width), np.float32)
            beside: FloatArray | None = None
            if windows is not None:
                beside = np.empty((n_offsets, width), np.float32)
            elif self.label is not None:
                beside = np.empty(n_offsets, np.float32)
            n_rows = 0
            for batch in reading:
                rows = slice(n_rows, n_rows + len(batch))
                x[rows] = batch.x
                if beside is not None:
                    beside[rows] = batch.y if windows is None else batch.target
                n_rows = rows.stop
        return x[:n_rows], None if beside is None else beside[:n_rows]

    def to_arrow(
        self,
        *,
        range: Range | None = None,  # noqa: A002
        batch_rows: int = _BLOCK_ROWS,
    ) -> LogStream:
        """Read as Arrow: `pyarrow.table(log.to_arrow())`, `polars.DataFrame(log.to_arrow())`, and so on.

        The columns are those of features, label, filter and `columns` (all there are, where there are neither features
        nor `columns`), as they were decoded and not scaled, and `_key`, `_partition`, `_offset`, `_time`.
        """
        wanted = self._all() if range is None else range
        native = self._read(wanted, self._rows.to_json(batch_rows, None, 0.0, digest=False))
        self._reading(native, wanted, progress=False)
        return LogStream(native)

    def to_tf(
        self,
        batch_size: int,
        *,
        shuffle_buffer: int | None = None,
        windows: int | None = None,
        range: Range | None = None,  # noqa: A002
        seed: int | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Give a `tf.data.Dataset` of batches: `x (batch, n_features)`, with a label the pair `(x, y)`.

        With `windows=k` it is the pair of windows `(batch, k, n_features)` and the rows after them
        `(batch, n_features)`. Every epoch reads the range anew; without a `range`, what is there now. With a
        `shuffle_buffer`, rows are drawn from a pool of at least so many, another order in every epoch, the same for the
        same `seed`. Needs TensorFlow: `pip install 'iotml[tensorflow]'`.
        """
        from iotml.log.tensorflow import dataset

        self._need_features("to_tf")
        wanted = self._all() if range is None else range
        return dataset(self, wanted, batch_size, shuffle_buffer, windows, seed, progress)

    def to_torch(
        self,
        batch_size: int,
        *,
        shuffle_buffer: int | None = None,
        windows: int | None = None,
        range: Range | None = None,  # noqa: A002
        seed: int | None = None,
        progress: bool | None = None,
    ) -> LogDataset:
        """Give a `torch.utils.data.IterableDataset` of batches, for `DataLoader(dataset, batch_size=None)`.

        Its elements are as those of `to_tf`, as tensors. The workers of a loader share the partitions, each reads its
        own. Needs PyTorch: `pip install 'iotml[torch]'`.
        """
        from iotml.train.optional import needed

        self._need_features("to_torch")
        needed("torch", purpose="to_torch", install="iotml[torch]")
        from iotml.log.pytorch import LogDataset

        wanted = self._all() if range is None else range
        return LogDataset(self, wanted, batch_size, shuffle_buffer, windows, seed, progress)

    def _reading(self, native: LogRead, range_: Range, progress: bool | None) -> Reading:
        shown = self._progress if progress is None else progress
        self._last_read = Reading(native, range_, self._title(), progress=shown)
        return self._last_read

    def _need_features(self, what: str) -> None:
        if not self.features:
            raise ConfigError(f"{what} gives rows of features: name some when the log is made")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last read behind: it is a thread of this process."""
        return {**self.__dict__, "_last_read": None}
