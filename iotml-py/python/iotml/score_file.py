"""`iotml score FILE`: the rows of a CSV, Parquet or Avro file, with their scores beside them."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from iotml._iotml import Scorer
from iotml.exceptions import ConfigError
from iotml.log import FileLog, LogBatch

Row = Mapping[str, Any]

APPENDED = ("score", "anomaly", "model", "model_version", "error")
"""What stands behind the columns of the file; `error` says why a row has no score."""


def score(arguments: Sequence[str]) -> int:
    """Scores a file as the command line says, and returns the exit code."""
    options = _parser().parse_args(arguments)
    scorer = Scorer(options.model, engine=options.engine, missing=options.missing)
    # A row of such a model is scored by those before it, which may be anywhere in the file.
    at_once = None if scorer.kind == "next_event" else options.batch
    n_rows = n_scored = 0
    with _reading(options, scorer.features) as (columns, rows), _writing(options.out) as out:
        _check(columns, scorer.features, options.key)
        write = _writer(out, options.format or _format_of(options.out), columns)
        while chunk := list(itertools.islice(rows, at_once)):
            for row, found in zip(chunk, _scored(scorer, chunk, options), strict=True):
                write(row, found)
                n_scored += found["score"] is not None
            n_rows += len(chunk)
    print(f"{n_scored} of {n_rows} rows scored by {scorer.name} {scorer.version} ({scorer.engine})", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iotml score",
        description="Scores the rows of a file with a model. Columns are found by the names of the model's features.",
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a .csv file with a header, a Parquet file, or an Avro container file"
    )
    parser.add_argument("--model", type=Path, required=True, help="an ONNX file with its manifest")
    parser.add_argument("--out", type=Path, help="where to write; by default to stdout")
    parser.add_argument("--format", choices=("csv", "jsonl"), help="by default by the end of --out's name, or csv")
    parser.add_argument("--engine", choices=("onnxruntime", "tract"), help="by default the first of them that is there")
    parser.add_argument(
        "--missing",
        choices=("error", "impute"),
        default="error",
        help="what becomes of a row with a missing value: no score, or the manifest's value for it (default: error)",
    )
    parser.add_argument(
        "--columns", type=_names, help="of a Parquet or Avro file, columns to keep beside the features (default: all)"
    )
    parser.add_argument("--key", help="the column that names the device, for models that look back")
    parser.add_argument("--batch", type=_positive, default=4096, help="rows scored at once (default: 4096)")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


@contextmanager
def _reading(options: argparse.Namespace, features: Sequence[str]) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """Give the names of the columns, and the rows."""
    file = options.file
    if file.suffix.lower() != ".csv":
        yield _log(options, features)
        return
    if options.columns is not None:
        raise ConfigError(f"{file}: --columns is for Parquet and Avro; of a CSV file all columns are kept")
    try:
        with file.open("rb") as stream:
            yield _csv(file, stream)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8: {error}") from error


def _csv(file: Path, stream: Any) -> tuple[list[str], Iterator[Row]]:
    reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline=""), restval="")
    if not reader.fieldnames:
        raise ConfigError(f"{file}: has no header")

    def rows() -> Iterator[Row]:
        try:
            for row in reader:
                if None in row:
                    raise ConfigError(f"{file}: line {reader.line_num} has more values than the header has names")
                yield row
        except csv.Error as error:
            raise ConfigError(f"{file}: line {reader.line_num}: {error}") from error

    return list(reader.fieldnames), rows()


def _log(options: argparse.Namespace, features: Sequence[str]) -> tuple[list[str], Iterator[Row]]:
    """Read a Parquet or Avro file as training does: records in records become columns with a dot in their names."""
    key = [] if options.key is None else [options.key]
    wanted = () if options.columns is None else dict.fromkeys([*options.columns, *features, *key])
    batches = FileLog(options.file, columns=list(wanted), progress=False).batches(options.batch, digest=False)
    first = next(batches, None)
    if first is None:
        return list(wanted or [*features, *key]), iter(())
    return first.columns, (row for batch in itertools.chain([first], batches) for row in _rows(batch))


def _rows(batch: LogBatch) -> Iterator[Row]:
    names = batch.columns
    try:
        columns = [batch[name].tolist() for name in names]
    except TypeError as error:
        raise ConfigError(f"{error}: name the columns to keep with --columns") from error
    for values in zip(*columns, strict=True):
        # NumPy has no other way to say that a number is missing.
        yield {name: None if value != value else value for name, value in zip(names, values, strict=True)}


def _check(columns: Sequence[str], features: Sequence[str], key: str | None) -> None:
    missing = [name for name in [*features, *([key] if key else [])] if name not in columns]
    if missing:
        raise ConfigError(f"the file has no column {', '.join(missing)}; it has {', '.join(columns)}")


def _scored(scorer: Scorer, rows: Sequence[Row], options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    features, key = scorer.features, options.key
    x = np.array([[_number(row[name]) for name in features] for row in rows], np.float64).reshape(-1, len(features))
    is_good: NDArray[np.bool_] = np.ones(len(x), np.bool_)
    if options.missing == "error":
        is_good = np.logical_and.reduce(np.isfinite(x), axis=1)
    keys = [str(row[key]) for row, good in zip(rows, is_good, strict=True) if good] if key else None
    prediction = scorer.predict(x[is_good], keys=keys) if is_good.any() else None
    scores = _spread(is_good, None if prediction is None else prediction.score)
    anomalies = _spread(is_good, None if prediction is None else prediction.anomaly)
    model = {"model": scorer.name, "model_version": scorer.version}
    for number, (value, anomaly) in enumerate(zip(scores, anomalies, strict=True)):
        error = None
        if not is_good[number]:
            bad = [name for name, there in zip(features, np.isfinite(x[number]), strict=True) if not there]
            error = f"no number: {', '.join(bad)}"
        elif value is None or math.isnan(value):
            value, anomaly, error = None, None, "too few rows of this key before it"
        yield {"score": value, "anomaly": anomaly, **model, "error": error}


def _spread(is_good: NDArray[np.bool_], values: NDArray[Any] | None) -> list[Any]:
    """Put the values of the good rows in the places of all rows."""
    spread: list[Any] = [None] * len(is_good)
    if values is not None:
        for at, value in zip(np.flatnonzero(is_good), values.tolist(), strict=True):
            spread[at] = value
    return spread


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


@contextmanager
def _writing(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        file = out.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from error
    with file:
        yield file


def _format_of(out: Path | None) -> str:
    return "jsonl" if out is not None and out.suffix.lower() in (".jsonl", ".ndjson", ".json") else "csv"


def _writer(out: TextIO, form: str, columns: Sequence[str]) -> Any:
    kept = [name for name in columns if name not in APPENDED]
    if form == "jsonl":

        def as_json(row: Row, found: dict[str, Any]) -> None:
            whole = {**{name: row[name] for name in kept}, **found}
            out.write(json.dumps(whole, default=str) + "\n")

        return as_json
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*kept, *APPENDED])

    def as_csv(row: Row, found: dict[str, Any]) -> None:
        values = [row[name] for name in kept] + [found[name] for name in APPENDED]
        writer.writerow(["" if value is None else value for value in values])

    return as_csv
