"""Sinks written in Python."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import iotml
import numpy as np
import pytest
import topics
from streams import ROWS, kafka_builder, mqtt_builder, publish, settle


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (True, "write(batch) returned a bool; return None when all is written"),
        ({99: "x"}, "there is no row 99"),
        (iotml.Result(keep=[True]), "a sink has only rows to reject or to retry"),
        (iotml.Result(reject={0: "x"}, retry={0: "x"}), "both rejects and retries row 0"),
    ],
)
def test_a_sink_says_which_rows_failed_and_nothing_else(
    broker: str, unique: str, plugins: iotml.Plugins, written: Any, message: str
) -> None:
    plugins.sink("odd", lambda batch: written)
    builder = mqtt_builder(broker, unique, plugins).route("r", encode="json", sink="odd")
    with pytest.raises(iotml.PipelineError) as raised, builder.build() as pipeline:
        publish(broker, f"{unique}/data/car-1", [{"n": 1}])
        pipeline.wait(30)
    assert message in str(raised.value)


def test_inv_7_rows_that_a_sink_refuses_are_dead_lettered_alone(
    broker: str, unique: str, plugins: iotml.Plugins
) -> None:
    kept: list[float] = []
    dead: list[float] = []

    @plugins.sink("picky")
    def picky(batch: iotml.Batch) -> dict[int, tuple[str, str]]:
        speeds = batch["speed"]
        if (speeds == 55.0).any() and len(batch) >= 1:
            raise KeyError("fifty-five")
        kept.extend(speeds[speeds < 30])
        return {int(row): ("too_fast", "above 30") for row in np.flatnonzero(speeds >= 30)}

    @plugins.sink("dead")
    def letters(batch: iotml.Batch) -> None:
        dead.extend(json.loads(payload or b"null")["speed"] for payload in batch.payloads)

    builder = mqtt_builder(broker, unique, plugins, errors_tolerance="all")
    builder.route("r", encode="json", sink="picky").dead_letter("dead")
    with builder.build() as pipeline:
        publish(broker, f"{unique}/data/car-1", ROWS)
        settle(pipeline, len(ROWS))
    stats = pipeline.stats()
    assert sorted(set(kept)) == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]
    assert sorted(dead) == [30.0, 35.0, 40.0, 45.0, 50.0, 55.0]
    assert (stats.received, stats.delivered, stats.dead_lettered) == (12, 6, 6)


def test_every_task_has_instances_of_its_own_and_a_sink_has_one_thread(
    broker: str, unique: str, plugins: iotml.Plugins
) -> None:
    tasks: list[tuple[object, Any, int]] = []
    threads: dict[object, list[tuple[str, int]]] = {}

    @plugins.preprocessor("mine")
    class Mine:
        def open(self, task: iotml.Task) -> None:
            tasks.append((self, task, threading.get_ident()))

        def apply(self, batch: iotml.Batch) -> iotml.Batch:
            assert threading.get_ident() in [thread for me, _, thread in tasks if me is self]
            return batch

    @plugins.sink("threaded")
    class Threaded:
        def note(self, what: str) -> None:
            threads.setdefault(self, []).append((what, threading.get_ident()))

        def open(self, task: iotml.Task) -> None:
            self.note("open")
            self.local = threading.local()
            self.local.value = task.number

        def write(self, batch: iotml.Batch) -> None:
            assert self.local.value in (0, 1), "what is kept by thread stays"
            self.note("write")

        def close(self) -> None:
            self.note("close")

    builder = mqtt_builder(broker, unique, plugins, tasks_max=2).preprocess("mine").route("r", sink="threaded")
    builder._document["source"]["group"] = unique
    with builder.build() as pipeline:
        publish(broker, f"{unique}/data/car-1", ROWS * 5)
        settle(pipeline, len(ROWS) * 5)
    assert sorted(task.number for _, task, _ in tasks) == [0, 1]
    assert len({id(me) for me, _, _ in tasks}) == len({thread for *_, thread in tasks}) == 2
    assert {(task.pipeline, task.instance, task.n_tasks) for _, task, _ in tasks} == {(unique, unique, 2)}
    assert repr(tasks[0][1]).startswith(f'Task(pipeline="{unique}"')
    opened = {me: calls for me, calls in threads.items() if calls}
    assert len(opened) == 2
    for calls in opened.values():
        assert calls[0][0] == "open"
        assert calls[-1][0] == "close"
        assert len({thread for _, thread in calls}) == 1
    assert not {calls[0][1] for calls in opened.values()} & {thread for *_, thread in tasks}


def test_inv_1_and_5_a_sink_that_hangs_holds_back_acknowledgements_and_nothing_else(
    kafka: str, unique: str, plugins: iotml.Plugins, until: Callable[[Callable[[], bool], str], None]
) -> None:
    topics.fill(kafka, unique, ROWS)
    go_on, written = threading.Event(), []

    @plugins.sink("slow")
    def slow(batch: iotml.Batch) -> None:
        assert go_on.wait(30)
        written.extend(batch.payloads)

    builder = kafka_builder(kafka, unique, plugins, stop_at_end=False)
    builder._document["source"]["commit_interval"] = "10ms"
    pipeline = builder.route("r", sink="slow").build().start()
    until(lambda: pipeline.stats().received == len(ROWS), "all rows are received")
    # Later rows are received while the write hangs.
    topics.fill(kafka, unique, ROWS)
    until(lambda: pipeline.stats().received == 2 * len(ROWS), "later rows are received")
    stats = pipeline.stats()
    assert (stats.delivered, stats.in_flight, written) == (0, 2 * len(ROWS), [])
    assert topics.committed(kafka, unique, unique) <= 0
    go_on.set()
    until(lambda: pipeline.stats().delivered == 2 * len(ROWS), "everything is written")
    pipeline.stop()
    assert topics.committed(kafka, unique, unique) == 2 * len(ROWS)
    assert len(written) == 2 * len(ROWS)
