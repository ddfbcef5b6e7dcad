"""Teaches: a model that is trained again when its rows drift, with nobody at hand.

    iotml run score.toml &
    python examples/python/retrain.py score.toml --bootstrap localhost:9092 --registry http://localhost:8081

`score.toml` is a pipeline that follows models, which it takes from a store, and watches them (`[score.watch]`). When its
workers report drift, the default network is trained on the healthy rows of the log since the drift began, published as
the next version, announced as a canary, and judged by `iotml model judge`, which promotes or retires it. All that is
known is in the store and on the topics. Started again after a kill this goes on with the next report; a canary that was
announced before is left to `iotml model judge NAME VERSION`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cars
import iotml
from iotml.train import presets

PAUSE_S = 1.0
#: One partition in so many is not trained on: its cars set the threshold.
HOLD_OUT_EVERY = 5


def main() -> None:
    """Wait for drift, and retrain, for ever or as often as asked."""
    options = arguments()
    topic, store = iotml.ModelTopic.from_toml(options.config), iotml.ModelStore.from_toml(options.config)
    n_left = options.times
    while n_left != 0:
        drift = wait_for_drift(topic, store, options.name)
        said = ", ".join(f"{feature.name} (PSI {feature.psi:.2f})" for feature in drift.features[:4])
        say(f"version {drift.version} has drifted: {said}")
        log = cars_log(options, filter=cars.HEALTHY)
        rows = rows_since(log, drift, options.rows)
        stored = train(options, rows, version=next_version(store, options.name), store=store)
        topic.announce(stored, canary=options.canary)
        say(f"version {stored.version} scores {options.canary:g} % of the cars")
        judge(options, stored.version)
        print(topic.announced(options.name), flush=True)
        n_left -= 1


def wait_for_drift(topic: iotml.ModelTopic, store: iotml.ModelStore, name: str) -> iotml.ModelDrift:
    """Wait until drift is reported of the version that scores, since the newest version was published."""
    while True:
        acting = [version.version for version in topic.announced(name).versions if version.is_ready]
        newest = max((model.published for model in store.list(name)), default=datetime.min.replace(tzinfo=timezone.utc))
        for drift in reversed(topic.drifts(name)):
            if drift.version in acting and drift.time > newest:
                return drift
        time.sleep(PAUSE_S)


def cars_log(options: argparse.Namespace, features: Sequence[str] = tuple(cars.FEATURES), **reading: Any) -> iotml.KafkaLog:
    """Open the log of the cars."""
    return iotml.KafkaLog(
        options.bootstrap, options.topic, registry=options.registry, features=features, progress=False, **reading
    )


def rows_since(log: iotml.KafkaLog, drift: iotml.ModelDrift, n_rows: int) -> iotml.LogRange:
    """Wait until the log has so many messages since the drift began, and give their range."""
    begun = {number: start for part in drift.log if part.topic == log.topic for number, (start, _) in part.partitions.items()}
    while True:
        whole = log.range()
        # Partitions of other workers are taken from the same time on.
        by_time = log.range(start=drift.begun).partitions if drift.begun else whole.partitions
        offsets = {
            number: (min(begun.get(number, by_time.get(number, (end, end))[0]), end), end)
            for number, (_, end) in whole.partitions.items()
        }
        rows = iotml.LogRange(whole.topic, offsets, whole.topic_id)
        if rows.n_offsets >= n_rows:
            return rows
        time.sleep(PAUSE_S)


def train(options: argparse.Namespace, rows: iotml.LogRange, *, version: str, store: iotml.ModelStore) -> iotml.StoredModel:
    """Train the default network on a range of the log, set its threshold on cars that it did not see, and publish it."""
    numbers = sorted(number for number, (start, end) in rows.partitions.items() if start < end)
    train_range, held_out = rows.only([n for n in numbers if n % HOLD_OUT_EVERY]), rows.only(numbers[::HOLD_OUT_EVERY])
    features = varying(cars_log(options, filter=cars.HEALTHY), train_range)
    healthy = cars_log(options, features, filter=cars.HEALTHY)
    preset = presets.Autoencoder(epochs=options.epochs)
    network = preset.fit(healthy.to_tf(preset.batch, range=train_range, shuffle_buffer=100_000), features, verbose=0)
    values, labels = cars_log(options, features, label=cars.LABEL).numpy(range=held_out)
    threshold = iotml.calibrate(network.score(values), labels, method="quantile", quantile=options.quantile)
    read = healthy.batches(range=train_range)
    n_rows = sum(len(batch) for batch in read)
    manifest = network.manifest(options.name, version=version, trained={"script": Path(__file__).name})
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        iotml.export_onnx(network.model, file, manifest=manifest, samples=values[:1000], calibration=threshold, read=read)
        stored = store.publish(file)
    say(f"version {version} is trained on {n_rows} rows of {read.range}; {threshold}")
    return stored


def varying(log: iotml.KafkaLog, rows: iotml.LogRange) -> list[str]:
    """Leave out what is the same in all rows, such as the number of a firmware that every car has."""
    found = presets.Statistics.of(batch.x for batch in log.batches(range=rows, digest=False))
    return [name for name, varies in zip(cars.FEATURES, found.min < found.max, strict=True) if varies]


def next_version(store: iotml.ModelStore, name: str) -> str:
    """Count on from the newest version in the store."""
    return str(1 + max((int(model.version) for model in store.list(name) if model.version.isdigit()), default=0))


def judge(options: argparse.Namespace, version: str) -> None:
    """Let the rules decide what becomes of a canary, and wait until they have."""
    rules = ["--min-time", options.min_time, "--min-rows", str(options.min_rows), "--max-anomaly-ratio", "2"]
    command = ["model", "judge", options.name, version, "--config", str(options.config), "--every", "2s", *rules]
    code = subprocess.run([sys.executable, "-m", "iotml", *command], check=False).returncode
    say(f"version {version}: {'promoted' if code == 0 else 'retired' if code == RETIRED else 'the judge failed'}")
    if code not in (0, RETIRED):
        raise SystemExit(code)


RETIRED = 4
"""The exit code of `iotml model judge` for a version that is retired."""


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


LOG_ARGUMENTS = ["bootstrap", "registry", "topic", "name", "epochs", "quantile", "rows", "canary", "min_time", "min_rows"]
"""What `add_log_arguments` adds."""


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """Say where the rows are, and how a network is trained on them."""
    parser.add_argument("--kafka", "--bootstrap", dest="bootstrap", required=True, help="Kafka, host:port")
    parser.add_argument("--registry", required=True, help="the schema registry's address")
    parser.add_argument("--topic", default="sensor-data", help="the topic of the cars (default: %(default)s)")
    parser.add_argument("--name", default="cars", help="the model (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the rows (default: %(default)s)")
    parser.add_argument("--quantile", type=float, default=0.995, help="of healthy scores, the threshold (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=50_000, help="rows to wait for before training (default: %(default)s)")
    parser.add_argument("--canary", type=float, default=20, help="percent of the cars (default: %(default)s)")
    parser.add_argument("--min-time", default="10m", help="that a canary must last (default: %(default)s)")
    parser.add_argument("--min-rows", type=int, default=1000, help="that a canary must score (default: %(default)s)")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration of the pipeline whose models are looked after")
    add_log_arguments(parser)
    parser.add_argument("--times", type=int, default=-1, help="end after so many retrainings (default: never)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
