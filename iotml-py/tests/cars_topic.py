"""A topic of simulated cars, filled as real ones would fill it: over MQTT, through a pipeline, as registered Avro.

And the examples that read it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import iotml

EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEMA = EXAMPLES / "cars/schema/cardata-v2.avsc"
N_PARTITIONS = 10


def bridge(kafka: str, mosquitto: str, registry: str, topic: str) -> str:
    """The document of a pipeline that takes readings from MQTT and writes them to Kafka, keyed by car."""
    kinds = {"int": "int32", "double": "float64", "float": "float32", "string": "utf8"}
    fields = json.loads(SCHEMA.read_text())["fields"]
    columns = ",\n".join(f'{{ name = "{field["name"]}", type = "{kinds[field["type"]]}", nullable = false }}' for field in fields)
    return f"""
        [pipeline]
        name = "{topic}-bridge"

        [source]
        type = "mqtt"
        server = "mqtt://{mosquitto}"
        group = "{topic}"
        connections = 4
        topics = [{{ filter = "vehicles/sensor/data/{{car}}", key = "{{car}}" }}]

        [decode]
        type = "json"
        columns = [{columns}]

        [[route]]
        name = "avro"

        [route.encode]
        type = "confluent_avro"
        schema_file = "{SCHEMA}"
        subject = "{topic}-value"
        registry = {{ url = "{registry}" }}

        [route.sink]
        type = "kafka"
        topic = "{topic}"
        create_topics = {{ partitions = {N_PARTITIONS} }}

        [route.sink.kafka]
        "bootstrap.servers" = "{kafka}"
    """


def fill(kafka: str, mosquitto: str, registry: str, topic: str, *, n_cars: int, n_readings: int, seed: int) -> int:
    """Let cars drive until every reading is in the topic; gives how many there are."""
    pipeline = iotml.Pipeline.from_toml(text=bridge(kafka, mosquitto, registry, topic))
    simulate = [
        "mqtt",
        "--server",
        mosquitto,
        "--cars",
        str(n_cars),
        "--messages",
        str(n_readings),
        "--seed",
        str(seed),
    ]
    pace = ["--rate", "20", "--ramp-up", "1", "--tick-seconds", "10", "--fault-share", "0.3"]
    with pipeline:
        subprocess.run([sys.executable, "-m", "iotml", "simulate", *simulate, *pace], check=True, timeout=300)
        deadline = monotonic() + 120
        while pipeline.stats().delivered < n_cars * n_readings:
            assert monotonic() < deadline, pipeline.stats()
            sleep(0.05)
    return n_cars * n_readings


def run(example: str, *arguments: object) -> str:
    """Run an example, and give what it prints."""
    command = [sys.executable, str(EXAMPLES / "python" / example), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
