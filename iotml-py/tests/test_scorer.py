"""`Scorer`: what comes out for what goes in, on both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import iotml
import models
import numpy as np
import polars as pl
import pytest
from models import readings
from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("onnxruntime")


def scaled(scorer: iotml.Scorer, x: NDArray[Any]) -> NDArray[np.float32]:
    """Scale rows as the manifest says, by other means."""
    scales = [feature["scale"] for feature in json.loads(scorer.manifest)["features"]]
    mean = np.array([scale["mean"] for scale in scales])
    std = np.array([scale["std"] for scale in scales])
    return np.asarray((x - mean) / std, np.float32)


def test_a_score_is_the_mean_squared_error_in_scaled_units(scorer: iotml.Scorer) -> None:
    x = readings(1000)
    rows = scaled(scorer, x)
    expected = np.square(rows - scorer.run(rows)).mean(axis=1)
    found = scorer.score(x)
    assert found.dtype == np.float32
    assert found.shape == (1000,)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_reference_model_scores_as_tensorflow_does(seed_data: Path, engine: str) -> None:
    golden = np.load(seed_data / "autoencoder-18.golden.npz")
    text = models.manifest("reconstruction", [f"x{i}" for i in range(18)])
    scorer = iotml.Scorer(seed_data / "autoencoder-18.onnx", engine=engine, manifest=text, golden="none")
    np.testing.assert_allclose(scorer.run(golden["x"]), golden["y"], atol=1e-5)
    np.testing.assert_allclose(scorer.score(golden["x"]), golden["mse"], rtol=1e-4, atol=1e-6)


def test_the_reference_lstm_expects_as_tensorflow_does(seed_data: Path) -> None:
    golden = np.load(seed_data / "lstm-18.golden.npz")
    text = models.manifest("next_event", [f"x{i}" for i in range(18)])
    scorer = iotml.Scorer(seed_data / "lstm-18.onnx", manifest=text, golden="none")
    assert (scorer.look_back, scorer.input_width) == (1, 18)
    expected = golden["y"].reshape(len(golden["x"]), -1)
    np.testing.assert_allclose(scorer.run(golden["x"]), expected, atol=1e-4)
    rows = golden["x"].reshape(-1, 18)
    scores = scorer.score(rows, keys=np.zeros(len(rows), np.int64))
    assert np.isnan(scores[0])
    np.testing.assert_allclose(scores[1:], np.square(rows[1:] - expected[:-1]).mean(axis=1), rtol=1e-3, atol=1e-5)


def test_a_prediction_has_what_the_score_comes_from(scorer: iotml.Scorer) -> None:
    x = readings(500)
    prediction = scorer.predict(x)
    assert len(prediction) == 500
    np.testing.assert_array_equal(prediction.score, scorer.score(x))
    rows = scaled(scorer, x)
    assert prediction.reconstruction is not None
    assert prediction.errors is not None
    assert prediction.anomaly is not None
    assert scorer.threshold is not None
    np.testing.assert_allclose(prediction.reconstruction, scorer.run(rows), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(prediction.errors.mean(axis=1), prediction.score, rtol=1e-5)
    np.testing.assert_array_equal(prediction.anomaly, prediction.score >= np.float32(scorer.threshold))
    assert (prediction.probabilities, prediction.labels) == (None, None)
    assert repr(prediction) == f"<Prediction of 500 rows, {prediction.anomaly.sum()} of them anomalies>"
    assert len(scorer.predict(x[0])) == 1


def test_faults_of_the_sample_are_found(cars: Path, engine: str) -> None:
    sample = pl.read_csv(cars.parent / "sample.csv").with_columns(pl.col("failure_occurred").cast(pl.Boolean))
    prediction = iotml.Scorer(cars, engine=engine).predict(sample)
    assert prediction.anomaly is not None
    faulty = sample["failure_occurred"].to_numpy()
    assert prediction.anomaly[faulty].mean() > 0.95
    assert prediction.anomaly[~faulty].mean() < 0.2


def test_a_model_of_kind_score_gives_its_own(tmp_path: Path, engine: str) -> None:
    text = models.manifest("score", ["a", "b"], threshold={"value": 2.0})
    scorer = iotml.Scorer(models.mean(tmp_path / "m.onnx", 2), engine=engine, manifest=text, golden="none")
    prediction = scorer.predict(np.array([[1.0, 2.0], [2.0, 4.0]]))
    np.testing.assert_allclose(prediction.score, [1.5, 3.0])
    assert prediction.anomaly is not None
    assert prediction.anomaly.tolist() == [False, True]
    assert (prediction.reconstruction, prediction.errors) == (None, None)


def test_a_classifier_has_probabilities_and_labels(tmp_path: Path, engine: str) -> None:
    text = models.manifest("classifier", ["a", "b", "c"], classes=["good", "worn", "broken"], positive="worn")
    scorer = iotml.Scorer(models.softmax(tmp_path / "m.onnx", 3), engine=engine, manifest=text, golden="none")
    x = np.array([[0.0, 1.0, 3.0], [5.0, 1.0, 0.0]], np.float32)
    prediction = scorer.predict(x)
    expected = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    assert prediction.probabilities is not None
    np.testing.assert_allclose(prediction.probabilities, expected, rtol=1e-5)
    np.testing.assert_allclose(prediction.score, expected[:, 1], rtol=1e-5)
    assert prediction.labels == ["broken", "good"]
    assert (prediction.anomaly, scorer.threshold) == (None, None)
    assert repr(prediction) == "<Prediction of 2 rows>"
