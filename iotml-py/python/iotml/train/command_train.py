"""`iotml train`: a preset on a Kafka topic or on files, to an ONNX file with its manifest."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from iotml.exceptions import ConfigError
from iotml.log import FileLog, FileRange, KafkaLog, LogRange
from iotml.manifest import Manifest
from iotml.train.calibrate import calibrate
from iotml.train.export import export_onnx
from iotml.train.optional import needed
from iotml.train.presets import PRESETS, Lstm
from iotml.train.split import split_by_key
from iotml.train.windows import persistence_loss, windows

ABOUT = """Train a network on the rows of a Kafka topic or of files, set its threshold and export it to ONNX.

    iotml train --bootstrap localhost:9092 --topic sensor-data --registry http://localhost:8081 \\
        --features speed,battery_voltage,coolant_temp --label failure_occurred --out cars.onnx

Rows that are labelled as failures are not trained on. The threshold comes from devices that were not trained on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    source = parser.add_argument_group("where the rows come from")
    source.add_argument("--bootstrap", help="Kafka, host:port")
    source.add_argument("--topic", help="the topic")
    source.add_argument("--registry", help="the schema registry's address; without it the messages are JSON")
    source.add_argument("--files", type=Path, nargs="+", help="Parquet or Avro files in the place of a topic")
    source.add_argument("--key", help="the column of the files that says which device a row is of")
    source.add_argument("--last", type=int, help="only the newest rows of the topic, so many")
    source.add_argument("--range", type=Path, help="JSON of a range, or a manifest whose range is read again")
    source.add_argument("--features", required=True, help="columns, separated by commas, or a manifest that names them")
    source.add_argument("--label", help="the column that says whether a row is a failure")
    source.add_argument("--filter", help="a condition that rows must meet, such as 'speed > 0'")
    network = parser.add_argument_group("what is trained")
    network.add_argument("--preset", choices=list(PRESETS), default="autoencoder", help="default: %(default)s")
    network.add_argument("--epochs", type=int, help="passes over the rows")
    network.add_argument("--batch", type=int, help="rows of a step")
    network.add_argument("--seed", type=int, help="seed of the weights and of the choice of devices")
    network.add_argument("--look-back", type=int, help="rows of a window; preset lstm only")
    network.add_argument("--tensorboard", type=Path, help="folder for TensorBoard's log")
    threshold = parser.add_argument_group("the threshold")
    threshold.add_argument("--held-out", type=float, default=0.2, help="share of the devices that set it (default: %(default)s)")
    threshold.add_argument(
        "--method", choices=["quantile", "false_alarm_rate", "labels"], default="quantile", help="default: %(default)s"
    )
    threshold.add_argument("--quantile", type=float, default=0.999, help="of the healthy rows' scores (default: %(default)s)")
    threshold.add_argument("--rate", type=float, default=0.001, help="false alarms per healthy row (default: %(default)s)")
    threshold.add_argument("--plot", type=Path, help="PNG file for a picture of it")
    result = parser.add_argument_group("the result")
    result.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    result.add_argument("--name", help="the model's name (default: the file's)")
    result.add_argument("--version", default="1", help="the model's version (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Do it; raises `IotmlError`."""
    preset = _preset(options)
    features = _features(options.features)
    log = _log(options, features)
    x, y, keys = _read(log, _range(options, log))
    read: Any = log.last_read
    print(f"read {len(x)} rows of {len(np.unique(keys))} devices from {read.range}, {read.digest}")
    trained, held_out = split_by_key(keys, 1 - options.held_out, seed=preset.seed)
    healthy = np.ones(len(x), np.bool_) if options.label is None else y == 0
    by_key: dict[str, Any] = {"keys": keys[trained & healthy]} if isinstance(preset, Lstm) else {}
    board = [_tensorboard(options.tensorboard)] if options.tensorboard else []
    network = preset.fit(x[trained & healthy], features, callbacks=board, verbose=2, **by_key)

    score = network.score(x[held_out], keys[held_out])
    labels = None if options.label is None else y[held_out] != 0
    found = calibrate(score, labels, method=options.method, quantile=options.quantile, rate=options.rate)
    print(found)
    if network.look_back is not None:
        before, after, _ = windows(network.scale(x[held_out]), network.look_back, keys[held_out])
        print(f"loss {np.nanmean(score):.5f}, {persistence_loss(before, after):.5f} by persistence")
    if options.plot:
        print(f"wrote {found.plot(options.plot, title=options.out.stem)}")
    samples = x[keys == keys[held_out][0]] if network.look_back is not None else x[held_out][:1000]
    export = export_onnx(
        network.model,
        options.out,
        manifest=network.manifest(options.name or options.out.stem, version=options.version),
        samples=samples,
        calibration=found,
        read=read,
    )
    print(export)
    return 0


def _preset(options: argparse.Namespace) -> Any:
    given = {name: getattr(options, name) for name in ("epochs", "batch", "seed", "look_back")}
    chosen = {name: value for name, value in given.items() if value is not None}
    if options.look_back is not None and options.preset != "lstm":
        raise ConfigError(f"--look-back is for the preset lstm, not for {options.preset}")
    return PRESETS[options.preset](**chosen)


def _features(given: str) -> list[str]:
    if given.endswith(".json"):
        return Manifest.read(given).feature_names
    return [name for name in (part.strip() for part in given.split(",")) if name]


def _log(options: argparse.Namespace, features: list[str]) -> KafkaLog | FileLog:
    reading: dict[str, Any] = {"features": features, "label": options.label, "filter": options.filter}
    if options.files:
        if options.topic or options.bootstrap or options.last or options.range:
            raise ConfigError("--files takes the place of --bootstrap, --topic, --last and --range")
        return FileLog(options.files, key=options.key, **reading)
    if not options.bootstrap or not options.topic:
        raise ConfigError("say where the rows come from: --bootstrap and --topic, or --files")
    return KafkaLog(options.bootstrap, options.topic, registry=options.registry, **reading)


def _range(options: argparse.Namespace, log: KafkaLog | FileLog) -> LogRange | FileRange:
    if isinstance(log, FileLog):
        return log.range()
    if options.range is None:
        return log.range(last=options.last)
    try:
        document = json.loads(options.range.read_text(encoding="utf-8"))
        data = document.get("trained", {}).get("data", {"range": document})
        return LogRange.from_dict(data["range"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{options.range} holds no range: {error}") from error


def _read(log: Any, of: LogRange | FileRange) -> tuple[Any, Any, Any]:
    """All rows with their labels and keys, in the order of the log; a row without a key is a device of its own."""
    xs, ys = [], []
    keys: list[object] = []
    for batch in log.batches(65_536, range=of):
        xs.append(batch.x)
        ys.append(batch.y if batch.y is not None else np.zeros(len(batch.x), np.float32))
        keys += [f"row {len(keys) + at}" if key is None else key for at, key in enumerate(batch.keys)]
    if not xs:
        raise ConfigError("there are no rows to train on: look at the range, the filter and the topic")
    _, numbers = np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)
    return np.concatenate(xs), np.concatenate(ys), numbers


def _tensorboard(folder: Path) -> Any:
    keras = needed("keras", purpose="--tensorboard", install="iotml[tensorflow]")
    return keras.callbacks.TensorBoard(log_dir=str(folder))
