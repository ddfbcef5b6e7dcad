"""`Scorer`: what comes out for what goes in, on both engines."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import iotml
import models
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("onnxruntime")


@pytest.fixture(params=["onnxruntime", "tract"])
def engine(request: pytest.FixtureRequest) -> str:
    """Give each engine in turn."""
    return str(request.param)


@pytest.fixture
def scorer(cars: Path, engine: str) -> iotml.Scorer:
    """Open the demo's network."""
    return iotml.Scorer(cars, engine=engine)


def readings(n: int, seed: int = 1) -> NDArray[np.float32]:
    """Make raw rows in the range of the cars' sensors."""
    values = np.random.default_rng(seed).normal(20.0, 10.0, (n, 18))
    return values.astype(np.float32)


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


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000, 10_000])
def test_every_layout_of_an_array_scores_the_same(scorer: iotml.Scorer, n: int) -> None:
    x = readings(n)
    expected = scorer.score(x)
    wide = np.zeros((n, 40), np.float32)
    wide[:, 3:39:2] = x
    unaligned = np.zeros(n * 18 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(n, 18)
    unaligned[:] = x
    record = np.zeros(n, [("flag", np.int8), ("rows", np.float32, 18)])
    record["rows"] = x
    twice = x.repeat(2, axis=0)[::2]
    for other in (np.asfortranarray(x), wide[:, 3:39:2], x[::-1][::-1], unaligned, record["rows"], twice):
        np.testing.assert_array_equal(scorer.score(other), expected)
    read_only = x.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(scorer.score(read_only), expected)
    np.testing.assert_allclose(scorer.score(x.astype(np.float64)), expected, rtol=1e-3)


def test_one_row_has_a_float(scorer: iotml.Scorer) -> None:
    x = readings(5)
    expected = scorer.score(x)
    for row, score in zip(x, expected, strict=True):
        found = scorer.score(row)
        assert isinstance(found, float)
        assert found == pytest.approx(float(score), rel=1e-5)
        assert scorer.score(row.astype(np.float64)) == pytest.approx(float(score), rel=1e-3)
    assert scorer.score(x[:, ::-1][0][::-1]) == pytest.approx(float(expected[0]), rel=1e-5)


def test_tables_of_every_library_score_as_arrays(scorer: iotml.Scorer) -> None:
    x = readings(300)
    expected = scorer.score(x)
    columns = {name: x[:, at] for at, name in enumerate(scorer.features)}
    shuffled = dict(reversed(columns.items())) | {"other": np.arange(300)}
    table = pa.table(shuffled)
    chunked = pa.concat_tables([table[:100], table[100:101], table[101:]])
    reader = pa.RecordBatchReader.from_batches(chunked.schema, chunked.to_batches())
    for data in (table, chunked, reader, table.to_batches()[0], pd.DataFrame(shuffled), pl.DataFrame(shuffled)):
        # To the last bits only, since an engine may add up differently in batches of another size.
        np.testing.assert_allclose(scorer.score(data), expected, rtol=1e-5)
    mixed = table.set_column(0, "control_unit_firmware", table["control_unit_firmware"].cast(pa.float64()))
    np.testing.assert_allclose(scorer.score(mixed), expected, rtol=1e-5)


def test_no_rows_have_no_scores_but_are_checked(scorer: iotml.Scorer) -> None:
    assert scorer.score(readings(0)).shape == (0,)
    prediction = scorer.predict(readings(0))
    assert prediction.reconstruction is not None
    assert prediction.reconstruction.shape == (0, 18)
    assert scorer.run(np.zeros((0, 18), np.float32)).shape == (0, 18)
    with pytest.raises(iotml.ConfigError, match="18 columns"):
        scorer.score(np.zeros((0, 17), np.float32))


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


class TestNextEvent:
    """A model that scores a row by the rows of its key before it."""

    @pytest.fixture
    def scorer(self, tmp_path: Path, engine: str) -> iotml.Scorer:
        """Expects, with two rows before it, the last one once more."""
        text = models.manifest("next_event", ["a"], threshold={"value": 4.0})
        return iotml.Scorer(models.persistence(tmp_path / "m.onnx", 1, 2), engine=engine, manifest=text, golden="none")

    def test_rows_of_different_keys_do_not_mix(self, scorer: iotml.Scorer) -> None:
        x = np.array([[1.0], [10.0], [2.0], [20.0], [4.0], [23.0], [4.5]], np.float32)
        car = ["one", "two", "one", "two", "one", "two", "one"]
        expected = [np.nan, np.nan, np.nan, np.nan, 4.0, 9.0, 0.25]
        table = pa.table({"car": car, "a": x[:, 0]})
        numbers = [1 if name == "one" else 2 for name in car]
        ways: list[tuple[Any, Any]] = [(x, car), (x, np.array(car)), (x, numbers), (x, np.array(numbers))]
        ways += [(x, [name.encode() for name in car]), (x, pd.Series(car)), (x, pl.Series(car)), (table, car)]
        ways += [(table, "car"), (pl.from_arrow(table), "car"), (table.to_pandas(), "car")]
        ways += [(pa.concat_tables([table[:3], table[3:]]), "car"), (pa.concat_tables([table[:1], table[1:]]), car)]
        for rows, keys in ways:
            # Twice, since nothing is remembered from call to call.
            for _ in range(2):
                np.testing.assert_array_equal(scorer.score(rows, keys=keys), np.array(expected, np.float32))
        prediction = scorer.predict(x, keys=car)
        assert prediction.anomaly is not None
        assert prediction.reconstruction is not None
        assert prediction.anomaly.tolist() == [False] * 4 + [True, True, False]
        np.testing.assert_array_equal(prediction.reconstruction[:, 0], [np.nan] * 4 + [2.0, 20.0, 4.0])

    def test_keys_reach_over_blocks(self, scorer: iotml.Scorer) -> None:
        n = 20_000
        x = np.arange(n, dtype=np.float32)[:, None] // 10
        scores = scorer.score(x, keys=np.arange(n) % 10)
        assert np.isnan(scores[:20]).all()
        assert (scores[20:] == 1.0).all()

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (None, "give keys"),
            (["a"], "1 keys for 3 rows"),
            (["a", None, "a"], "row 1 has no key"),
            ("car", "array without names"),
        ],
    )
    def test_wrong_keys_are_refused(self, scorer: iotml.Scorer, keys: Any, message: str) -> None:
        with pytest.raises(iotml.ConfigError, match=message):
            scorer.score(np.zeros((3, 1), np.float32), keys=keys)

    def test_wrong_columns_of_keys_are_refused(self, scorer: iotml.Scorer) -> None:
        table = pa.table({"car": ["a", None], "a": [1.0, 2.0]})
        with pytest.raises(iotml.ConfigError, match="1 rows have no key in `car`"):
            scorer.score(table, keys="car")
        with pytest.raises(iotml.ConfigError, match=r"`bus`.*\"car\", \"a\""):
            scorer.score(table, keys="bus")

    def test_one_row_alone_is_refused(self, scorer: iotml.Scorer) -> None:
        with pytest.raises(iotml.ConfigError, match="no rows before it"):
            scorer.score(np.zeros(1, np.float32), keys=["a"])


class TestMissing:
    """Values that are not there."""

    def test_rows_at_fault_are_named(self, scorer: iotml.Scorer) -> None:
        x = readings(10_000)
        rows = [2, 5000, 9999]
        x[rows, [0, 5, 17]] = [np.nan, np.inf, -np.inf]
        message = r"3 of 10000 rows .*row 2: .*`coolant_temp` is NaN; row 5000"
        with pytest.raises(iotml.ScoreError, match=message) as raised:
            scorer.score(x)
        assert list(raised.value.rows) == rows
        x[:5, 1] = np.nan
        with pytest.raises(iotml.ScoreError, match="and 4 more"):
            scorer.predict(x)

    def test_nulls_of_a_table_are_missing_too(self, scorer: iotml.Scorer) -> None:
        columns: dict[str, Any] = {name: [1.0, 2.0] for name in scorer.features}
        columns["speed"] = [None, 2.0]
        with pytest.raises(iotml.ScoreError, match=r"row 0: .*`speed` is null"):
            scorer.score(pa.table(columns))

    def test_imputed_values_are_the_manifests(self, tmp_path: Path, engine: str) -> None:
        features: list[Any] = [{"name": "a", "impute": 3.0}, {"name": "b", "scale": {"min": 0.0, "max": 10.0}}]
        text = models.manifest("reconstruction", features)
        path = models.scaled_copy(tmp_path / "m.onnx", 2, 0.0)
        scorer = iotml.Scorer(path, engine=engine, manifest=text, golden="none", missing="impute")
        scores = scorer.score(np.array([[np.nan, 5.0], [1.0, np.nan], [1.0, 10.0]]))
        np.testing.assert_allclose(scores, [4.5, 0.5, 1.0])

    def test_a_constant_feature_is_never_missing(self, tmp_path: Path, engine: str) -> None:
        features: list[Any] = ["a", {"name": "b", "constant": 2.0}]
        text = models.manifest("reconstruction", features)
        path = models.scaled_copy(tmp_path / "m.onnx", 2, 0.0)
        scorer = iotml.Scorer(path, engine=engine, manifest=text, golden="none")
        np.testing.assert_allclose(scorer.score(np.array([[1.0, np.nan], [3.0, 7.0]])), [2.5, 6.5])
        np.testing.assert_allclose(scorer.score(pa.table({"a": [1.0, 3.0]})), [2.5, 6.5])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 17), np.float32), "18 columns, .*but the rows have 17"),
        (np.zeros(17, np.float32), "18 columns, .*but the rows have 17"),
        (np.zeros((2, 18), np.int64), "of int64.*astype"),
        (np.zeros((2, 18), np.float16), "of float16.*astype"),
        (np.zeros((2, 18), ">f4"), "of >f4.*astype"),
        (np.zeros((2, 18), object), "of object.*astype"),
        (np.zeros((2, 1, 18), np.float32), r"3 axes, \[2, 1, 18\]"),
        (np.float32(1.0), "not as numpy.float32"),
        (np.zeros((), np.float32), "0 axes"),
        (np.ma.masked_array(np.zeros((2, 18), np.float32)), "masked"),
        ([[0.0] * 18], "not as list"),
        (None, "not as NoneType"),
        (pa.array([1.0, 2.0]), "no named columns"),
        (pa.table({"speed": [1.0]}), "needs the column `coolant_temp`"),
    ],
)
def test_wrong_rows_are_refused(scorer: iotml.Scorer, x: Any, message: str) -> None:
    for call in (scorer.score, scorer.predict):
        with pytest.raises(iotml.ConfigError, match=message):
            call(x)


def test_a_column_of_text_is_refused(scorer: iotml.Scorer) -> None:
    columns: dict[str, Any] = {name: [1.0] for name in scorer.features}
    with pytest.raises(iotml.ConfigError, match="column `speed` is of type Utf8"):
        scorer.score(pa.table(columns | {"speed": ["fast"]}))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 17), np.float32), r"shape \[2, 17\].*rows of 18"),
        (np.zeros(18, np.float32), r"shape \[18\]"),
        (np.zeros((2, 18), np.int32), "of int32"),
        ([[0.0] * 18], "not builtins.list|not list"),
    ],
)
def test_wrong_scaled_rows_are_refused(scorer: iotml.Scorer, x: Any, message: str) -> None:
    with pytest.raises(iotml.ConfigError, match=message):
        scorer.run(x)


class TestOpening:
    """Models that are opened, and those that are refused."""

    def test_it_says_what_it_is(self, cars: Path, engine: str) -> None:
        scorer = iotml.Scorer(str(cars), engine=engine)
        assert (scorer.name, scorer.version, scorer.kind, scorer.engine) == ("cars", "1", "reconstruction", engine)
        assert (scorer.n_features, scorer.input_width, scorer.output_width, scorer.look_back) == (18, 18, 18, None)
        assert len(scorer.features) == 18
        assert scorer.threshold == pytest.approx(0.007944, abs=1e-6)
        assert repr(scorer) == f"<Scorer cars 1 (reconstruction, 18 features) of {cars} on {engine}>"

    def test_without_a_choice_it_is_onnxruntime(self, cars: Path) -> None:
        assert iotml.Scorer(cars).engine == "onnxruntime"

    def test_a_uri_names_the_file(self, cars: Path) -> None:
        assert iotml.Scorer(cars.as_uri()).name == "cars"
        with pytest.raises(iotml.ConfigError, match="s3 is not a scheme"):
            iotml.Scorer("s3://models/cars.onnx")

    def test_a_manifest_given_wins(self, cars: Path) -> None:
        changed = json.loads(iotml.Scorer(cars).manifest) | {"name": "renamed", "threshold": {"value": 5.0}}
        scorer = iotml.Scorer(cars, manifest=json.dumps(changed))
        assert (scorer.name, scorer.threshold) == ("renamed", 5.0)

    def test_it_travels_by_pickle(self, cars: Path, engine: str) -> None:
        scorer = iotml.Scorer(cars, engine=engine, missing="impute")
        again = pickle.loads(pickle.dumps(scorer))
        x = readings(10)
        x[0, 0] = np.nan
        np.testing.assert_array_equal(again.score(x), scorer.score(x))
        assert repr(again) == repr(scorer)

    def test_a_file_that_is_not_there(self) -> None:
        with pytest.raises(iotml.ModelError, match=r"cannot read /nowhere\.onnx") as raised:
            iotml.Scorer("/nowhere.onnx")
        assert isinstance(raised.value.__cause__, FileNotFoundError)

    def test_a_file_that_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_text("not a model")
        with pytest.raises(iotml.ModelError, match="not ONNX"):
            iotml.Scorer(tmp_path / "m.onnx")

    def test_a_model_without_a_manifest(self, tmp_path: Path) -> None:
        with pytest.raises(iotml.ModelError, match="no manifest"):
            iotml.Scorer(models.mean(tmp_path / "m.onnx", 2))

    def test_a_model_of_another_width_than_its_manifest(self, tmp_path: Path) -> None:
        path = models.scaled_copy(tmp_path / "m.onnx", 3, 1.0)
        with pytest.raises(iotml.ModelError, match=r"\[n, 3\].*\[n, 2\]|input.*3.*2"):
            iotml.Scorer(path, manifest=models.manifest("reconstruction", ["a", "b"]), golden="none")

    def test_golden_rows_are_required_and_must_come_out(self, tmp_path: Path, engine: str) -> None:
        path = models.scaled_copy(tmp_path / "m.onnx", 2, 0.5)
        with pytest.raises(iotml.ModelError, match="no golden rows"):
            iotml.Scorer(path, engine=engine, manifest=models.manifest("reconstruction", ["a", "b"]))
        golden = {"input": [[2.0, 2.0]], "score": [1.5]}
        with pytest.raises(iotml.ModelError, match="golden row 0 is 1"):
            iotml.Scorer(path, engine=engine, manifest=models.manifest("reconstruction", ["a", "b"], golden=golden))

    @pytest.mark.parametrize(
        ("keyword", "value"), [("engine", "tpu"), ("golden", "maybe"), ("missing", "ignore"), ("manifest", "{")]
    )
    def test_a_wrong_word_is_refused(self, cars: Path, keyword: str, value: str) -> None:
        arguments: dict[str, Any] = {keyword: value}
        with pytest.raises((iotml.ConfigError, iotml.ModelError), match=keyword):
            iotml.Scorer(cars, **arguments)


class TestBytes:
    """Models in memory, for those who train them."""

    def test_an_embedded_manifest_is_found(self, tmp_path: Path, engine: str) -> None:
        path = models.scaled_copy(tmp_path / "m.onnx", 2, 0.5)
        golden = {"input": [[2.0, 2.0]], "score": [1.0]}
        trained = {"rows": 12, "range": {"0": [0, 12]}}
        text = models.manifest("reconstruction", ["a", "b"], golden=golden, trained=trained)
        found = iotml.check_model(path.read_bytes(), text, engine=engine)
        assert found == {
            "engine": engine,
            "kind": "reconstruction",
            "input": "x",
            "output": "y",
            "input_width": 2,
            "output_width": 2,
            "look_back": None,
            "golden_rows": 1,
        }
        path.write_bytes(iotml.embed_manifest(path.read_bytes(), text))
        scorer = iotml.Scorer(path, engine=engine)
        assert scorer.score(np.full(2, 4.0, np.float32)) == pytest.approx(4.0)
        assert json.loads(scorer.manifest)["trained"] == trained

    def test_what_is_wrong_is_said(self, tmp_path: Path) -> None:
        onnx = models.scaled_copy(tmp_path / "m.onnx", 2, 0.5).read_bytes()
        wrong = models.manifest("reconstruction", ["a", "b"], golden={"input": [[2.0, 2.0]], "score": [9.0]})
        with pytest.raises(iotml.ModelError, match="golden row 0"):
            iotml.check_model(onnx, wrong)
        with pytest.raises(iotml.ModelError, match="comes twice"):
            iotml.embed_manifest(onnx, models.manifest("reconstruction", ["a", "a"]))
        with pytest.raises(iotml.ModelError, match="not ONNX"):
            iotml.embed_manifest(b"\x0b\xff\xff", models.manifest("reconstruction", ["a", "b"]))


def test_a_large_array_is_neither_copied_nor_scored_at_once(cars: Path) -> None:
    script = f"""
import resource
import numpy as np
import iotml
scorer = iotml.Scorer({str(cars)!r})
x = np.full((2_000_000, 18), 20.0, np.float32)
scorer.score(x[:10_000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scores = scorer.score(x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(scores))
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    grown, n = map(int, output.split())
    assert n == 2_000_000
    # The scores take 8 MB, the array 144.
    assert grown < 24 * 1024
