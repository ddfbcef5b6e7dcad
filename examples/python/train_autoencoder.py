"""Teaches: an anomaly detector from the Kafka log, without another data store, from training to evaluation.

    python examples/python/train_autoencoder.py --bootstrap localhost:9092 --topic sensor-data \
        --registry http://localhost:8081 --evaluate unseen.csv --out cars.onnx

The rows of an epoch are read from the topic while it runs; only rows without a failure are trained on. Cars are keys,
and a key's rows are all in one partition, so the partitions that are held out hold cars that the network never saw:
they set the threshold. `--evaluate` names files of `iotml simulate csv`, which know the kind of every fault. `--again
cars.json` reads exactly what that model was trained on. With `--files` (Avro or Parquet) in the place of the topic, no
broker is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np

import cars
import iotml
from iotml.train import presets


def main() -> None:
    """Run the whole training from the command line."""
    options = arguments()
    healthy, train_range = training_rows(options)
    rows = healthy.to_tf(options.batch, range=train_range, shuffle_buffer=options.shuffle)
    board = keras.callbacks.TensorBoard(log_dir=str(options.tensorboard)) if options.tensorboard else None
    preset = presets.Autoencoder(epochs=options.epochs, batch=options.batch, seed=options.seed)
    network = preset.fit(rows, cars.FEATURES, callbacks=[board] if board else [], verbose=2)
    # The epochs shuffle; the digest is of the rows in their own order.
    read = healthy.batches(range=train_range)
    n_rows = sum(len(batch) for batch in read)
    print(f"trained on {read.range}: {n_rows} rows, {read.digest}")

    values, labels = held_out_rows(options, train_range)
    found = iotml.calibrate(network.score(values), labels, method="quantile", quantile=options.quantile)
    print(found)
    if options.plot:
        print(f"wrote {found.plot(options.plot, title='cars that were not trained on')}")

    metrics = evaluate(options, network, found.value, healthy.numpy(range=train_range)[0] if options.peers else None)
    worst = min(metrics.values(), default=1.0)
    if worst < options.min_auc:
        raise SystemExit(f"not exported: ROC AUC {worst} of a fault is below {options.min_auc}")
    export = iotml.export_onnx(
        network.model,
        options.out,
        manifest=network.manifest(
            "cars", version=options.version, trained={"script": Path(__file__).name, "metrics": {"roc_auc": metrics}}
        ),
        samples=np.concatenate([values[labels == 0][:900], values[labels == 1][:100]]),
        calibration=found,
        read=read,
    )
    print(export)


def training_rows(options: argparse.Namespace) -> tuple[Any, Any]:
    """Open the log of the rows to train on, and resolve their range."""
    if options.files:
        files = iotml.FileLog(options.files, features=cars.FEATURES, filter=cars.HEALTHY)
        return files, files.range()
    log = iotml.KafkaLog(options.bootstrap, options.topic, registry=options.registry, features=cars.FEATURES, filter=cars.HEALTHY)
    if options.again:
        return log, iotml.LogRange.from_dict(iotml.Manifest.read(options.again).trained["data"]["range"])
    whole = log.range()
    return log, whole.only([number for number in whole.partitions if number not in options.held_out])


def held_out_rows(options: argparse.Namespace, train_range: Any) -> tuple[Any, Any]:
    """Raw rows `[n, 18]` of cars that were not trained on, and whether each is of a failure."""
    reading: dict[str, Any] = {"features": cars.FEATURES, "label": cars.LABEL}
    if options.files:
        return iotml.FileLog(options.calibrate, **reading).numpy()
    log = iotml.KafkaLog(options.bootstrap, options.topic, registry=options.registry, **reading)
    whole = log.range()
    return log.numpy(range=whole.only([number for number in whole.partitions if number not in train_range.partitions]))


def evaluate(options: argparse.Namespace, network: presets.Network, threshold: float, fitted_to: Any) -> dict[str, float]:
    """Give ROC AUC by kind of fault on the first file, and print the figures of all."""
    metrics: list[dict[str, float]] = []
    for path in options.evaluate:
        if fitted_to is None:
            truth = cars.read(path)
            metrics.append(cars.roc_auc_by_fault(network.score(truth.values), truth))
            print(f"{path.name}: ROC AUC by fault {metrics[-1]}")
            continue
        import evaluation

        result = evaluation.evaluate(path, network.score, threshold, fitted_to=fitted_to, seed=options.seed)
        print(f"\n{result.table()}\n")
        metrics.append(result.auc["autoencoder"])
    return metrics[0] if metrics else {}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", help="Kafka, host:port")
    parser.add_argument("--topic", default="sensor-data", help="the topic (default: %(default)s)")
    parser.add_argument("--registry", help="the schema registry's address")
    parser.add_argument("--held-out", type=int, nargs="+", default=[8, 9], help="partitions that set the threshold (default: 8 9)")
    parser.add_argument("--again", type=Path, help="a manifest, whose range is read again")
    parser.add_argument("--files", type=Path, nargs="+", help="Avro or Parquet files to train on, in the place of the topic")
    parser.add_argument("--calibrate", type=Path, nargs="+", default=[], help="files of other cars that set the threshold")
    parser.add_argument("--evaluate", type=Path, nargs="+", default=[], help="CSV files of other cars; the first one decides")
    parser.add_argument("--peers", action="store_true", help="evaluate PCA and an isolation forest beside the network")
    parser.add_argument("--min-auc", type=float, default=0.95, help="least ROC AUC of a fault (default: %(default)s)")
    parser.add_argument("--quantile", type=float, default=0.999, help="of healthy scores, the threshold (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=80, help="passes over the rows (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=512, help="rows of a step (default: %(default)s)")
    parser.add_argument("--shuffle", type=int, default=100_000, help="rows that are shuffled together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and noise (default: %(default)s)")
    parser.add_argument("--tensorboard", type=Path, help="folder for TensorBoard's log")
    parser.add_argument("--plot", type=Path, help="PNG file for a picture of the threshold")
    parser.add_argument("--version", default="1", help="the model's version (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    options = parser.parse_args()
    if bool(options.bootstrap) == bool(options.files):
        parser.error("say where the rows come from: --bootstrap or --files")
    if options.files and not options.calibrate:
        parser.error("--files needs --calibrate, files of cars that are not trained on")
    return options


if __name__ == "__main__":
    main()
