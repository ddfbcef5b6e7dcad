"""PyTorch modules, from the framework to the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import manifest, rows
from iotml import ExportError, Scorer
from iotml.train import export_onnx

torch = pytest.importorskip("torch")


def perceptron() -> Any:
    nn = torch.nn
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))


class Forecast(torch.nn.Module):  # type: ignore[misc, name-defined]
    """The next row from a window."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = torch.nn.LSTM(4, 8, batch_first=True)
        self.dense = torch.nn.Linear(8, 4)

    def forward(self, window: Any) -> Any:
        return self.dense(self.recurrent(window)[0][:, -1])


def test_perceptron_in_evaluation_mode(tmp_path: Path) -> None:
    model = perceptron().train()
    export = export_onnx(model, tmp_path / "model.onnx", manifest=manifest(), samples=rows())
    assert model.training
    scaled = manifest().scale(rows())
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(scaled)).numpy()
    np.testing.assert_allclose(Scorer(str(export.path)).run(scaled), expected, atol=1e-5)
    assert export.names == {"input": "input", "forward()": "reconstruction"}
    assert export.manifest.trained["framework"] == f"torch {torch.__version__}"


def test_recurrent_module_with_a_window(tmp_path: Path) -> None:
    export = export_onnx(
        Forecast(), tmp_path / "model.onnx", manifest=manifest("next_event"), samples=rows(), look_back=3
    )
    assert export.names["window"] == "window"
    assert export.largest_difference < 1e-4


def test_module_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"fails on rows of shape \[\d+, 4\]"):
        export_onnx(torch.nn.Linear(30, 30), tmp_path / "model.onnx", manifest=manifest())
    assert list(tmp_path.iterdir()) == []


def test_module_that_gives_several_tensors_is_refused(tmp_path: Path) -> None:
    class Pair(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, rows: Any) -> Any:
            return rows, rows

    with pytest.raises(ExportError, match="gives a tuple, but one tensor is needed"):
        export_onnx(Pair(), tmp_path / "model.onnx", manifest=manifest())
