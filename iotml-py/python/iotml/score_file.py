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
from iotml.train.optional import needed

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
    with _reading(options.file) as (columns, rows), _writing(options.out) as out:
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
        "file", type=Path, metavar="FILE", help=".csv, .parquet (needs pyarrow) or .avro (needs fastavro)"
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
    parser.add_argument("--key", help="the column that names the device, for models that look back")
    parser.add_argument("--batch", type=_positive, default=4096, help="rows scored at once (default: 4096)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


@contextmanager
def _reading(file: Path) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """Give the names of the columns, and the rows."""
    readers = {".csv": _csv, ".parquet": _parquet, ".avro": _avro}
    read = readers.get(file.suffix.lower())
    if read is None:
        raise ConfigError(f"{file}: the name of the file ends in none of {', '.join(readers)}")
    try:
        with file.open("rb") as stream:
            yield read(file, stream)
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


def _parquet(file: Path, stream: Any) -> tuple[list[str], Iterator[Row]]:
    parquet = needed("pyarrow.parquet", purpose="reading Parquet", install="iotml[arrow]")
    try:
        opened = parquet.ParquetFile(stream)
    except ValueError as error:
        raise ConfigError(f"{file}: is no Parquet file: {error}") from error
    return opened.schema_arrow.names, (row for batch in opened.iter_batches() for row in batch.to_pylist())


def _avro(file: Path, stream: Any) -> tuple[list[str], Iterator[Row]]:
    fastavro = needed("fastavro", purpose="reading Avro", install="iotml[avro]")
    try:
        opened = fastavro.reader(stream)
        names = [field["name"] for field in opened.writer_schema["fields"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: is no Avro file of records: {error}") from error
    return names, iter(opened)


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
