"""A pipeline around the stage under test: rows in over MQTT or Kafka, rows out into a list."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping
from threading import Event
from time import monotonic, sleep
from typing import Any

import iotml
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

PATIENCE = 30.0

#: What goes through a stage, and what goes through a pipeline where rows are only counted.
ROWS: list[dict[str, Any]] = [{"speed": float(speed), "gear": speed // 10, "car": f"car-{speed % 3}"} for speed in range(0, 60, 5)]
SPEEDS = [{"speed": float(speed)} for speed in range(20)]


class Kept:
    """What came out of a pipeline, by a sink of `type = "keep"`."""

    def __init__(self, plugins: iotml.Plugins) -> None:
        """Registers the sink."""
        self.payloads: list[bytes | None] = []
        self.keys: list[bytes | None] = []
        plugins.sink("keep", self._write)

    def _write(self, batch: iotml.Batch) -> None:
        self.payloads.extend(batch.payloads)
        self.keys.extend(batch.keys)

    @property
    def rows(self) -> list[Any]:
        """The payloads as JSON."""
        return [json.loads(payload or b"null") for payload in self.payloads]


def publish(address: str, topic: str, payloads: Iterable[Any]) -> None:
    """Publishes with QoS 1, as JSON unless they are bytes, and waits until the broker has them all."""
    host, port = address.split(":")
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(1000)
    connected = Event()
    client.on_connect = lambda *_: connected.set()
    client.connect(host, int(port))
    client.loop_start()
    try:
        assert connected.wait(PATIENCE)
        sent = [
            client.publish(topic, body if isinstance(body, bytes) else json.dumps(body), qos=1) for body in payloads
        ]
        for message in sent:
            message.wait_for_publish(PATIENCE)
            assert message.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


def mqtt_builder(
    address: str, name: str, plugins: iotml.Plugins | None = None, **options: Any
) -> iotml.PipelineBuilder:
    """A pipeline that receives JSON from the topic `NAME/data/KEY`."""
    return (
        iotml.Pipeline.builder(name, plugins=plugins, instance=name, **options)
        .source("mqtt", server=f"mqtt://{address}", topics=[{"filter": f"{name}/data/{{car}}", "key": "{car}"}])
        .decode("json")
    )


def kafka_builder(
    bootstrap: str, topic: str, plugins: iotml.Plugins | None = None, *, stop_at_end: bool = True, **options: Any
) -> iotml.PipelineBuilder:
    """A pipeline that receives JSON from a Kafka topic to its end; its group has the topic's name."""
    kafka = {"bootstrap.servers": bootstrap, "group.id": topic, "fetch.wait.max.ms": "10"}
    # The embedded one lets whoever joins a group again wait for nearly that long; less is too short for a real one.
    kafka["session.timeout.ms"] = "6000"
    return (
        iotml.Pipeline.builder(topic, plugins=plugins, **options)
        .source("kafka", topics=[topic], stop_at_end=stop_at_end, kafka=kafka)
        .decode("json")
    )


def through(
    address: str,
    name: str,
    plugins: iotml.Plugins,
    rows: Iterable[Any],
    stage: Callable[[iotml.PipelineBuilder], iotml.PipelineBuilder],
    *,
    when: str | None = None,
    encode: str | Mapping[str, Any] = "json",
    **options: Any,
) -> tuple[Kept, iotml.Stats]:
    """Send rows over MQTT through `stage`; give what came out and the balance, raise what the pipeline raises."""
    rows = list(rows)
    kept = Kept(plugins)
    builder = stage(mqtt_builder(address, name, plugins, **options)).route(
        "kept", when=when, encode=encode, sink="keep"
    )
    with builder.build() as pipeline:
        publish(address, f"{name}/data/car-1", rows)
        settle(pipeline, len(rows))
    return kept, pipeline.stats()


def stage(kind: str, **config: Any) -> Callable[[iotml.PipelineBuilder], iotml.PipelineBuilder]:
    """Adds a preprocessor of this type."""
    return lambda builder: builder.preprocess(kind, **config)


def settle(pipeline: iotml.Pipeline, n_rows: int) -> None:
    """Waits until `n_rows` rows were received and none is in flight; raises what the pipeline raises."""
    deadline = monotonic() + PATIENCE
    while True:
        stats = pipeline.stats()
        if stats.state in ("stopped", "failed"):
            pipeline.wait()
            return
        if stats.received >= n_rows and stats.in_flight == 0:
            return
        assert monotonic() < deadline, stats
        sleep(0.005)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
