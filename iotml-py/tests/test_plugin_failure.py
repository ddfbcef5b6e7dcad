"""What becomes of what a stage written in Python raises."""

from __future__ import annotations

import json
import traceback
from typing import Any

import iotml
import pytest
import topics
from streams import ROWS, Kept, kafka_builder, mqtt_builder, publish, settle, stage, through


def test_an_exception_is_the_cause_of_the_failure_with_its_traceback(
    kafka: str, unique: str, plugins: iotml.Plugins
) -> None:
    topics.fill(kafka, unique, ROWS)
    calls: list[int] = []

    @plugins.preprocessor("fragile")
    class Fragile:
        def apply(self, batch: iotml.Batch) -> iotml.Batch:
            calls.append(len(batch))
            if 35.0 in batch["speed"]:
                raise ValueError("thirty-five is too much")
            return batch

    Kept(plugins)
    pipeline = kafka_builder(kafka, unique, plugins).preprocess("fragile").route("r", sink="keep").build()
    with pytest.raises(iotml.PipelineError) as raised:
        pipeline.start().wait()
    text = str(raised.value)
    assert f'preprocess "fragile" rejected a row of topic "{unique}", partition 0, offset 7' in text
    assert "ValueError: thirty-five is too much (test_plugin_failure.py, line " in text
    assert "in apply)" in text
    cause = raised.value.__cause__
    assert type(cause) is ValueError
    assert traceback.extract_tb(cause.__traceback__)[-1].name == "apply"
    # Halves are tried only up to the first bad row, because the pipeline stops there.
    assert calls == [12, 6, 6, 3, 1, 2, 1]
    assert pipeline.stats().state == "failed"
    with pytest.raises(iotml.PipelineError, match="thirty-five"):
        pipeline.wait()


def test_inv_7_a_row_that_raises_is_dead_lettered_with_cause_and_bytes_and_its_neighbours_go_on(
    kafka: str, unique: str, plugins: iotml.Plugins
) -> None:
    n_rows, bad = 1000, {3, 500, 501, 999}
    topics.create(kafka, f"{unique}-dlq")
    topics.fill(kafka, unique, ({"n": n} for n in range(n_rows)), keys=["a", "b", "c"])

    @plugins.preprocessor("fragile")
    def fragile(batch: iotml.Batch) -> dict[str, Any]:
        poison = sorted(bad & set(batch["n"].astype(int).tolist()))
        if poison:
            raise RuntimeError(f"no {poison[0]}")
        return {"twice": batch["n"] * 2}

    kept = Kept(plugins)
    builder = kafka_builder(kafka, unique, plugins, errors_tolerance="all").preprocess("fragile")
    builder.route("r", encode="json", sink="keep")
    builder.dead_letter("kafka", topic=f"{unique}-dlq", kafka={"bootstrap.servers": kafka})
    with builder.build() as pipeline:
        pipeline.wait()
    stats = pipeline.stats()
    assert (stats.received, stats.delivered, stats.dead_lettered) == (n_rows, n_rows - len(bad), len(bad))
    good = [n for n in range(n_rows) if n not in bad]
    assert kept.rows == [{"n": float(n), "twice": 2.0 * n} for n in good]
    letters = topics.read(kafka, f"{unique}-dlq")
    assert sorted(letter.json["n"] for letter in letters) == sorted(bad)
    for letter in letters:
        n = letter.json["n"]
        assert letter.value == json.dumps({"n": n}).encode()
        assert letter.key == [b"a", b"b", b"c"][n % 3]
        assert letter.headers["iotml.errors.reason"] == b"exception"
        assert letter.headers["__connect.errors.offset"] == str(n).encode()
        assert letter.headers["__connect.errors.exception.message"].startswith(f"RuntimeError: no {n} (".encode())
    assert topics.committed(kafka, unique, unique) == n_rows
    assert 'reason="exception"' in pipeline.metrics()


def test_a_failure_that_may_pass_is_tried_again(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    calls = {"apply": 0, "write": 0}

    @plugins.preprocessor("flaky")
    def flaky(batch: iotml.Batch) -> iotml.Batch:
        calls["apply"] += 1
        if calls["apply"] < 3:
            raise iotml.RetryableError("not yet")
        return batch

    written: list[Any] = []

    @plugins.sink("store")
    class Store:
        def write(self, batch: iotml.Batch) -> iotml.Result | None:
            calls["write"] += 1
            if calls["write"] == 1:
                raise ConnectionResetError("the store is away")
            if calls["write"] == 2:
                # All but the first row are written.
                written.extend(batch.payloads[1:])
                return iotml.Result(retry={0: "its shard is away"})
            written.extend(batch.payloads)
            return None

    builder = mqtt_builder(broker, unique, plugins).preprocess("flaky").route("r", encode="json", sink="store")
    with builder.build() as pipeline:
        publish(broker, f"{unique}/data/car-1", ROWS)
        settle(pipeline, len(ROWS))
    assert calls["apply"] >= 3
    assert calls["write"] >= 3
    assert sorted(json.loads(payload)["speed"] for payload in written) == [row["speed"] for row in ROWS]
    assert pipeline.stats().delivered == len(ROWS)


def test_the_retry_budget_ends_in_the_exception(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    @plugins.sink("store")
    def store(batch: iotml.Batch) -> None:
        raise TimeoutError("the store does not answer")

    builder = mqtt_builder(broker, unique, plugins, errors_retry_timeout="200ms").route("r", sink="store")
    with pytest.raises(iotml.PipelineError, match="the store does not answer") as raised, builder.build() as pipeline:
        publish(broker, f"{unique}/data/car-1", ROWS[:1])
        pipeline.wait(30)
    assert type(raised.value.__cause__) is TimeoutError


def test_a_pipeline_error_ends_the_pipeline_whatever_is_tolerated(
    broker: str, unique: str, plugins: iotml.Plugins
) -> None:
    @plugins.preprocessor("strict")
    def strict(batch: iotml.Batch) -> None:
        raise iotml.PipelineError("the licence has run out")

    with pytest.raises(iotml.PipelineError, match="the licence has run out") as raised:
        through(broker, unique, plugins, ROWS, stage("strict"), errors_tolerance="all")
    assert isinstance(raised.value.__cause__, iotml.PipelineError)


def test_open_and_close_that_fail(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    closed: list[str] = []

    @plugins.preprocessor("unopened")
    class Unopened:
        def open(self, task: iotml.Task) -> None:
            raise PermissionError("no licence")

        def apply(self, batch: iotml.Batch) -> iotml.Batch:
            return batch

    @plugins.sink("opened")
    class Opened:
        def write(self, batch: iotml.Batch) -> None: ...

        def close(self) -> None:
            closed.append("closed")

    builder = mqtt_builder(broker, unique, plugins).preprocess("unopened").route("r", sink="opened")
    with pytest.raises(iotml.PipelineError, match=r"open\(task\) failed: PermissionError: no licence") as raised:
        builder.build().start()
    assert type(raised.value.__cause__) is PermissionError
    assert closed == ["closed"], "what was opened before is closed"
