"""`iotml export`: a trained model's file to ONNX, with its manifest."""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ConfigError
from iotml.manifest import Manifest
from iotml.train.export import export_onnx
from iotml.train.export.frameworks import PICKLES, load_model, unpickle

ABOUT = """Export a trained model to ONNX, with its manifest inside and as JSON beside it.

Nothing is written before the Rust engine has given the framework's results on sample rows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", type=Path, help="a .keras or .h5 file, a SavedModel's folder, or a pickle (.joblib, .pt)")
    parser.add_argument("--manifest", type=Path, required=True, help="JSON: kind, name and features with their scaling")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--samples", type=Path, help="raw rows to compare on: .csv with the features' names, or .npy")
    parser.add_argument("--training", type=Path, help="raw rows it was trained on, in such a file, to compare live rows with")
    parser.add_argument("--look-back", type=int, help="rows of a window, if the model does not say it")
    parser.add_argument("--opset", type=int, help="the ONNX operator set, if not the exporter's default")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference (default: %(default)s)")
    parser.add_argument("--engine", choices=["onnxruntime", "tract"], help="the engine to compare in")
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load a pickle (PyTorch, scikit-learn), which runs whatever code is in it",
    )


def run(options: argparse.Namespace) -> int:
    """Do it; raises `IotmlError`."""
    manifest = Manifest.read(options.manifest)
    export = export_onnx(
        _load(options.model, options.trust_pickle),
        options.out,
        manifest=manifest,
        samples=None if options.samples is None else _samples(options.samples, manifest),
        training=None if options.training is None else _samples(options.training, manifest),
        look_back=options.look_back,
        opset=options.opset,
        tolerance=options.tolerance,
        engine=options.engine,
    )
    print(export)
    for theirs, ours in export.names.items():
        if theirs != ours:
            print(f"{theirs} of the model is {ours} in the file")
    return 0


def _load(path: Path, trust_pickle: bool) -> Any:
    if path.suffix not in PICKLES:
        return load_model(path)
    if not trust_pickle:
        raise ConfigError(f"{path} is a pickle, which runs whatever code is in it; if you trust it, say --trust-pickle")
    return unpickle(path)


def _samples(path: Path, manifest: Manifest) -> npt.NDArray[Any]:
    """Read raw rows; the columns of a CSV file are found by name, and what the model never reads may be missing."""
    try:
        if path.suffix == ".npy":
            rows: npt.NDArray[Any] = np.load(path)
            return rows
        with path.open(newline="", encoding="utf-8") as file:
            return _csv_rows(path, csv.reader(file), manifest)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"cannot read rows from {os.fspath(path)}: {error}") from error


def _csv_rows(path: Path, reader: Any, manifest: Manifest) -> npt.NDArray[np.float64]:
    header: list[str] = next(reader, [])
    read = [feature for feature in manifest.features if feature.constant is None]
    missing = [feature.name for feature in read if feature.name not in header]
    if missing:
        raise ConfigError(f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}")
    at = [header.index(feature.name) if feature.constant is None else None for feature in manifest.features]
    rows = []
    for row in reader:
        try:
            rows.append([0.0 if column is None else float(row[column]) for column in at])
        except (ValueError, IndexError) as error:
            raise ConfigError(f"{path}, line {reader.line_num}: {error}") from error
    return np.array(rows, dtype=np.float64).reshape(-1, len(at))
