"""`iotml export`, as a shell calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import manifest, rows
from iotml import Scorer
from iotml.cli import main
from iotml.manifest import Manifest
from iotml.train import describe

keras = pytest.importorskip("keras")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a model, its manifest, and sample rows."""
    inputs = keras.Input((4,), name="features")
    keras.Model(inputs, keras.layers.Dense(4, name="back")(inputs)).save(tmp_path / "model.keras")
    (tmp_path / "model.json").write_text(manifest().to_json())
    lines = ["extra,coolant,speed,throttle,voltage"]
    lines += [f"x,{row[3]},{row[0]},{row[2]},{row[1]}" for row in rows(20)]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    np.save(tmp_path / "rows.npy", rows(20))
    return tmp_path


def export(folder: Path, model: str, *options: str) -> int:
    out = ["--manifest", str(folder / "model.json"), "--out", str(folder / "out" / "cars.onnx")]
    return main(["export", str(folder / model), *out, *options])


@pytest.mark.parametrize("samples", ["rows.csv", "rows.npy"])
def test_a_keras_file_becomes_a_model_that_scores(files: Path, samples: str, capsys: Any) -> None:
    assert export(files, "model.keras", "--samples", str(files / samples)) == 0
    assert "20 rows differ by at most" in capsys.readouterr().out
    scorer = Scorer(str(files / "out" / "cars.onnx"))
    assert scorer.score(rows(20)).shape == (20,)
    assert (files / "out" / "cars.json").exists()


def test_training_rows_are_described_in_the_manifest(files: Path) -> None:
    assert export(files, "model.keras", "--training", str(files / "rows.csv")) == 0
    spread = Manifest.read(files / "out" / "cars.json").distribution
    assert spread is not None
    assert spread.rows == 20
    assert spread.score is not None
    described = describe(manifest().features, rows(20))
    assert [feature.name for feature in spread.features] == [feature.name for feature in described.features]
    np.testing.assert_allclose(spread.features[0].edges, described.features[0].edges, rtol=1e-6)


def test_a_pickle_has_to_be_trusted(files: Path, capsys: Any) -> None:
    joblib = pytest.importorskip("joblib")
    linear = pytest.importorskip("sklearn.linear_model").LinearRegression()
    scaled = manifest().scale(rows())
    joblib.dump(linear.fit(scaled, scaled), files / "model.joblib")
    assert export(files, "model.joblib") == 1
    assert "runs whatever code is in it" in capsys.readouterr().err
    assert export(files, "model.joblib", "--trust-pickle") == 0


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("nothing.keras", (), "there is no model at"),
        ("rows.csv", (), "load others and pass the model"),
        ("model.keras", ("--samples", "nowhere.npy"), "cannot read rows from nowhere.npy"),
        ("model.keras", ("--manifest", "nowhere.json"), "cannot read the manifest nowhere.json"),
    ],
)
def test_one_line_says_what_is_wrong(
    files: Path, model: str, options: tuple[str, ...], reason: str, capsys: Any
) -> None:
    assert export(files, model, *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("iotml export: ")
    assert reason in error
    assert not (files / "out").exists()


def test_wrong_rows_are_named_with_their_line(files: Path, capsys: Any) -> None:
    (files / "rows.csv").write_text("speed,voltage,throttle,coolant\n1,2,3,4\n1,2,fast,4\n")
    assert export(files, "model.keras", "--samples", str(files / "rows.csv")) == 1
    assert "rows.csv, line 3: could not convert string to float: 'fast'" in capsys.readouterr().err
    (files / "rows.csv").write_text("speed,voltage\n1,2\n")
    assert export(files, "model.keras", "--samples", str(files / "rows.csv")) == 1
    assert "has no column throttle, coolant; it has speed, voltage" in capsys.readouterr().err
