"""The LSTM of the reference system: forecasts the next row of the same key from the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ConfigError
from iotml.manifest import Feature
from iotml.train.optional import needed
from iotml.train.presets.network import Network, check_epochs, settings_of
from iotml.train.presets.scaling import fit_range
from iotml.train.presets.source import Rows, Source


@dataclass(frozen=True)
class Lstm:
    """Settings of the forecasting network.

    `look_back` rows of one key are read. The reference system has a window of one row, batches of one and relu; tract
    runs LSTMs with tanh only, ONNX Runtime both.
    """

    epochs: int = 20
    batch: int = 64
    seed: int = 1
    look_back: int = 1
    learning_rate: float = 1e-3
    activation: str = "relu"

    def build(self, n_features: int) -> Any:
        """Make the `keras.Model`, LSTM 32, 16, repeated, 16, 32, dense.

        Input `window` and output `next_rows`, both `[n, look_back, n_features]`: the window moved on by one row.
        """
        keras = needed("keras", purpose="the preset lstm", install="iotml[tensorflow]")
        layers = keras.layers
        inputs = keras.Input((self.look_back, n_features), name="window")
        hidden = layers.LSTM(32, activation=self.activation, return_sequences=True, name="encode_1")(inputs)
        hidden = layers.LSTM(16, activation=self.activation, name="encode_2")(hidden)
        hidden = layers.RepeatVector(self.look_back, name="repeat")(hidden)
        hidden = layers.LSTM(16, activation=self.activation, return_sequences=True, name="decode_1")(hidden)
        hidden = layers.LSTM(32, activation=self.activation, return_sequences=True, name="decode_2")(hidden)
        return keras.Model(inputs, layers.TimeDistributed(layers.Dense(n_features), name="next_rows")(hidden))

    def fit(
        self,
        rows: Rows,
        features: Sequence[str | Feature],
        *,
        keys: Sequence[object] | npt.NDArray[Any] | None = None,
        callbacks: Iterable[Any] = (),
        verbose: int | str = "auto",
    ) -> Network:
        """Fit scaling and network to raw rows in the order of arrival; `keys` are the devices, one a row.

        `callbacks` and `verbose` are those of `keras.Model.fit`. Raises `ConfigError` for rows that cannot be trained
        on.
        """
        check_epochs(self.epochs, self.batch)
        if self.look_back < 1:
            raise ConfigError(f"look_back is {self.look_back}, but a window has at least one row")
        keras = needed("keras", purpose="the preset lstm", install="iotml[tensorflow]")
        keras.utils.set_random_seed(self.seed)
        source = Source(rows, keys=None if keys is None else np.asarray(keys), look_back=self.look_back)
        fitted = fit_range(features, source.statistics)
        model = self.build(len(fitted))
        model.compile(keras.optimizers.Adam(self.learning_rate), loss="mean_squared_error")
        history = model.fit(**source.for_fit(fitted, self.batch), epochs=self.epochs, callbacks=list(callbacks), verbose=verbose)
        spread = source.statistics.describe(fitted)
        return Network(model, "next_event", fitted, history.history, settings_of("lstm", self), self.look_back, spread)
