"""An epoch of the default network over a Kafka log beside the same epoch over the same rows in memory.

The preset trains twice in one process: on `KafkaLog.to_tf`, which reads the topic anew in every epoch, and on the array
of the same rows, each shuffled. Counted are the epochs in which nothing is compiled and no weights are measured, and,
by itself, the whole training. Prints a line a run and the ratios of the medians.

    cargo build --release -p iotml-benches --bin end_to_end
    python benches/vs/python_epoch.py --end-to-end target/release/end_to_end --kafka host:port --registry http://...
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from typing import Any

import iotml
import keras
from iotml.train import presets
from python_log import FIELDS

#: The weights are measured after a third and two thirds of the epochs, and the first one compiles.
EPOCHS, COUNTED = 6, (1, 3, 5)
SHUFFLED_ROWS = 100_000


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """The seconds of every epoch."""

    def __init__(self) -> None:
        """Count none yet."""
        super().__init__()
        self.epochs: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin an epoch."""
        self.begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """End it."""
        self.epochs.append(time.perf_counter() - self.begun)


def main() -> None:
    """Fill a topic, train by turns, print the ratio."""
    args = arguments()
    plan = ["--kafka", args.kafka, "--registry", args.registry, "--prefix", args.prefix, "--partitions", "10"]
    subprocess.run([args.end_to_end, "fill", *plan, "--records", str(args.records)], check=True)
    log = iotml.KafkaLog(args.kafka, f"{args.prefix}-input", registry=args.registry, features=FIELDS, progress=False)
    # What the writer of the topic gives all cars cannot be scaled.
    x, _ = log.numpy()
    varying = [name for name, column in zip(FIELDS, x.T, strict=True) if column.min() < column.max()]
    log = iotml.KafkaLog(args.kafka, f"{args.prefix}-input", registry=args.registry, features=varying, progress=False)
    x, _ = log.numpy()
    seconds: dict[str, list[float]] = {"log": [], "memory": []}
    whole: dict[str, list[float]] = {"log": [], "memory": []}
    for number in range(1, args.runs + 1):
        for name, found in seconds.items():
            rows = log.to_tf(args.batch, shuffle_buffer=SHUFFLED_ROWS) if name == "log" else x
            clock = Clock()
            preset = presets.Autoencoder(epochs=EPOCHS, batch=args.batch)
            begun = time.perf_counter()
            preset.fit(rows, varying, callbacks=[clock], verbose=0)
            whole[name].append(time.perf_counter() - begun)
            found += [clock.epochs[at] for at in COUNTED]
            print(f"run {number}  {name:<7}", json.dumps([round(epoch, 2) for epoch in clock.epochs]), flush=True)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    trainings = {name: statistics.median(found) for name, found in whole.items()}
    print(
        f"{len(x)} rows: log {medians['log']:.2f} s, memory {medians['memory']:.2f} s an epoch:"
        f" {medians['log'] / medians['memory']:.2f}; {EPOCHS} epochs with all that is in them"
        f" {trainings['log']:.1f} s, {trainings['memory']:.1f} s: {trainings['log'] / trainings['memory']:.2f}"
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default=os.environ.get("IOTML_KAFKA"))
    parser.add_argument("--registry", default=os.environ.get("IOTML_REGISTRY"))
    parser.add_argument("--end-to-end", required=True, help="the program of the end-to-end benchmark, which fills the topic")
    parser.add_argument("--prefix", default=f"bench-epoch-{os.getpid()}")
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--runs", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
