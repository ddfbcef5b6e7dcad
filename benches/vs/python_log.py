"""A Kafka log to NumPy and TensorFlow: iotml beside a bare Rust loop, confluent-kafka + fastavro, and tensorflow-io.

On one topic of a real Kafka (Confluent-framed CarData, as the end-to-end benchmark writes it), in turn, each in a
process of its own: how many records a second become rows of float32. Every run sums up the bits of all numbers it read,
and the sums must be equal. Prints each run and a table of medians.

    cargo build --release -p iotml-benches --bin end_to_end
    python benches/vs/python_log.py --end-to-end target/release/end_to_end --kafka host:port --registry http://...
    [--tf]

`--tf` adds `to_tf` (needs TensorFlow), `--tfio PYTHON` tensorflow-io 0.37.1 run by that Python, which has it and
TensorFlow 2.16.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

FIELDS = [
    "coolant_temp",
    "intake_air_temp",
    "intake_air_flow_speed",
    "battery_percentage",
    "battery_voltage",
    "current_draw",
    "speed",
    "engine_vibration_amplitude",
    "throttle_pos",
    "tire_pressure_1_1",
    "tire_pressure_1_2",
    "tire_pressure_2_1",
    "tire_pressure_2_2",
    "accelerometer_1_1_value",
    "accelerometer_1_2_value",
    "accelerometer_2_1_value",
    "accelerometer_2_2_value",
    "control_unit_firmware",
]

#: Rows of a batch of NumPy, and of tf.data.
NUMPY_ROWS, TF_ROWS = 4096, 1000

#: Records that tensorflow-io reads: at its pace more would take hours.
TFIO_RECORDS = 50_000


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default=os.environ.get("IOTML_KAFKA"), required="IOTML_KAFKA" not in os.environ)
    parser.add_argument("--registry", default=os.environ.get("IOTML_REGISTRY"))
    parser.add_argument("--end-to-end", help="the program of the end-to-end benchmark, which fills the topic")
    parser.add_argument("--prefix", default=f"bench-log-{os.getpid()}")
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--filled", action="store_true", help="the topic of this prefix is there already")
    parser.add_argument("--tf", action="store_true")
    parser.add_argument("--tfio", metavar="PYTHON")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    return parser.parse_args()


class Stopwatch:
    """Rows and their sum, and the time since the first of them came."""

    def __init__(self) -> None:
        self.n_rows = self.checksum = self.n_first = 0
        self.start = 0.0

    def add(self, x: Any) -> None:
        import numpy as np

        if not self.n_rows:
            # What came first took time that was not measured.
            self.start, self.n_first = time.perf_counter(), len(x)
        self.n_rows += len(x)
        self.checksum += int(x.view(np.uint32).sum(dtype=np.uint64))

    def print(self) -> None:
        seconds = time.perf_counter() - self.start
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(
            json.dumps(
                {
                    "records": self.n_rows,
                    "seconds": seconds * self.n_rows / max(self.n_rows - self.n_first, 1),
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "peak_mb": usage.ru_maxrss / 1024,
                    "checksum": self.checksum,
                }
            )
        )


def log(args: argparse.Namespace) -> Any:
    import iotml

    return iotml.KafkaLog(args.kafka, topic(args), registry=args.registry, features=FIELDS, progress=False)


def topic(args: argparse.Namespace) -> str:
    return f"{args.prefix}-input"


def numpy_step(args: argparse.Namespace, *, digest: bool) -> None:
    source = log(args)
    wanted, watch = source.range(), Stopwatch()
    for batch in source.batches(NUMPY_ROWS, range=wanted, digest=digest):
        watch.add(batch.x)
    watch.print()


def tf_step(args: argparse.Namespace, *, shuffle_buffer: int | None) -> None:
    watch = Stopwatch()
    for x in log(args).to_tf(TF_ROWS, shuffle_buffer=shuffle_buffer):
        watch.add(x.numpy())
    watch.print()


def peer_step(args: argparse.Namespace) -> None:
    """As a Python programmer would write it who cares about speed: batched consume, one schema parsed once."""
    import fastavro
    import numpy as np
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": args.kafka,
            "group.id": f"{args.prefix}-peer",
            "enable.auto.commit": False,
            "queued.min.messages": 1000000,
        }
    )
    consumer.assign([TopicPartition(topic(args), partition, 0) for partition in range(args.partitions)])
    schemas: dict[int, Any] = {}
    message: Any
    record: Any
    watch = Stopwatch()
    while watch.n_rows < args.records:
        messages = consumer.consume(NUMPY_ROWS, timeout=0.1)
        if not messages:
            continue
        x = np.empty((len(messages), len(FIELDS)), np.float32)
        for number, message in enumerate(messages):
            if message.error():
                raise SystemExit(message.error())
            value = message.value()
            schema_id = int.from_bytes(value[1:5], "big")
            if schema_id not in schemas:
                with urllib.request.urlopen(f"{args.registry}/schemas/ids/{schema_id}") as answer:
                    schemas[schema_id] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
            record = fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[schema_id])
            x[number] = [record[name] for name in FIELDS]
        watch.add(x)
    watch.print()


def tfio_step(args: argparse.Namespace) -> None:
    """As the reference system trained: KafkaDataset, the frame cut off, decode_avro, stacked, batched."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_io.kafka as kafka_io
    from tensorflow_io.python.experimental import serialization_ops

    servers = {"servers": args.kafka, "group": f"{args.prefix}-tfio", "eof": True}
    probe = iter(kafka_io.KafkaDataset([f"{topic(args)}:0:0:1"], **servers))
    schema_id = int.from_bytes(next(probe).numpy()[1:5], "big")
    with urllib.request.urlopen(f"{args.registry}/schemas/ids/{schema_id}") as answer:
        schema = json.load(answer)["schema"]
    share = TFIO_RECORDS // args.partitions

    def row(message: Any) -> Any:
        values = serialization_ops.decode_avro(tf.strings.substr(message, 5, -1), schema=schema)
        return tf.stack([tf.cast(values[name], tf.float32) for name in FIELDS])

    parts = [f"{topic(args)}:{partition}:0:{share - 1}" for partition in range(args.partitions)]
    dataset = kafka_io.KafkaDataset(parts, **servers)
    watch = Stopwatch()
    for x in dataset.map(row).batch(TF_ROWS):
        watch.add(np.ascontiguousarray(x.numpy()))
    watch.print()


STEPS: dict[str, Callable[[argparse.Namespace], None]] = {
    "iotml": lambda args: numpy_step(args, digest=True),
    "iotml, no digest": lambda args: numpy_step(args, digest=False),
    "to_tf": lambda args: tf_step(args, shuffle_buffer=None),
    "to_tf, shuffled": lambda args: tf_step(args, shuffle_buffer=100_000),
    "confluent-kafka + fastavro": peer_step,
    "tensorflow-io": tfio_step,
}

BARE = "bare Rust loop"


def peers(args: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Names, and how each is run."""
    plan = ["--kafka", args.kafka, "--registry", args.registry, "--prefix", args.prefix]
    plan += ["--records", str(args.records), "--partitions", str(args.partitions)]
    if args.end_to_end:
        yield BARE, [args.end_to_end, "read-bare", *plan]
    for name in STEPS:
        if name == "tensorflow-io" and not args.tfio:
            continue
        if name.startswith("to_tf") and not args.tf:
            continue
        python = args.tfio if name == "tensorflow-io" else sys.executable
        yield name, [python, __file__, *plan, "--step", name]


def run(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    args = parse()
    if args.step:
        STEPS[args.step](args)
        return
    if not args.filled:
        if not args.end_to_end:
            raise SystemExit("--end-to-end names the program that fills the topic; or pass --filled with its --prefix")
        plan = ["--kafka", args.kafka, "--registry", args.registry, "--prefix", args.prefix]
        plan += ["--records", str(args.records), "--partitions", str(args.partitions)]
        subprocess.run([args.end_to_end, "fill", *plan], check=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for number in range(1, args.runs + 1):
        for name, command in peers(args):
            if name == "tensorflow-io" and number > 1:
                continue
            measured = run(command)
            results.setdefault(name, []).append(measured)
            rate = measured["records"] / measured["seconds"]
            print(
                f"run {number}  {name:<28} {rate / 1e3:>8.1f} k records/s  {measured['peak_mb']:>5.0f} MB", flush=True
            )
    sums = {result["checksum"] for name, runs in results.items() if name != "tensorflow-io" for result in runs}
    if len(sums) != 1:
        raise SystemExit(f"not all of them read the same numbers: {sums}")
    table(results)


def table(results: dict[str, list[dict[str, Any]]]) -> None:
    def median(name: str, of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(of(result) for result in results[name])

    rates = {name: median(name, lambda result: result["records"] / result["seconds"]) for name in results}
    print("| | k records/s | CPU s per million | peak MB | rate / bare | rate / iotml |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, rate in rates.items():
        cpu = median(name, lambda result: result["cpu_seconds"] * 1e6 / result["records"])
        peak = median(name, lambda result: result["peak_mb"])
        to_bare = f"{rate / rates[BARE]:.2f}" if BARE in rates else ""
        print(f"| {name} | {rate / 1e3:,.1f} | {cpu:.2f} | {peak:.0f} | {to_bare} | {rate / rates['iotml']:.3f} |")


if __name__ == "__main__":
    main()
