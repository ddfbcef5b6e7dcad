"""What a preprocessor in Python costs: the same pipeline without it and with it, interleaved, each in its own process.

Kafka to Kafka: Confluent-framed CarData records of simulated cars are decoded, scored by the model and written as JSON.
The Python stage looks at two columns of every batch and adds a third one, which the encoder writes too. After every run
the output topic must hold as many records as the input. Prints a line a run, and the ratio of the medians.

    IOTML_KAFKA=... IOTML_REGISTRY=... python benches/vs/python_plugin.py --records 1000000 --runs 3
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
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import fastavro
import iotml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

MODEL = Path(__file__).resolve().parents[2] / "testdata/cars/cars-autoencoder.onnx"
PARTITIONS = 10
VARIANTS = ("rust", "python")

plugins = iotml.Plugins()


@plugins.preprocessor("power")
def power(batch: iotml.Batch) -> dict[str, object]:
    """Add the electric power, W: touches every batch, as a user's feature engineering would."""
    return {"power": batch["battery_voltage"] * batch["current_draw"]}


def main() -> None:
    """Fill a topic, run both in turn, print the table; or be one of the runs."""
    options = arguments()
    if options.step:
        return run(options)
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    fill(options, topic)
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(options.runs):
        for variant in VARIANTS:
            command = [
                sys.executable,
                __file__,
                "--step",
                variant,
                "--topic",
                topic,
                "--out",
                f"{topic}-{variant}-{number}",
            ]
            command += ["--kafka", options.kafka, "--registry", options.registry, "--records", str(options.records)]
            create(options.kafka, f"{topic}-{variant}-{number}")
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured = json.loads(done.stdout.splitlines()[-1])
            n_written = size(options.kafka, f"{topic}-{variant}-{number}")
            if n_written != options.records:
                raise SystemExit(f"{variant} wrote {n_written} of {options.records} records")
            rates[variant].append(measured["rate"])
            print(f"run {number + 1}  {variant:<7}", json.dumps(measured))
    medians = {variant: statistics.median(rate) for variant, rate in rates.items()}
    print(
        f"rust {medians['rust']:,.0f}/s, python {medians['python']:,.0f}/s: {medians['python'] / medians['rust']:.2f}"
    )
    return None


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default=os.environ.get("IOTML_KAFKA"))
    parser.add_argument("--registry", default=os.environ.get("IOTML_REGISTRY"))
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    for name in ("--step", "--topic", "--out"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Run one pipeline to the topic's end; the clock starts with the first record."""
    is_python = options.step == "python"
    columns = ["score", "anomaly", *(["power"] if is_python else [])]
    builder = (
        iotml.Pipeline.builder(options.out, plugins=plugins)
        .source("kafka", topics=[options.topic], stop_at_end=True, kafka={"bootstrap.servers": options.kafka})
        .decode("confluent_avro", registry={"url": options.registry})
    )
    if is_python:
        builder.preprocess("power")
    out = {"bootstrap.servers": options.kafka, "linger.ms": "20", "compression.type": "lz4"}
    sink = {"type": "kafka", "topic": options.out, "kafka": out}
    builder.score("onnx", model=MODEL).route("r", encode={"type": "json", "columns": columns}, sink=sink)
    with builder.build() as pipeline:
        while pipeline.stats().received == 0:
            if pipeline.wait(0.001):
                break
        began = time.perf_counter()
        pipeline.wait()
        took = time.perf_counter() - began
    stats, used = pipeline.stats(), resource.getrusage(resource.RUSAGE_SELF)
    assert stats.delivered == stats.received == options.records, stats
    measured = {
        "rate": round(stats.delivered / took),
        "seconds": round(took, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": used.ru_maxrss // 1024,
    }
    print(json.dumps(measured))


def fill(options: argparse.Namespace, topic: str) -> None:
    """Write the records: readings of 1,000 cars, over and over."""
    create(options.kafka, topic)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cars.avro"
        command = [sys.executable, "-m", "iotml", "simulate", "avro", "--cars", "1000", "--ticks", "20"]
        subprocess.run([*command, "--out", file], check=True, stdout=subprocess.DEVNULL)
        with file.open("rb") as stream:
            reader = fastavro.reader(stream)
            written: Any = reader.writer_schema
            schema = {key: value for key, value in written.items() if not key.startswith("__")}
            readings = list(reader)
    frame = b"\0" + register(options.registry, topic, schema).to_bytes(4, "big")
    payloads = []
    for reading in readings:
        datum = io.BytesIO()
        fastavro.schemaless_writer(datum, schema, reading)
        payloads.append(frame + datum.getvalue())
    producer = Producer({"bootstrap.servers": options.kafka, "linger.ms": 50, "queue.buffering.max.messages": 500_000})
    for number in range(options.records):
        while True:
            try:
                car = number % 1000
                producer.produce(topic, payloads[number % len(payloads)], b"car-%d" % car, car % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.01)
    if producer.flush(120):
        raise SystemExit("not everything was written")


def register(registry: str, topic: str, schema: object) -> int:
    """Register the schema and give its id."""
    body = json.dumps({"schema": json.dumps(schema)}).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(f"{registry}/subjects/{topic}-value/versions", body, headers)
    with urllib.request.urlopen(request) as answer:
        return int(json.load(answer)["id"])


def create(kafka: str, topic: str) -> None:
    """Create a topic."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)


def size(kafka: str, topic: str) -> int:
    """Count the records of a topic."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"{topic}-size"})
    try:
        partitions = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        return sum(consumer.get_watermark_offsets(partition, 10)[1] for partition in partitions)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
