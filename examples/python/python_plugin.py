"""Stages of one's own in Python: a preprocessor, a scorer and a sink, between a Kafka topic and a SQLite file.

The cars' JSON is read from a topic to its present end. The preprocessor adds the difference between a car's best and
worst tyre and rejects rows without tyres, the scorer judges it, and the sink keeps the rows in a database: each batch
in one transaction, so that what is acknowledged is durable.

    python examples/python/python_plugin.py --kafka 127.0.0.1:9092 --topic sensor-data-raw --database tyres.sqlite
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

import iotml

TYRES = ["tire_pressure_1_1", "tire_pressure_1_2", "tire_pressure_2_1", "tire_pressure_2_2"]

plugins = iotml.Plugins()


@plugins.preprocessor("tyre_spread")
def tyre_spread(batch: iotml.Batch, *, at_least: float = 0.0) -> iotml.Result:
    """Add the difference between the best and the worst tyre, psi, and keep rows with at least this much of it."""
    pressures = np.column_stack([batch[name] for name in TYRES])
    spread = pressures.max(axis=1) - pressures.min(axis=1)
    unknown = {int(row): ("no_tyres", "a tyre pressure is missing") for row in np.flatnonzero(np.isnan(spread))}
    return iotml.Result(keep=spread >= at_least, reject=unknown, columns={"tyre_spread": spread})


@plugins.scorer("tyres")
class Tyres:
    """Judges by the difference between the tyres alone."""

    version = "2"

    def __init__(self, limit: float) -> None:
        """`limit` is in psi: from there on a row is an anomaly."""
        self.threshold = limit

    def score(self, batch: iotml.Batch) -> NDArray[np.float64]:
        """One score a row, psi."""
        return batch["tyre_spread"]


@plugins.sink("sqlite")
class Sqlite:
    """Keeps rows in a table of a SQLite file."""

    def __init__(self, path: str) -> None:
        """Open nothing: this is also called to check a configuration."""
        self.path = path

    def open(self, task: iotml.Task) -> None:  # noqa: ARG002 - a file for all tasks
        """Connect; `write` and `close` are called in the same thread."""
        self.database = sqlite3.connect(self.path)
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS tyres (topic TEXT, part INTEGER, place INTEGER, car TEXT, spread REAL,"
            " is_bad INTEGER, PRIMARY KEY (topic, part, place))"
        )

    def write(self, batch: iotml.Batch) -> None:
        """Write a batch in one transaction. A row that comes again after a failure takes its old place."""
        cars = [(key or b"").decode() for key in batch.keys]
        rows = zip(
            batch.topics,
            batch.partitions.tolist(),
            batch.offsets.tolist(),
            cars,
            batch["tyre_spread"].tolist(),
            batch["anomaly"].tolist(),
            strict=True,
        )
        with self.database:
            self.database.executemany("INSERT OR REPLACE INTO tyres VALUES (?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Disconnect."""
        self.database.close()


def main() -> int:
    """Run the pipeline and say what it found."""
    parser = argparse.ArgumentParser(description="Python stages between a Kafka topic and a SQLite file")
    parser.add_argument("--kafka", required=True, help="host:port")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--database", default="tyres.sqlite")
    options = parser.parse_args()
    pipeline = (
        iotml.Pipeline.builder("tyres", plugins=plugins, errors_tolerance="all")
        .source(
            "kafka",
            topics=[options.topic],
            stop_at_end=True,
            kafka={"bootstrap.servers": options.kafka, "group.id": f"tyres-{options.topic}"},
        )
        .decode("json")
        .preprocess("tyre_spread")
        .score("tyres", limit=3)
        .route("kept", sink={"type": "sqlite", "path": options.database})
        .build()
    )
    with pipeline:
        pipeline.watch()
    with closing(sqlite3.connect(options.database)) as database:
        query = "SELECT car, COUNT(*), MAX(spread) FROM tyres WHERE is_bad GROUP BY car ORDER BY 2 DESC, 1 LIMIT 5"
        for car, n_rows, worst in database.execute(query):
            print(f"{car}: {n_rows} rows with uneven tyres, {worst:.0f} psi at worst")
    stats = pipeline.stats()
    print(f"{stats.received} received = {stats.delivered} kept + {stats.skipped} rejected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
