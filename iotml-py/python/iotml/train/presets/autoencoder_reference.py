"""The autoencoder of the reference system: 18-14-7-7-18 with tanh and relu, on data scaled to -1..1.

Its output layer is relu, so it cannot give negative values back and its loss stays high; it is here to be compared
with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from iotml.manifest import Feature
from iotml.train.optional import needed
from iotml.train.presets.network import Network, check_epochs, settings_of
from iotml.train.presets.scaling import fit_range
from iotml.train.presets.source import Rows, Source


@dataclass(frozen=True)
class AutoencoderReference:
    """Settings of the reference autoencoder: Adam, mean squared error, an L1 penalty on the first layer's activity."""

    epochs: int = 20
    batch: int = 100
    seed: int = 1
    learning_rate: float = 1e-3
    activity_penalty: float = 1e-7

    def build(self, n_features: int) -> Any:
        """Make the `keras.Model`, dense layers n - 14 - 7 - 7 - n; input `features`, output `reconstruction`."""
        keras = needed("keras", purpose="the preset autoencoder-reference", install="iotml[tensorflow]")
        dense, penalty = keras.layers.Dense, keras.regularizers.L1(self.activity_penalty)
        inputs = keras.Input((n_features,), name="features")
        hidden = dense(14, activation="tanh", activity_regularizer=penalty, name="encode_1")(inputs)
        hidden = dense(7, activation="relu", name="encode_2")(hidden)
        hidden = dense(7, activation="tanh", name="decode_1")(hidden)
        return keras.Model(inputs, dense(n_features, activation="relu", name="reconstruction")(hidden))

    def fit(
        self,
        rows: Rows,
        features: Sequence[str | Feature],
        *,
        callbacks: Iterable[Any] = (),
        verbose: int | str = "auto",
    ) -> Network:
        """Fit scaling and network to raw rows, which should be healthy ones; seeds the random numbers of Keras.

        `callbacks` and `verbose` are those of `keras.Model.fit`. Raises `ConfigError` for rows that cannot be trained
        on.
        """
        check_epochs(self.epochs, self.batch)
        keras = needed("keras", purpose="the preset autoencoder-reference", install="iotml[tensorflow]")
        keras.utils.set_random_seed(self.seed)
        source = Source(rows)
        fitted = fit_range(features, source.statistics)
        model = self.build(len(fitted))
        model.compile(keras.optimizers.Adam(self.learning_rate), loss="mean_squared_error")
        history = model.fit(**source.for_fit(fitted, self.batch), epochs=self.epochs, callbacks=list(callbacks), verbose=verbose)
        spread = source.statistics.describe(fitted)
        settings = settings_of("autoencoder-reference", self)
        return Network(model, "reconstruction", fitted, history.history, settings, distribution=spread)
