"""The default network: a small denoising autoencoder that gives back what each sensor should read beside the others.

An autoencoder that is only asked to copy learns to copy faults too. This one is trained with some sensors of a row moved
by a random offset and asked for the row as it was, so it learns to distrust a sensor that disagrees with the rest; which
sensor, how far and in which direction is random, so no fault kind is taught.

The score is a plain mean of squared errors, in which noisy sensors (an integer tyre pressure) would drown precise ones (the
vibration). Each sensor is therefore weighed by how well healthy rows can be reconstructed, and the weights end up in the
scaling: `scaled = (v - mean) / std` with `std` = deviation / sqrt(weight). The exported model and its score stay plain.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Settings:
    """What the training depends on besides the data."""

    epochs: int = 80
    seed: int = 1
    hidden: int = 48
    bottleneck: int = 12
    batch: int = 512
    learning_rate: float = 4e-3
    # Share of the values that are moved, and the largest move in standard deviations.
    moved: float = 0.03
    largest_move: float = 1.5


@dataclass(frozen=True)
class Network:
    """A trained model on scaled rows, and the scaling of raw ones: float64 `[n_features]` each."""

    model: keras.Model
    mean: np.ndarray
    std: np.ndarray

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Raw rows `[n, n_features]` to the float32 rows that the model reads."""
        scaled: np.ndarray = (values - self.mean) / self.std
        return scaled.astype(np.float32)

    def score(self, values: np.ndarray) -> np.ndarray:
        """Mean squared error of each raw row in scaled units, float32 `[n]`."""
        scaled = self.scale(values)
        errors: np.ndarray = (self.model.predict(scaled, batch_size=8192, verbose=0) - scaled) ** 2
        score: np.ndarray = errors.mean(axis=1)
        return score


def fit(values: np.ndarray, settings: Settings) -> Network:
    """Fit scaling and network to raw healthy rows `[n, n_features]`."""
    keras.utils.set_random_seed(settings.seed)
    mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    if not np.all(deviation > 0):
        raise SystemExit("a feature never changes in the training rows, so that it cannot be scaled")
    rows = ((values - mean) / deviation).astype(np.float32)

    model = build(rows.shape[1], settings)
    n_steps = len(rows) // settings.batch
    if n_steps == 0:
        raise SystemExit(f"{len(rows)} healthy rows are fewer than one batch of {settings.batch}")
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * n_steps))
    optimizer.build(model.trainable_variables)
    weight = tf.Variable(tf.ones(rows.shape[1]))

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def step(batch: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(batch)
        is_moved = tf.random.stateless_uniform(shape, seed) < settings.moved
        move = tf.random.stateless_uniform(shape, seed + 1, -settings.largest_move, settings.largest_move)
        with tf.GradientTape() as tape:
            found = model(tf.where(is_moved, batch + move, batch), training=True)
            loss = tf.reduce_mean(weight * tf.square(found - batch))
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True))
        return loss

    rng = np.random.default_rng(settings.seed)
    for epoch in range(settings.epochs):
        order = rng.permutation(len(rows))
        losses = []
        for at in range(n_steps):
            batch = rows[order[at * settings.batch : (at + 1) * settings.batch]]
            losses.append(step(tf.constant(batch), tf.constant([epoch * 2, at], dtype=tf.int32)))
        # Weights are worth measuring once the network reconstructs at all, and once more when it is nearly done.
        if epoch in (settings.epochs // 3, 2 * settings.epochs // 3):
            errors = np.mean((model.predict(rows, batch_size=8192, verbose=0) - rows) ** 2, axis=0)
            weight.assign((1 / errors) / np.mean(1 / errors))
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.5f}", flush=True)

    root = np.sqrt(weight.numpy().astype(np.float64))
    fold(model, root)
    return Network(model, mean, deviation / root)


def build(n_features: int, settings: Settings) -> keras.Model:
    """Dense layers n - hidden - bottleneck - hidden - n; relu inside, linear bottleneck and output (scaled values are negative too)."""
    inputs = keras.Input((n_features,), name="features")
    hidden = keras.layers.Dense(settings.hidden, activation="relu", name="encode")(inputs)
    bottleneck = keras.layers.Dense(settings.bottleneck, name="bottleneck")(hidden)
    hidden = keras.layers.Dense(settings.hidden, activation="relu", name="decode")(bottleneck)
    return keras.Model(inputs, keras.layers.Dense(n_features, name="reconstruction")(hidden))


def fold(model: keras.Model, root: np.ndarray) -> None:
    """Make the model read and give rows that are `root` times as large, by changing its first and last layer."""
    first, last = model.get_layer("encode"), model.get_layer("reconstruction")
    kernel, bias = first.get_weights()
    first.set_weights([kernel / root[:, None], bias])
    kernel, bias = last.get_weights()
    last.set_weights([kernel * root, bias * root])
