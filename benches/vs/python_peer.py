"""The Python peer of the end-to-end benchmark: confluent-kafka, fastavro, onnxruntime, NumPy.

Reads the input topic to its end, decodes Confluent-framed Avro, scores in batches and produces one JSON object per record, as a
Python programmer would write it who cares about speed: batched consume, one schema parsed once, one session, one thread.
Prints one line of JSON: records, seconds, cpu_seconds, peak_mb.

    python benches/vs/python_peer.py --kafka 127.0.0.1:9092 --registry http://... --prefix bench-1.0 --model cars.onnx
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import time
import urllib.request
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import onnxruntime
from confluent_kafka import Consumer, Producer, TopicPartition


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--kafka", "--registry", "--prefix", "--model"):
        parser.add_argument(name, required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1000)
    return parser.parse_args()


def schema(registry: str, schema_id: int) -> Any:
    with urllib.request.urlopen(f"{registry}/schemas/ids/{schema_id}") as answer:
        return fastavro.parse_schema(json.loads(json.load(answer)["schema"]))


def scaling(manifest: dict[str, Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, factors and shifts: scaled = raw * factor + shift."""
    names, factors, shifts = [], [], []
    for feature in manifest["features"]:
        names.append(feature["name"])
        scale = feature.get("scale")
        if "constant" in feature:
            factor, shift = 0.0, feature["constant"]
        elif scale is None:
            factor, shift = 1.0, 0.0
        elif "std" in scale:
            factor, shift = 1.0 / scale["std"], -scale["mean"] / scale["std"]
        else:
            factor = 2.0 / (scale["max"] - scale["min"])
            shift = -scale["min"] * factor - 1.0
        factors.append(factor)
        shifts.append(shift)
    return names, np.array(factors, np.float32), np.array(shifts, np.float32)


def main() -> None:
    args = parse()
    source = f"{args.prefix.split('.')[0]}-input"
    target = f"{args.prefix}-python"
    manifest = json.loads(Path(args.model).with_suffix(".json").read_text())
    names, factors, shifts = scaling(manifest)
    threshold = manifest["threshold"]["value"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name

    consumer = Consumer(
        {
            "bootstrap.servers": args.kafka,
            "group.id": f"{args.prefix}-python",
            "enable.auto.commit": False,
            "queued.min.messages": 1000000,
        }
    )
    consumer.assign([TopicPartition(source, partition, 0) for partition in range(args.partitions)])
    producer = Producer(
        {
            "bootstrap.servers": args.kafka,
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500000,
        }
    )
    schemas: dict[int, Any] = {}
    message: Any
    record: Any
    n_seen = 0
    start = None
    while n_seen < args.records:
        messages = consumer.consume(args.batch, timeout=0.1)
        if not messages:
            continue
        if start is None:
            start = time.perf_counter()
        rows = np.empty((len(messages), len(names)), np.float32)
        for number, message in enumerate(messages):
            if message.error():
                raise SystemExit(message.error())
            value = message.value()
            schema_id = int.from_bytes(value[1:5], "big")
            if schema_id not in schemas:
                schemas[schema_id] = schema(args.registry, schema_id)
            record = fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[schema_id])
            rows[number] = [record[name] for name in names]
        rows = rows * factors + shifts
        output = session.run(None, {input_name: rows})[0]
        scores = np.square(rows - output).mean(axis=1).tolist()
        for message, score in zip(messages, scores, strict=True):
            payload = json.dumps({"score": score, "anomaly": score >= threshold})
            while True:
                try:
                    producer.produce(target, payload, message.key())
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.poll(0)
        n_seen += len(messages)
    producer.flush()
    seconds = time.perf_counter() - (start or 0.0)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "records": n_seen,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
