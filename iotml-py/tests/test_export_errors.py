"""What an export refuses before any framework is asked, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import manifest, rows
from iotml import ExportError, IotmlError, MissingPackageError, ModelError, Scorer, calibrate
from iotml.manifest import Feature, Manifest
from iotml.train import export_onnx
from iotml.train.export import frameworks
from iotml.train.export.original import FloatArray, Wanted
from iotml.train.optional import needed

onnx = pytest.importorskip("onnx")


class Doubling:
    """Stands in for a framework: gives twice its input, and exports a graph that gives `factor` times its input."""

    framework, packages, axes = "none 1.0", (), (4,)
    names: Mapping[str, str] = {"rows": "rows", "doubled": "doubled"}

    def __init__(self, factor: float = 2.0, batch: int | None = None) -> None:
        self.factor, self.batch = factor, batch

    def predict(self, x: FloatArray) -> FloatArray:
        return x * 2

    def convert(self, _opset: int | None) -> Any:
        shape = [self.batch or "batch", 4]
        values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in self.names]
        factor = onnx.numpy_helper.from_array(np.float32(self.factor), "factor")
        node = onnx.helper.make_node("Mul", ["rows", "factor"], ["doubled"])
        graph = onnx.helper.make_graph([node], "doubling", values[:1], values[1:], [factor])
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `export_onnx` take a `Doubling` for a framework's model."""

    def open_model(model: Any, wanted: Wanted) -> Any:
        return model if isinstance(model, Doubling) else frameworks.open_model(model, wanted)

    monkeypatch.setattr("iotml.train.export.open_model", open_model)


@pytest.mark.usefixtures("doubling")
def test_a_model_that_computes_something_else_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(Doubling(), path, manifest=manifest(), samples=rows())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert sorted(before) == ["model.json", "model.onnx"]
    with pytest.raises(ExportError) as refused:
        export_onnx(Doubling(factor=2.01), path, manifest=manifest(), samples=rows())
    assert isinstance(refused.value.__cause__, ModelError)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("doubling")
def test_the_manifest_says_how_the_training_rows_were_spread(tmp_path: Path) -> None:
    path, raw = tmp_path / "model.onnx", rows(3_000)
    written = export_onnx(Doubling(), path, manifest=manifest(), training=raw).manifest.distribution
    assert written is not None
    assert [feature.name for feature in written.features] == ["speed", "voltage", "throttle", "coolant"]
    scaled = manifest().scale(raw)
    assert written.score is not None
    # Twice the row in its place: its error is the row itself.
    np.testing.assert_allclose(written.score.edges[0], (scaled**2).mean(axis=1).min(), rtol=1e-5)
    found = calibrate((scaled**2).mean(axis=1), quantile=0.9)
    with_threshold = export_onnx(Doubling(), path, manifest=manifest(), training=raw, calibration=found)
    read = json.loads(Scorer(str(path)).manifest)["distribution"]
    assert with_threshold.manifest.distribution is not None
    assert read == with_threshold.manifest.distribution.to_dict()
    assert read["rows"] == 3_000
    assert read["score"]["anomalies"] == pytest.approx(0.1, abs=1e-3)
    assert export_onnx(Doubling(), path, manifest=manifest()).manifest.distribution is None


@pytest.mark.usefixtures("doubling")
def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'rows' has 1 rows fixed"):
        export_onnx(Doubling(batch=1), tmp_path / "model.onnx", manifest=manifest())


@pytest.mark.usefixtures("doubling")
@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (rows()[:, :3], r"shape \[200, 3\], but raw rows \[n, 4\]"),
        (rows()[:0], r"shape \[0, 4\]"),
        (np.where(np.arange(4) == 1, np.nan, rows()), "sample row 0 has nan in voltage"),
        (np.full((1, 4), 1e300), "too large for a float32 once scaled"),
        (np.full((1, 4), "fast"), "numbers are needed"),
    ],
    ids=["narrow", "empty", "nan", "huge", "text"],
)
def test_wrong_samples_are_named(samples: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=reason):
        export_onnx(Doubling(), tmp_path / "model.onnx", manifest=manifest(), samples=samples)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"kind": "reconstruction", "name": "cars", "features": []}, "features: is empty"),
        ({"kind": "guess", "name": "cars", "features": [{"name": "speed"}]}, "guess"),
        (Manifest("reconstruction", "cars", [Feature("speed"), Feature("speed")]), "speed comes twice"),
        ("nowhere.json", "cannot read the manifest nowhere.json"),
    ],
    ids=["no features", "kind", "twice", "no file"],
)
def test_wrong_manifests_are_refused_first(given: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        export_onnx(object(), tmp_path / "model.onnx", manifest=given)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot export a builtins\.object: pass a Keras model"):
        export_onnx(object(), tmp_path / "model.onnx", manifest=manifest())
    with pytest.raises(ExportError, match="there is no model at"):
        export_onnx(tmp_path / "nothing.keras", tmp_path / "model.onnx", manifest=manifest())
    with pytest.raises(ExportError, match=r"does not end in \.onnx"):
        export_onnx(object(), tmp_path / "model.pb", manifest=manifest())


def test_a_missing_package_names_what_to_install() -> None:
    with pytest.raises(MissingPackageError, match=r"pip install 'iotml\[tensorflow\]'") as missing:
        needed("no_such_package.deep", purpose="the export of a Keras model", install="iotml[tensorflow]")
    assert isinstance(missing.value, IotmlError)
    assert isinstance(missing.value, ImportError)
    assert "no_such_package, which is not installed" in str(missing.value)


def test_nothing_but_numpy_is_imported_with_iotml() -> None:
    heavy = ["keras", "matplotlib", "onnx", "pandas", "pyarrow", "sklearn", "tensorflow", "torch"]
    code = f"import sys, iotml.train; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
