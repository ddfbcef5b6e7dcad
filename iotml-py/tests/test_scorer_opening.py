"""Models that are opened, and those that are refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import iotml
import models
import numpy as np
import pytest
from models import readings

pytestmark = pytest.mark.usefixtures("onnxruntime")


class TestOpening:
    """Models that are opened, and those that are refused."""

    def test_it_says_what_it_is(self, cars: Path, engine: str) -> None:
        scorer = iotml.Scorer(str(cars), engine=engine)
        assert (scorer.name, scorer.version, scorer.kind, scorer.engine) == ("cars", "1", "reconstruction", engine)
        assert (scorer.n_features, scorer.input_width, scorer.output_width, scorer.look_back) == (18, 18, 18, None)
        assert len(scorer.features) == 18
        assert scorer.threshold == json.loads(cars.with_suffix(".json").read_text())["threshold"]["value"]
        assert repr(scorer) == f"<Scorer cars 1 (reconstruction, 18 features) of {cars} on {engine}>"

    def test_without_a_choice_it_is_onnxruntime(self, cars: Path) -> None:
        assert iotml.Scorer(cars).engine == "onnxruntime"

    def test_a_uri_names_the_file(self, cars: Path) -> None:
        assert iotml.Scorer(cars.as_uri()).name == "cars"
        with pytest.raises(iotml.ConfigError, match='"ftp" is no scheme that models are read from'):
            iotml.Scorer("ftp://models/cars.onnx")

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
