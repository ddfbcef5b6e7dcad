"""The default network: a small denoising autoencoder that gives back what each sensor should read beside the others.

An autoencoder that is only asked to copy learns to copy faults too. This one is trained with some sensors of a row
moved by a random offset and asked for the row as it was, so it learns to distrust a sensor that disagrees with the
rest; which sensor, how far and in which direction is random, so no fault kind is taught.

The score is a plain mean of squared errors, in which noisy sensors (an integer tyre pressure) would drown precise ones
(the vibration). Each sensor is therefore weighed by how well its rows can be reconstructed, and the weights end up in
the scaling: `scaled = (v - mean) / std` with `std` = deviation / sqrt(weight). The exported model and its score stay
plain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iotml.exceptions import ConfigError
from iotml.manifest import Feature, StandardScale
from iotml.train.optional import needed
from iotml.train.presets.network import Network, check_epochs, settings_of
from iotml.train.presets.scaling import fit_standard
from iotml.train.presets.source import Rows, Source


@dataclass(frozen=True)
class Autoencoder:
    """Settings of the default network.

    `hidden` and `bottleneck` are its widths. `moved` is the share of the values that are moved in training,
    `largest_move` how far at most, in standard deviations.
    """

    epochs: int = 80
    batch: int = 512
    seed: int = 1
    hidden: int = 48
    bottleneck: int = 12
    learning_rate: float = 4e-3
    moved: float = 0.03
    largest_move: float = 1.5

    def build(self, n_features: int) -> Any:
        """Make the `keras.Model`, dense layers n - hidden - bottleneck - hidden - n.

        Input `features`, output `reconstruction`; relu inside, linear bottleneck and output, since scaled values are
        negative too.
        """
        keras = needed("keras", purpose="the preset autoencoder", install="iotml[tensorflow]")
        inputs = keras.Input((n_features,), name="features")
        hidden = keras.layers.Dense(self.hidden, activation="relu", name="encode")(inputs)
        bottleneck = keras.layers.Dense(self.bottleneck, name="bottleneck")(hidden)
        hidden = keras.layers.Dense(self.hidden, activation="relu", name="decode")(bottleneck)
        return keras.Model(inputs, keras.layers.Dense(n_features, name="reconstruction")(hidden))

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
        keras = needed("keras", purpose="the preset autoencoder", install="iotml[tensorflow]")
        from iotml.train.presets import denoising

        keras.utils.set_random_seed(self.seed)
        source = Source(rows)
        fitted = fit_standard(features, source.statistics)
        fixed = [feature.name for feature in fitted if not isinstance(feature.scale, StandardScale)]
        if fixed:
            raise ConfigError(
                "the preset autoencoder weighs features by their scaling, so each needs mean and std; "
                f"fit or leave out {', '.join(fixed)}"
            )
        model = self.build(len(fitted))
        weights = denoising.Weights(len(fitted))
        noisy = denoising.Disturb(self.moved, self.largest_move, self.seed)(model.inputs[0])
        training = keras.Model(model.inputs, model(noisy))
        n_steps = self.epochs * -(-source.statistics.n_rows // self.batch)
        schedule = keras.optimizers.schedules.CosineDecay(self.learning_rate, n_steps)
        training.compile(keras.optimizers.Adam(schedule), loss=weights.loss, jit_compile=True)
        # Weights are worth measuring once the network reconstructs at all, and once more when it is nearly done.
        measure = weights.callback(model, lambda: source.batches(fitted), (self.epochs // 3, 2 * self.epochs // 3))
        history = training.fit(
            **source.for_fit(fitted, self.batch),
            epochs=self.epochs,
            callbacks=[measure, *callbacks],
            verbose=verbose,
        )
        root = np.sqrt(weights.numpy())
        _fold(model, root)
        weighed = tuple(_weigh(feature, float(factor)) for feature, factor in zip(fitted, root, strict=True))
        spread = source.statistics.describe(weighed)
        settings = settings_of("autoencoder", self)
        return Network(model, "reconstruction", weighed, history.history, settings, distribution=spread)


def _weigh(feature: Feature, root: float) -> Feature:
    assert isinstance(feature.scale, StandardScale)
    return dataclasses.replace(feature, scale=StandardScale(feature.scale.mean, feature.scale.std / root))


def _fold(model: Any, root: Any) -> None:
    """Make the model read and give rows that are `root` times as large, by changing its first and last layer."""
    first, last = model.get_layer("encode"), model.get_layer("reconstruction")
    kernel, bias = first.get_weights()
    first.set_weights([kernel / root[:, None], bias])
    kernel, bias = last.get_weights()
    last.set_weights([kernel * root, bias * root])
