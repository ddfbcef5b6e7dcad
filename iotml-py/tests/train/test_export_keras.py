"""Keras models of every shape, from the framework to the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import iotml
import numpy as np
import pytest
from exporting import FEATURES, manifest, rows
from iotml import ExportError, Scorer
from iotml.manifest import Feature, Manifest, Output
from iotml.train import export_onnx

pytest.importorskip("tensorflow")
import keras
import tensorflow as tf

layers = keras.layers


def autoencoder(**dense: Any) -> keras.Model:
    inputs = keras.Input((4,), name="features")
    hidden = layers.Dense(6, activation="tanh", **dense)(inputs)
    return keras.Model(inputs, layers.Dense(4, name="reconstruction")(hidden))


class Subclassed(keras.Model):  # type: ignore[misc]
    """Has no inputs and outputs of its own, and behaves otherwise in training."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.inner = layers.Dense(6, activity_regularizer="l2")
        self.normal = layers.BatchNormalization()
        self.outer = layers.Dense(4)

    def call(self, readings: Any, training: bool = False) -> Any:
        return self.outer(self.normal(self.inner(readings), training=training))


def assert_same(path: Path, model: keras.Model, raw: Any) -> None:
    """The engine gives what Keras gives, from raw rows on."""
    scorer = Scorer(str(path))
    scaled = manifest().scale(raw)
    expected = np.asarray(model(scaled, training=False))
    np.testing.assert_allclose(scorer.run(scaled), expected, atol=1e-5)
    np.testing.assert_allclose(scorer.score(raw), np.mean((scaled - expected) ** 2, axis=1), atol=1e-5)


@pytest.mark.parametrize("name", ["seed-autoencoder-30", "seed-autoencoder-30-100-epochs"])
def test_reference_models_of_keras_2_equal_the_golden_files(name: str, seed_data: Path, tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.models.load_model(seed_data / f"{name}.h5", compile=False)
    golden = np.load(seed_data / f"{name}.golden.npz")
    unscaled = Manifest("reconstruction", name, [Feature(f"f{at}") for at in range(30)])
    export = export_onnx(model, tmp_path / "model.onnx", manifest=unscaled, samples=golden["x"])
    np.testing.assert_allclose(Scorer(str(export.path)).run(golden["x"]), golden["y"], atol=1e-4)
    assert export.names == {model.input_names[0]: model.input_names[0], model.output_names[0]: model.output_names[0]}
    by_path = export_onnx(seed_data / f"{name}.h5", tmp_path / "by_path.onnx", manifest=unscaled)
    np.testing.assert_allclose(Scorer(str(by_path.path)).run(golden["x"]), golden["y"], atol=1e-4)


def test_activity_regularizer_is_left_out_and_put_back(tmp_path: Path) -> None:
    model = autoencoder(activity_regularizer=keras.regularizers.L1(1e-7))
    export = export_onnx(model, tmp_path / "model.onnx", manifest=manifest(), samples=rows())
    assert_same(export.path, model, rows())
    assert model.layers[1].activity_regularizer is not None
    model.compile("adam", "mse")
    model.fit(rows(), rows(), verbose=0)


def test_names_of_the_model_are_kept(tmp_path: Path) -> None:
    export = export_onnx(autoencoder(), tmp_path / "model.onnx", manifest=manifest())
    assert export.names == {"features": "features", "reconstruction": "reconstruction"}
    document = json.loads(Scorer(str(export.path)).manifest)
    assert document["inputs"] == [{"name": "features"}]
    assert document["outputs"] == [{"name": "reconstruction", "role": "reconstruction"}]
    assert "names" not in document["trained"]


def test_names_of_the_manifest_win_and_the_mapping_is_stated(tmp_path: Path) -> None:
    named = manifest(inputs=("x",), outputs=(Output("y", "reconstruction"),))
    export = export_onnx(autoencoder(), tmp_path / "model.onnx", manifest=named)
    assert export.names == {"features": "x", "reconstruction": "y"}
    assert json.loads(export.manifest_path.read_text())["trained"]["names"] == export.names


@pytest.mark.parametrize("inputs", [[], [keras.Input((4,))]], ids=["without input", "with input"])
def test_sequential_that_was_never_called(inputs: list[Any], tmp_path: Path) -> None:
    model = keras.Sequential([*inputs, layers.Dense(6, activation="relu"), layers.Dense(4, name="back")])
    export = export_onnx(model, tmp_path / "model.onnx", manifest=manifest(), samples=rows())
    assert "back" in export.names
    assert_same(export.path, model, rows())


def test_subclassed_model_in_inference_mode(tmp_path: Path) -> None:
    model = Subclassed()
    export = export_onnx(model, tmp_path / "model.onnx", manifest=manifest(), samples=rows())
    assert export.names == {"readings": "readings", "subclassed": "subclassed"}
    assert_same(export.path, model, rows())


@pytest.mark.parametrize("form", ["keras", "h5", "saved_model"])
def test_saved_files(form: str, tmp_path: Path) -> None:
    model = autoencoder(activity_regularizer="l1")
    saved = tmp_path / ("saved" if form == "saved_model" else f"saved.{form}")
    if form == "saved_model":
        model.export(saved, verbose=False)
    else:
        model.save(saved)
    export = export_onnx(saved, tmp_path / "model.onnx", manifest=manifest(), samples=rows())
    assert_same(export.path, model, rows())
    output = "output_0" if form == "saved_model" else "reconstruction"
    assert export.names == {"features": "features", output: output}


def test_saved_model_with_constants(tmp_path: Path) -> None:
    class Doubling(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.constant(2.0 * np.eye(4, dtype=np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="rows")])  # type: ignore[untyped-decorator]
        def __call__(self, rows: Any) -> Any:
            return {"doubled": rows @ self.factor}

    module = Doubling()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.__call__})
    export = export_onnx(tmp_path / "saved", tmp_path / "model.onnx", manifest=manifest())
    assert Scorer(str(export.path)).run(np.ones((2, 4), np.float32)).tolist() == [[2.0] * 4] * 2


@pytest.mark.parametrize("look_back", [1, 3])
@pytest.mark.parametrize("is_sequence", [True, False])
def test_next_event_models_score_rows_of_one_key(look_back: int, is_sequence: bool, tmp_path: Path) -> None:
    inputs = keras.Input((look_back, 4), name="window")
    hidden = layers.LSTM(8, return_sequences=is_sequence)(inputs)
    outputs = layers.TimeDistributed(layers.Dense(4))(hidden) if is_sequence else layers.Dense(4)(hidden)
    model = keras.Model(inputs, outputs)
    export = export_onnx(model, tmp_path / "model.onnx", manifest=manifest("next_event"), samples=rows(50))
    golden = export.manifest.golden
    assert golden is not None
    assert golden.score is not None
    assert [score is None for score in golden.score] == [at < look_back for at in range(look_back + 16)]
    assert export.n_compared == 50 - look_back


def test_open_window_needs_its_length(tmp_path: Path) -> None:
    inputs = keras.Input((None, 4), name="window")
    model = keras.Model(inputs, layers.Dense(4)(layers.LSTM(8)(inputs)))
    with pytest.raises(ExportError, match="look_back=10"):
        export_onnx(model, tmp_path / "model.onnx", manifest=manifest("next_event"))
    export = export_onnx(model, tmp_path / "model.onnx", manifest=manifest("next_event"), look_back=2)
    assert export.largest_difference < 1e-5


def test_one_of_several_outputs(tmp_path: Path) -> None:
    inputs = keras.Input((4,), name="features")
    outputs = {"back": layers.Dense(4)(inputs), "code": layers.Dense(2)(inputs)}
    model = keras.Model(inputs, outputs)
    with pytest.raises(ExportError, match=r"several outputs \(back, code\).*outputs="):
        export_onnx(model, tmp_path / "model.onnx", manifest=manifest())
    named = manifest(outputs=(Output("back", "reconstruction"),))
    assert export_onnx(model, tmp_path / "model.onnx", manifest=named).names["back"] == "back"


def test_loops_are_refused_with_what_to_do(tmp_path: Path) -> None:
    inputs = keras.Input((3, 4), name="window")
    looping = keras.Model(inputs, layers.Dense(4)(layers.GRU(8)(inputs)))
    with pytest.raises(ExportError, match="unroll=True"):
        export_onnx(looping, tmp_path / "model.onnx", manifest=manifest("next_event"))
    assert list(tmp_path.iterdir()) == []
    unrolled = keras.Model(inputs, layers.Dense(4)(layers.GRU(8, unroll=True)(inputs)))
    export_onnx(unrolled, tmp_path / "model.onnx", manifest=manifest("next_event"))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: keras.Sequential([keras.Input((30,)), layers.Dense(30)]), "rows of 30 numbers, but .* 4 features"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3)]), r"gives \[n, 3\], but .* gives \[n, 4\]"),
        (lambda: keras.Sequential([keras.Input((2, 4)), layers.Dense(4)]), r"reads \[n, 2, 4\].* \[n, 4\]"),
        (
            lambda: keras.Model([a := keras.Input((4,)), b := keras.Input((4,))], layers.Add()([a, b])),
            "has 2 inputs .*exactly one",
        ),
    ],
    ids=["wide input", "narrow output", "window", "two inputs"],
)
def test_models_of_another_shape_are_refused(model: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=reason):
        export_onnx(model(), tmp_path / "model.onnx", manifest=manifest())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    model = autoencoder()
    model.layers[-1].bias.assign([np.nan] * 4)
    with pytest.raises(ExportError, match="NaN or infinity for sample row 0"):
        export_onnx(model, tmp_path / "model.onnx", manifest=manifest())


def test_the_manifest_tells_how_the_model_came_about(tmp_path: Path) -> None:
    calibration = iotml.train.calibrate(np.linspace(0, 1, 1000), method="quantile", quantile=0.99)
    export = export_onnx(
        autoencoder(),
        tmp_path / "model.onnx",
        manifest=manifest(trained={"epochs": 3, "data": "rows of a test"}),
        samples=rows(),
        calibration=calibration,
    )
    document = json.loads(export.manifest_path.read_text())
    assert document == json.loads(Scorer(str(export.path)).manifest)
    assert document["threshold"] == {"method": "quantile", "quantile": 0.99, "value": calibration.value}
    assert [feature["name"] for feature in document["features"]] == [feature.name for feature in FEATURES]
    assert len(document["golden"]["input"]) == len(document["golden"]["score"]) == 16
    trained = document["trained"]
    assert trained["framework"] == f"tensorflow {tf.__version__}"
    assert {"python", "numpy", "onnx", "tensorflow", "keras", "tf2onnx"} <= set(trained["versions"])
    assert (trained["epochs"], trained["data"]) == (3, "rows of a test")
    assert trained["calibration"]["method"] == "quantile"
