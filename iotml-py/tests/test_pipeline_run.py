"""Pipelines that run in this process: start, wait, stop, failure."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import iotml
import pytest
import topics
from streams import SPEEDS, Kept, free_port, mqtt_builder, publish, settle

Until = Callable[[Callable[[], bool], str], None]


def test_inv_1_and_4_messages_come_through_from_mqtt_to_kafka(mqtt: str, kafka: str, unique: str) -> None:
    topics.create(kafka, unique)
    builder = mqtt_builder(mqtt, unique).route(
        "r", sink={"type": "kafka", "topic": unique, "kafka": {"bootstrap.servers": kafka}}
    )
    with builder.build() as pipeline:
        for car in range(4):
            publish(mqtt, f"{unique}/data/car-{car}", [{"car": car, "n": n} for n in range(500)])
        settle(pipeline, 2000)
        stats = pipeline.stats()
        assert stats.state == "running"
        assert stats.is_healthy
        assert stats.is_ready
        assert stats.received_per_second > 0
        assert stats.done_per_second > 0
        assert stats.seconds > 0
    stats = pipeline.stats()
    assert (stats.state, stats.received, stats.delivered, stats.in_flight) == ("stopped", 2000, 2000, 0)
    records = topics.read(kafka, unique)
    for car in range(4):
        mine = [record.json["n"] for record in records if record.key == f"car-{car}".encode()]
        assert mine == list(range(500)), "in order"
    assert re.search(r"iotml_pipeline_delivered_rows_total\{.*\} 2000", pipeline.metrics())


def test_a_pipeline_can_be_waited_for_stopped_and_started_again(broker: str, unique: str) -> None:
    plugins = iotml.Plugins()
    kept = Kept(plugins)
    pipeline = mqtt_builder(broker, unique, plugins).route("r", encode="json", sink="keep").build()
    with pytest.raises(iotml.PipelineError, match="was not started"):
        pipeline.wait()
    pipeline.stop()
    assert pipeline.stats().state == "new"
    assert pipeline.metrics() == ""
    assert pipeline.start() is pipeline
    publish(broker, f"{unique}/data/a", SPEEDS)
    settle(pipeline, len(SPEEDS))
    pipeline.stop()
    assert pipeline.wait() is True
    assert pipeline.wait(0) is True
    assert kept.rows == SPEEDS
    # A second run goes on in the same session, and has counts of its own.
    publish(broker, f"{unique}/data/a", SPEEDS[:2])
    with pipeline:
        publish(broker, f"{unique}/data/a", SPEEDS[2:3])
        settle(pipeline, 3)
    assert pipeline.stats().received == 3
    assert kept.rows == SPEEDS + SPEEDS[:3]
    assert repr(pipeline).startswith(f"Pipeline('{unique}', Stats(stopped: received 3 = delivered 3 + ")


def test_a_wait_ends_in_time_and_leaves_others_the_interpreter(broker: str, unique: str) -> None:
    turns = 0
    done = threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            sleep(0.001)

    with mqtt_builder(broker, unique).route("r", sink="stdout").build() as pipeline:
        thread = threading.Thread(target=count)
        thread.start()
        began = monotonic()
        assert pipeline.wait(0.35) is False
        assert 0.3 < monotonic() - began < 2
        done.set()
        thread.join()
        assert turns > 20
        assert pipeline.wait(-1) is False
        with pytest.raises(ValueError, match="cannot be waited for"):
            pipeline.wait(float("nan"))
        with pytest.raises(iotml.PipelineError, match="runs already"):
            pipeline.start()
        pipeline.stop(wait=False)
        assert pipeline.wait(30) is True


def test_leaving_the_block_drains_and_raises(broker: str, unique: str, until: Until) -> None:
    plugins = iotml.Plugins()
    kept = Kept(plugins)

    @plugins.preprocessor("fragile")
    def fragile(batch: iotml.Batch) -> iotml.Batch:
        if 13.0 in batch["speed"]:
            raise ValueError("thirteen")
        return batch

    builder = mqtt_builder(broker, unique, plugins).preprocess("fragile").route("r", encode="json", sink="keep")
    pipeline = builder.build()
    with pytest.raises(KeyError, match="mine"), pipeline:
        publish(broker, f"{unique}/data/a", SPEEDS[:10])
        until(lambda: pipeline.stats().received == 10, "received")
        raise KeyError("mine")
    assert len(kept.rows) == 10
    assert pipeline.stats().state == "stopped"
    with pytest.raises(iotml.PipelineError, match="thirteen"), pipeline:
        publish(broker, f"{unique}/data/a", SPEEDS[10:])
        until(lambda: pipeline.stats().state == "failed", "failed")
    assert "thirteen" in pipeline.stats().detail
    assert not pipeline.stats().is_healthy


def test_servers_that_are_not_there(unique: str) -> None:
    closed: list[str] = []
    plugins = iotml.Plugins()

    @plugins.sink("mine")
    class Mine:
        def write(self, batch: iotml.Batch) -> None: ...

        def close(self) -> None:
            closed.append("closed")

    port = free_port()
    pipeline = (
        iotml.Pipeline.builder(unique, plugins=plugins)
        .source("kafka", topics=["t"], connect_timeout="500ms", kafka={"bootstrap.servers": f"127.0.0.1:{port}"})
        .route("r", sink="mine")
        .build()
    )
    began = monotonic()
    with pytest.raises(iotml.PipelineError, match=f"127.0.0.1:{port}") as raised:
        pipeline.start()
    assert monotonic() - began < 10
    assert isinstance(raised.value.__cause__, iotml.SourceError)
    assert pipeline.stats().state == "failed"
    assert closed == ["closed"]


def test_a_pipeline_that_nobody_holds_stops(broker: str, unique: str, until: Until) -> None:
    plugins = iotml.Plugins()
    closed: list[int] = []

    @plugins.sink("mine")
    class Mine:
        def write(self, batch: iotml.Batch) -> None: ...

        def close(self) -> None:
            closed.append(1)

    pipeline: Any = mqtt_builder(broker, unique, plugins).route("r", sink="mine").build().start()
    del pipeline
    gc.collect()
    until(lambda: closed == [1], "it has stopped")
