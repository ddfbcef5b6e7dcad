"""The presets: what they build, what they learn, what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from iotml import ConfigError, Scorer
from iotml.manifest import Feature, RangeScale, StandardScale
from iotml.train import calibrate, describe, export_onnx, persistence_loss, presets, windows
from iotml.train.presets import Statistics, fit_range, fit_standard

keras = pytest.importorskip("keras")
import tensorflow as tf  # noqa: E402

NAMES = ["speed", "vibration", "voltage", "current", "temperature"]


def readings(n: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """Rows whose five columns hang together by two hidden causes."""
    rng = np.random.default_rng(seed)
    speed, load = rng.uniform(0, 50, n), rng.uniform(0, 1, n)
    noise = rng.normal(size=(n, 3)) * [20, 0.3, 0.2]
    columns = [speed, speed * 100 + noise[:, 0], 240 - 8 * load + noise[:, 1], 30 * load, 80 + 10 * load + noise[:, 2]]
    return np.stack(columns, axis=1).astype(np.float32)


def dataset(rows: npt.NDArray[np.float32], batch: int = 300) -> Any:
    """The rows as a stream, with a label beside them as `KafkaLog.to_tf` may give one."""
    return tf.data.Dataset.from_tensor_slices((rows, np.zeros(len(rows)))).batch(batch)


def test_statistics_of_batches_are_those_of_the_whole() -> None:
    rows = readings(1_000) * [1, 1, 1, 1, 1e4] + [0, 0, 1e6, 0, 0]
    found = Statistics.of(np.array_split(rows.astype(np.float32), 7))
    whole = rows.astype(np.float32).astype(np.float64)
    assert found.n_rows == 1_000
    np.testing.assert_allclose(found.mean, whole.mean(axis=0))
    np.testing.assert_allclose(found.std, whole.std(axis=0))
    assert (found.min.tolist(), found.max.tolist()) == (whole.min(axis=0).tolist(), whole.max(axis=0).tolist())


def test_scaling_keeps_what_the_caller_fixed() -> None:
    found = Statistics.of([np.array([[0, 5, 7], [10, 5, 9]], np.float32)])
    named: list[str | Feature] = ["a", Feature("b", constant=0.0), Feature("c", RangeScale(0, 100))]
    assert fit_range(named, found) == (Feature("a", RangeScale(0, 10)), named[1], named[2])
    assert fit_standard(named, found)[0] == Feature("a", StandardScale(5, 5))
    with pytest.raises(ConfigError, match=r"b is always 5 .*Feature\('b', constant=0.0\)"):
        fit_range(["a", "b", "c"], found)
    with pytest.raises(ConfigError, match="2 features for rows of 3 numbers"):
        fit_range(["a", "b"], found)


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_default_network_finds_what_does_not_hang_together(is_stream: bool, tmp_path: Path) -> None:
    rows = readings(6_000)
    network = presets.Autoencoder(epochs=25, batch=128, hidden=16, bottleneck=2, moved=0.1).fit(
        dataset(rows) if is_stream else rows, NAMES, verbose=0
    )
    healthy, ill = readings(1_000, seed=2), readings(1_000, seed=3)
    ill[:, 1] += 600
    labels = np.r_[np.zeros(1_000, bool), np.ones(1_000, bool)]
    found = calibrate(network.score(np.r_[healthy, ill]), labels, method="false_alarm_rate", rate=0.01)
    assert found.roc_auc is not None
    assert found.roc_auc > 0.95
    export = export_onnx(
        network.model, tmp_path / "m.onnx", manifest=network.manifest("cars"), samples=healthy, calibration=found
    )
    assert export.names == {"features": "features", "reconstruction": "reconstruction"}
    np.testing.assert_allclose(Scorer(str(export.path)).score(ill), network.score(ill), rtol=1e-4, atol=1e-5)
    trained = export.manifest.trained
    assert (trained["preset"], trained["epochs"], trained["settings"]["bottleneck"]) == ("autoencoder", 25, 2)
    assert trained["loss"] == pytest.approx(network.history["loss"][-1])
    spread = export.manifest.distribution
    assert spread is not None
    assert (spread.rows, [feature.name for feature in spread.features]) == (6_000, NAMES)
    assert spread.features == describe([Feature(name) for name in NAMES], rows).features
    assert spread.score is not None
    assert spread.score.anomalies == pytest.approx(float(np.mean(found.scores >= np.float32(found.value))), abs=1e-6)


def test_equal_seeds_give_equal_networks() -> None:
    preset = presets.Autoencoder(epochs=3, batch=128, hidden=8, bottleneck=2)
    scores = [preset.fit(readings(1_000), NAMES, verbose=0).score(readings(50, seed=2)) for _ in range(2)]
    np.testing.assert_array_equal(scores[0], scores[1])


def test_the_reference_network_is_the_references(tmp_path: Path) -> None:
    model = presets.AutoencoderReference().build(18)
    dense = [layer for layer in model.layers if hasattr(layer, "units")]
    assert [layer.units for layer in dense] == [14, 7, 7, 18]
    assert [layer.activation.__name__ for layer in dense] == ["tanh", "relu", "tanh", "relu"]
    assert float(dense[0].activity_regularizer.l1) == pytest.approx(1e-7)
    network = presets.AutoencoderReference(epochs=2).fit(dataset(readings(1_000)), NAMES, verbose=0)
    scaled = network.scale(readings(1_000))
    assert (scaled.min(), scaled.max()) == (-1, 1)
    export = export_onnx(network.model, tmp_path / "model.onnx", manifest=network.manifest("cars"))
    assert export.largest_difference < 1e-5


def drives(n_ticks: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Rows of eight devices in turn, each going round a circle of its own."""
    device = np.tile(np.arange(8), n_ticks)
    angle = np.repeat(np.arange(n_ticks), 8) * 0.7 + device
    return np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32), device


@pytest.mark.parametrize(("look_back", "is_stream"), [(1, False), (3, False), (3, True)])
def test_lstm_forecasts_better_than_persistence(look_back: int, is_stream: bool, tmp_path: Path) -> None:
    rows, device = drives(200)
    preset = presets.Lstm(epochs=8, batch=32, look_back=look_back, learning_rate=5e-3, activation="tanh")
    if is_stream:
        x, y, _ = windows(rows, look_back, device)
        network = preset.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(50), ["sin", "cos"], verbose=0)
    else:
        network = preset.fit(rows, ["sin", "cos"], keys=device, verbose=0)
    score = network.score(rows, device)
    assert np.isnan(score).sum() == 8 * look_back
    x, y, _ = windows(network.scale(rows), look_back, device)
    assert np.nanmean(score) < 0.5 * persistence_loss(x, y)
    samples = rows[device == 3]
    export = export_onnx(network.model, tmp_path / "m.onnx", manifest=network.manifest("circles"), samples=samples)
    assert export.names == {"window": "window", "next_rows": "next_rows"}
    assert export.largest_difference < 1e-4


def test_lstm_of_the_reference_has_its_layers() -> None:
    model = presets.Lstm().build(18)
    assert model.input_shape == model.output_shape == (None, 1, 18)
    recurrent = [layer for layer in model.layers if isinstance(layer, keras.layers.LSTM)]
    assert [layer.units for layer in recurrent] == [32, 16, 16, 32]
    assert {layer.activation.__name__ for layer in recurrent} == {"relu"}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.empty((0, 5), np.float32), "no rows to train on"),
        (np.zeros(5, np.float32), r"\[n, n_features\] is needed"),
        (np.full((3, 5), np.nan, np.float32), "training row 0 has nan in column 0"),
        (readings(9)[:, :4], "5 features for rows of 4 numbers"),
        ([[1.0]], "rows are a list, but"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_named(rows: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        presets.Autoencoder(epochs=1).fit(rows, NAMES, verbose=0)


def test_settings_without_training_are_refused() -> None:
    with pytest.raises(ConfigError, match="epochs is 0"):
        presets.AutoencoderReference(epochs=0).fit(readings(10), NAMES)
    with pytest.raises(ConfigError, match="no row comes after a full window"):
        presets.Lstm(epochs=1).fit(readings(10), NAMES, keys=np.arange(10), verbose=0)
