"""What training the default network takes beside Keras's own parts; imports Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt


class Disturb(keras.layers.Layer):  # type: ignore[misc]
    """Moves a share of the values by up to a largest move, in training only."""

    def __init__(self, share: float, largest_move: float, seed: int) -> None:
        """Make the layer; equal seeds give equal moves."""
        super().__init__(name="disturb")
        self._share, self._largest_move = share, largest_move
        self._seeds = keras.random.SeedGenerator(seed)

    def call(self, rows: Any, training: bool = False) -> Any:
        """Give the rows `[n, n_features]`, moved in training."""
        if not training:
            return rows
        shape = keras.ops.shape(rows)
        is_moved = keras.random.uniform(shape, seed=self._seeds) < self._share
        move = keras.random.uniform(shape, -self._largest_move, self._largest_move, seed=self._seeds)
        return keras.ops.where(is_moved, rows + move, rows)


class Weights:
    """One weight a feature in the loss; their mean is 1."""

    def __init__(self, n_features: int) -> None:
        """Start with equal weights."""
        self._weight = keras.Variable(np.ones(n_features, np.float32), trainable=False, name="feature_weights")

    def loss(self, expected: Any, given: Any) -> Any:
        """Give the weighed mean of squared errors of each row, `[n]`."""
        return keras.ops.mean(self._weight * keras.ops.square(given - expected), axis=-1)

    def numpy(self) -> npt.NDArray[np.float64]:
        """Give the weights `[n_features]`."""
        return np.asarray(keras.ops.convert_to_numpy(self._weight), np.float64)

    def callback(
        self, model: Any, batches: Callable[[], Iterable[npt.NDArray[np.float32]]], epochs: Sequence[int]
    ) -> keras.callbacks.Callback:
        """Measure the weights at the end of these epochs, by how well `model` gives the rows of `batches()` back."""

        def measure(epoch: int, _logs: Any) -> None:
            if epoch not in epochs:
                return
            squares, n_rows = np.float64(0), 0
            for batch in batches():
                squares = squares + ((model.predict(batch, batch_size=8192, verbose=0) - batch) ** 2).sum(axis=0, dtype=np.float64)
                n_rows += len(batch)
            # A feature that is given back without any error would take all the weight.
            weight = 1 / np.maximum(squares / n_rows, 1e-9)
            self._weight.assign((weight / weight.mean()).astype(np.float32))

        return keras.callbacks.LambdaCallback(on_epoch_end=measure)
