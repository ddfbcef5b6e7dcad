"""Teaches: a network that forecasts each car's next reading from its last ones, trained from the Kafka log.

    python examples/python/train_lstm.py --bootstrap localhost:9092 --topic sensor-data \
        --registry http://localhost:8081 --look-back 5 --out forecast.onnx

The log reader keeps the last readings of every key and gives windows, so the messages of many cars may lie in any
order. The loss is set beside that of the forecast that nothing changes. Then the Rust engine scores the held-out rows,
car by car as they come, and has to give TensorFlow's scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np

import cars
import iotml
from iotml.train import persistence_loss, presets, windows


def main() -> None:
    """Run the whole training from the command line."""
    options = arguments()
    where: dict[str, Any] = {"registry": options.registry, "features": cars.FEATURES}
    log = iotml.KafkaLog(options.bootstrap, options.topic, **where)
    whole = log.range()
    train_range = whole.only([number for number in whole.partitions if number not in options.held_out])
    rows = log.to_tf(options.batch, range=train_range, windows=options.look_back, shuffle_buffer=options.shuffle)
    board = keras.callbacks.TensorBoard(log_dir=str(options.tensorboard)) if options.tensorboard else None
    preset = presets.Lstm(epochs=options.epochs, batch=options.batch, seed=options.seed, look_back=options.look_back)
    network = preset.fit(rows, cars.FEATURES, callbacks=[board] if board else [], verbose=2)
    # The epochs shuffle; the digest is of the rows in their own order.
    read = log.batches(range=train_range)
    n_rows = sum(len(batch) for batch in read)
    print(f"trained on {read.range}: {n_rows} rows, {read.digest}")

    held_out = iotml.KafkaLog(options.bootstrap, options.topic, label=cars.LABEL, **where)
    batches = list(held_out.batches(65_536, range=whole.only(options.held_out)))
    values, labels = np.concatenate([batch.x for batch in batches]), np.concatenate([batch.y for batch in batches])
    keys = np.array([key for batch in batches for key in batch.keys])
    score = network.score(values, keys)
    before, after, _ = windows(network.scale(values), options.look_back, keys)
    loss, persistence = float(np.nanmean(score)), persistence_loss(before, after)
    print(f"loss {loss:.5f} on cars that were not trained on, {persistence:.5f} by persistence")

    found = iotml.calibrate(score, labels, method="false_alarm_rate", rate=0.001)
    print(found)
    trained = {"script": Path(__file__).name, "metrics": {"loss": loss, "persistence": persistence}}
    export = iotml.export_onnx(
        network.model,
        options.out,
        manifest=network.manifest("cars-forecast", trained=trained),
        samples=values[keys == keys[0]],
        calibration=found,
        read=read,
    )
    print(export)
    rust = iotml.Scorer(str(options.out)).run(before)
    tensorflow = network.model.predict(before, batch_size=8192, verbose=0).reshape(rust.shape)
    difference = float(np.max(np.abs(rust - tensorflow)))
    print(f"{len(before)} forecasts by the Rust engine differ from TensorFlow's by at most {difference:.1e}")
    if loss >= persistence or difference > 1e-4:
        raise SystemExit("the network is no better than persistence, or the engine differs")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="Kafka, host:port")
    parser.add_argument("--topic", default="sensor-data", help="the topic (default: %(default)s)")
    parser.add_argument("--registry", help="the schema registry's address")
    parser.add_argument("--held-out", type=int, nargs="+", default=[8, 9], help="partitions to judge by (default: 8 9)")
    parser.add_argument("--look-back", type=int, default=1, help="readings of a window (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the rows (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="windows of a step; 1 in the reference (default: %(default)s)")
    parser.add_argument("--shuffle", type=int, default=50_000, help="windows shuffled together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the weights (default: %(default)s)")
    parser.add_argument("--tensorboard", type=Path, help="folder for TensorBoard's log")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
