"""The example with PyTorch, against the real Kafka, registry and broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from cars_topic import run
from iotml import Scorer

pytest.importorskip("torch")


def test_torch_module_from_the_log(cars_log: list[str], tmp_path: Path) -> None:
    run("train_torch.py", *cars_log, "--epochs", 3, "--out", tmp_path / "cars.onnx")
    assert Scorer(str(tmp_path / "cars.onnx")).n_features == 18
