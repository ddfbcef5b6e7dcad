"""Small ONNX models made in code, with their manifests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def manifest(kind: str, features: Sequence[str | dict[str, Any]], **more: Any) -> str:
    """Make a manifest whose features are `features`: a name alone is unscaled."""
    document: dict[str, Any] = {"manifest_version": 1, "kind": kind, "name": f"a-{kind}", "version": "7"}
    document["features"] = [{"name": feature} if isinstance(feature, str) else feature for feature in features]
    return json.dumps(document | more)


def readings(n: int, seed: int = 1) -> NDArray[np.float32]:
    """Make raw rows `[n, 18]` in the range of the cars' sensors."""
    values = np.random.default_rng(seed).normal(20.0, 10.0, (n, 18))
    return values.astype(np.float32)


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "test", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, path)
    return path


def _rows(name: str, *axes: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *axes])


def scaled_copy(path: Path, n_features: int, factor: float) -> Path:
    """Save a model that gives `x * factor` back, `(n, n_features)`."""
    weights = [numpy_helper.from_array(np.array([factor], np.float32), "factor")]
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    return _save(path, nodes, [_rows("x", n_features)], [_rows("y", n_features)], weights)


def persistence(path: Path, n_features: int, look_back: int) -> Path:
    """Save a model that expects the last row of `(n, look_back, n_features)` once more."""
    weights = [numpy_helper.from_array(np.array([look_back - 1], np.int64), "last")]
    nodes = [helper.make_node("Gather", ["x", "last"], ["y"], axis=1)]
    return _save(path, nodes, [_rows("x", look_back, n_features)], [_rows("y", 1, n_features)], weights)


def mean(path: Path, n_features: int) -> Path:
    """Save a model whose score is the mean of a row, `(n, 1)`."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)]
    return _save(path, nodes, [_rows("x", n_features)], [_rows("y", 1)], [])


def softmax(path: Path, n_classes: int) -> Path:
    """Save a classifier of as many features as classes: its probabilities are the softmax of a row."""
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=1)]
    return _save(path, nodes, [_rows("x", n_classes)], [_rows("y", n_classes)], [])
