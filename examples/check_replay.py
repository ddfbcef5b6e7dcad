"""Checks what csv_replay wrote against a NumPy forward pass with the weights read from the ONNX file.

    python examples/check_replay.py --csv DATA.csv --normalization normalization.json --model autoencoder-18.onnx \
        --golden autoencoder-18.golden.npz --scores scores.csv

Exits 1 if a score is missing or differs by more than 1e-5.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

TOLERANCE = 1e-5


def forward(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Runs the graph of a dense network, node by node, in float32."""
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    values[next(item.name for item in model.graph.input if item.name not in values)] = x
    operators = {
        "MatMul": lambda a, b: a @ b,
        "Add": lambda a, b: a + b,
        "Gemm": None,
        "Tanh": np.tanh,
        "Relu": lambda a: np.maximum(a, 0),
        "Identity": lambda a: a,
    }
    for node in model.graph.node:
        inputs = [values[name] for name in node.input]
        if node.op_type == "Gemm":
            flags = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            a = inputs[0].T if flags.get("transA") else inputs[0]
            b = inputs[1].T if flags.get("transB") else inputs[1]
            result = a @ b + (inputs[2] if len(inputs) > 2 else 0)
        elif operators.get(node.op_type):
            result = operators[node.op_type](*inputs)
        else:
            raise SystemExit(f"the check knows no operator {node.op_type}")
        values[node.output[0]] = result
    return values[model.graph.output[0].name]


def scaled(rows: list[dict[str, str]], normalization: dict) -> np.ndarray:
    """Rows as the model sees them, float32 [n, n_features]."""
    x = np.zeros((len(rows), len(normalization["features"])), np.float32)
    for column, name in enumerate(normalization["features"]):
        bounds = normalization["ranges"][name]
        if bounds is not None:
            raw = np.array([row[name] for row in rows], np.float32)
            x[:, column] = (raw - bounds[0]) / (bounds[1] - bounds[0]) * 2 - 1
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--csv", "--normalization", "--model", "--scores"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--golden", type=Path)
    args = parser.parse_args()

    with args.csv.open() as file:
        rows = list(csv.DictReader(file))
    x = scaled(rows, json.loads(args.normalization.read_text()))
    expected = np.square(x - forward(onnx.load(args.model), x)).mean(axis=1)

    with args.scores.open() as file:
        scores = {(row["car"], int(row["seq"])): float(row["score"]) for row in csv.DictReader(file)}
    n_of_car: dict[str, int] = defaultdict(int)
    got = np.full(len(rows), np.nan)
    for number, row in enumerate(rows):
        seq = n_of_car[row["car"]]
        n_of_car[row["car"]] += 1
        got[number] = scores.pop((row["car"], seq), np.nan)
    n_missing = int(np.isnan(got).sum())
    worst = float(np.nanmax(np.abs(got - expected)))
    print(f"{len(rows) - n_missing} of {len(rows)} rows have a score, the largest difference to NumPy is {worst:.2e}")
    ok = n_missing == 0 and worst <= TOLERANCE and not scores
    if args.golden:
        golden = np.load(args.golden)["mse"]
        worst = float(np.abs(got[: len(golden)] - golden).max())
        print(f"{len(golden)} golden rows, the largest difference to TensorFlow is {worst:.2e}")
        ok = ok and worst <= TOLERANCE
    raise SystemExit(0 if ok else 1)


if __name__ == "__main__":
    main()
