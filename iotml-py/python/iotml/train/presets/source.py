"""Training rows: an array in memory, or a stream that is read anew for every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ConfigError
from iotml.manifest import Feature, affine, scale
from iotml.train.optional import needed
from iotml.train.presets.scaling import Statistics
from iotml.train.windows import windows

FloatArray = npt.NDArray[np.float32]

#: Raw rows: an array `[n, n_features]`, or a `tf.data.Dataset` of batches `[batch, n_features]`, as `KafkaLog.to_tf`
#: gives them (what comes beside the rows, such as labels, is left aside). For a `next_event` network the batches of a
#: dataset are pairs of windows `[batch, look_back, n_features]` and the rows after them `[batch, n_features]`.
Rows: TypeAlias = Any

_BATCH = 65_536
#: Rows scaled at once in a tf.data pipeline, of which a step costs the same however few they are.
_SCALED_ROWS = 16_384


class Source:
    """Raw rows with their statistics, which take one pass over them."""

    def __init__(self, rows: Rows, *, keys: npt.NDArray[Any] | None = None, look_back: int | None = None) -> None:
        """Raise `ConfigError` for rows of another shape, without rows, or with NaN or infinity."""
        self._look_back, self._keys = look_back, keys
        self._is_array = isinstance(rows, np.ndarray)
        if self._is_array:
            if rows.ndim != 2:
                raise ConfigError(f"rows have the shape {list(rows.shape)}, but [n, n_features] is needed")
            self._rows = rows
        elif hasattr(rows, "as_numpy_iterator") and hasattr(rows, "rebatch"):
            self._rows = rows.map(_windows if look_back else _first)
        else:
            raise ConfigError(f"rows are a {type(rows).__name__}, but a NumPy array or a tf.data.Dataset is needed")
        self.statistics = Statistics.of(self._raw())

    def for_fit(self, features: Sequence[Feature], batch: int) -> dict[str, Any]:
        """Give the arguments `x`, `y` and so on of `keras.Model.fit`, scaled.

        The target of rows is the rows themselves, that of a window is the window moved on by one row.
        """
        if not self._is_array:
            return {"x": self._stream(features, batch), "shuffle": False}
        rows = scale(features, self._rows)
        if self._look_back is None:
            return {"x": rows, "y": rows, "batch_size": batch, "shuffle": True}
        x, y, _ = windows(rows, self._look_back, self._keys)
        if not len(x):
            raise ConfigError(f"no key has more than {self._look_back} rows, so no row comes after a full window")
        return {"x": x, "y": np.concatenate([x[:, 1:], y[:, None]], axis=1), "batch_size": batch, "shuffle": True}

    def batches(self, features: Sequence[Feature]) -> Iterator[FloatArray]:
        """Scaled rows `[n, n_features]`, batch by batch."""
        for batch in self._raw():
            yield scale(features, batch)

    def _stream(self, features: Sequence[Feature], batch: int) -> Any:
        tf = needed("tensorflow", purpose="training", install="iotml[tensorflow]")
        # Told how long it is, Keras needs no epoch to find out; and a log that changed in between does not pass unseen.
        length = tf.data.experimental.assert_cardinality(-(-self.statistics.n_rows // batch))
        at_once = max(_SCALED_ROWS // (self._look_back or 1), 1)
        scaled = self._rows.rebatch(at_once).map(_scaled(features, self._look_back))
        # The next rows are made ready while a network is trained on these.
        return scaled.prefetch(2).rebatch(batch).apply(length).prefetch(2)

    def _raw(self) -> Iterator[FloatArray]:
        if self._is_array:
            for at in range(0, len(self._rows), _BATCH):
                yield self._rows[at : at + _BATCH]
            return
        # A call of a model costs as much as thousands of rows.
        for element in self._rows.rebatch(_BATCH).as_numpy_iterator():
            # Nearly every row of a key is the row after some window, so these say what the rows are like.
            yield element if self._look_back is None else element[1]


def _first(*element: Any) -> Any:
    return element[0]


def _windows(*element: Any) -> Any:
    """Windows and the rows after them, without what comes beside them."""
    return element[0] if isinstance(element[0], tuple) else element[:2]


def _scaled(features: Sequence[Feature], look_back: int | None) -> Callable[..., tuple[Any, Any]]:
    """Give the scaling for tensors, in float64 as in the engine."""
    tf = needed("tensorflow", purpose="training", install="iotml[tensorflow]")
    subtract, multiply, add = (tf.constant(column) for column in affine(features))

    def apply(rows: Any) -> Any:
        return tf.cast((tf.cast(rows, tf.float64) - subtract) * multiply + add, tf.float32)

    def rows_twice(rows: Any) -> tuple[Any, Any]:
        scaled = apply(rows)
        return scaled, scaled

    def windows_and_next(x: Any, y: Any) -> tuple[Any, Any]:
        x, y = apply(x), apply(y)
        return x, tf.concat([x[:, 1:], y[:, None]], axis=1)

    return rows_twice if look_back is None else windows_and_next
