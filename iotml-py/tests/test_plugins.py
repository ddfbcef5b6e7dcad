"""Stages written in Python: what they see, what they may give back, what becomes of what they raise."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import iotml
import numpy as np
import polars
import pyarrow
import pytest
import topics
from iotml.testing import EmbeddedMqtt
from streams import Kept, kafka_builder, mqtt_builder, publish, settle, through

ROWS = [{"speed": float(speed), "gear": speed // 10, "car": f"car-{speed % 3}"} for speed in range(0, 60, 5)]


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """`host:port` of one broker for all tests here; each has topics of its own."""
    with EmbeddedMqtt() as broker:
        yield broker.address


@pytest.fixture
def plugins() -> iotml.Plugins:
    """No plug-ins yet."""
    return iotml.Plugins()


def stage(kind: str, **config: Any) -> Callable[[iotml.PipelineBuilder], iotml.PipelineBuilder]:
    """Adds a preprocessor of this type."""
    return lambda builder: builder.preprocess(kind, **config)


def test_a_batch_shows_columns_without_a_copy(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    seen: list[dict[str, Any]] = []

    @plugins.preprocessor("look")
    def look(batch: iotml.Batch) -> iotml.Batch:
        table = batch.to_arrow()
        speed = batch["speed"]
        with pytest.raises(ValueError, match="read-only"):
            speed[0] = 1.0
        with pytest.raises(ValueError, match="WRITEABLE"):
            speed.setflags(write=True)
        seen.append(
            {
                "n": len(batch),
                "columns": batch.columns,
                "types": {name: batch[name].dtype for name in batch.columns},
                "shared": np.shares_memory(speed, table["speed"].to_numpy()),
                "polars": polars.DataFrame(batch).columns,
                "has": ("speed" in batch, "sped" in batch),
                "speed": speed,
                "repr": repr(batch),
            }
        )
        return batch

    columns = [{"name": "speed", "type": "float32"}, {"name": "gear", "type": "int32"}, {"name": "car", "type": "utf8"}]

    def typed(builder: iotml.PipelineBuilder) -> iotml.PipelineBuilder:
        builder._document["decode"]["columns"] = columns
        return builder.preprocess("look")

    kept, stats = through(broker, unique, plugins, ROWS, typed)
    assert stats.delivered == stats.received == len(kept.rows) == len(ROWS)
    first = seen[0]
    assert first["columns"] == first["polars"] == ["speed", "gear", "car"]
    assert first["types"] == {"speed": np.float32, "gear": np.int32, "car": np.dtype(object)}
    assert first["shared"]
    assert first["has"] == (True, False)
    assert first["repr"].startswith("Batch(")
    assert "speed Float32" in first["repr"]
    # The arrays keep their memory when the batch is gone.
    speeds = np.concatenate([look["speed"] for look in seen])
    assert speeds.tolist() == [row["speed"] for row in ROWS]


def test_a_batch_shows_the_messages_of_its_rows(kafka: str, unique: str, plugins: iotml.Plugins) -> None:
    topics.fill(kafka, unique, ROWS[:6], keys=["a", "b"])
    seen: list[Any] = []

    @plugins.preprocessor("look")
    def look(batch: iotml.Batch) -> iotml.Batch:
        seen.append(batch)
        with pytest.raises(IndexError, match="no row 6"):
            batch.headers(6)
        return batch

    kept = Kept(plugins)
    with kafka_builder(kafka, unique, plugins).preprocess("look").route("r", sink="keep").build() as pipeline:
        pipeline.wait()
    (batch,) = seen
    assert batch.keys == [b"a", b"b"] * 3 == kept.keys
    assert batch.topics == [unique] * 6
    assert batch.partitions.tolist() == [0] * 6
    assert batch.partitions.dtype == np.int32
    assert batch.offsets.tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.offsets.dtype == np.int64
    assert batch.timestamps.dtype == "datetime64[ms]"
    assert abs(batch.timestamps[0] - np.datetime64("now")) < 60_000
    assert [json.loads(payload) for payload in batch.payloads] == ROWS[:6]
    assert batch.headers(0) == []


def test_rows_of_a_pipeline_without_a_decoder_are_bytes(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    seen: list[tuple[int, list[str], str, list[bytes | None]]] = []

    @plugins.preprocessor("look")
    def look(batch: iotml.Batch) -> Any:
        with pytest.raises(KeyError, match="the pipeline has no decoder"):
            batch["speed"]
        seen.append((batch.to_arrow().num_rows, batch.columns, repr(batch), batch.payloads))
        # Columns may begin here.
        return {"length": [len(payload or b"") for payload in batch.payloads]}

    kept = Kept(plugins)
    builder = iotml.Pipeline.builder(unique, plugins=plugins, instance=unique)
    builder.source("mqtt", server=f"mqtt://{broker}", topics=[{"filter": f"{unique}/#"}]).preprocess("look")
    with builder.route("r", encode="json", sink="keep").build() as pipeline:
        publish(broker, f"{unique}/a", [b"abc", b"", b"\xff"])
        settle(pipeline, 3)
    assert [row["length"] for row in kept.rows] == [3, 0, 1]
    assert [payload for *_, payloads in seen for payload in payloads] == [b"abc", b"", b"\xff"]
    assert sum(n_rows for n_rows, *_ in seen) == 3
    assert all(columns == [] and text.endswith(" rows: )") for _, columns, text, _ in seen)


def as_arrow(batch: iotml.Batch) -> pyarrow.Table:
    return pyarrow.table({"fast": pyarrow.array([speed > 30 for speed in batch["speed"]]), "speed": batch["speed"]})


def as_polars(batch: iotml.Batch) -> polars.DataFrame:
    return polars.DataFrame(batch).with_columns(fast=polars.col("speed") > 30).select("fast", "speed", "car")


FAST = [row["speed"] > 30 for row in ROWS]
N_FAST = sum(FAST)


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        (lambda batch: batch, ROWS),
        (lambda batch: batch["speed"] > 30, ROWS[-N_FAST:]),
        (lambda batch: (batch["speed"] > 30).tolist(), ROWS[-N_FAST:]),
        (lambda batch: pyarrow.array(batch["speed"] > 30), ROWS[-N_FAST:]),
        (lambda batch: polars.Series(batch["speed"]) > 30, ROWS[-N_FAST:]),
        (lambda batch: {"fast": batch["speed"] > 30}, [{**row, "fast": row["speed"] > 30} for row in ROWS]),
        (lambda batch: {"gear": batch["gear"].astype("int16")[::-1][::-1]}, ROWS),
        (
            lambda batch: {"car": [f"{car}!" for car in batch["car"]]},
            [{**row, "car": row["car"] + "!"} for row in ROWS],
        ),
        (lambda batch: {"car": polars.Series(batch["car"]).cast(polars.Categorical)}, ROWS),
        (as_arrow, [{"fast": row["speed"] > 30, "speed": row["speed"]} for row in ROWS]),
        (as_polars, [{"fast": row["speed"] > 30, "speed": row["speed"], "car": row["car"]} for row in ROWS]),
        (
            lambda batch: iotml.Result(keep=batch["speed"] > 30, columns={"kmh": batch["speed"] * 3.6}),
            [{**row, "kmh": row["speed"] * 3.6} for row in ROWS[-N_FAST:]],
        ),
        (
            lambda batch: {
                "none": np.ma.masked_array(batch["speed"], batch["speed"] < 50),
                "text": [None] * len(batch),
            },
            [{**row, "none": row["speed"] if row["speed"] >= 50 else None, "text": None} for row in ROWS],
        ),
        (lambda batch: {"at": batch["speed"].astype("int64").astype("datetime64[s]")}, None),
    ],
)
def test_what_a_preprocessor_may_give_back(
    broker: str, unique: str, plugins: iotml.Plugins, answer: Callable[[iotml.Batch], Any], want: list[Any] | None
) -> None:
    @plugins.preprocessor("answer")
    def answered(batch: iotml.Batch) -> Any:
        return answer(batch)

    kept, stats = through(broker, unique, plugins, ROWS, stage("answer"))
    assert stats.delivered + stats.filtered == len(ROWS)
    if want is not None:
        got = [
            {key: pytest.approx(value) if isinstance(value, float) else value for key, value in row.items()}
            for row in want
        ]
        assert kept.rows == got
    else:
        assert [row["at"] for row in kept.rows][:2] == [0, 5000], "milliseconds"


def test_inv_4_rejected_and_filtered_rows_are_counted_and_the_rest_goes_on(
    broker: str, unique: str, plugins: iotml.Plugins
) -> None:
    @plugins.preprocessor("sort_out")
    def sort_out(batch: iotml.Batch) -> iotml.Result:
        speed = batch["speed"]
        slow = {int(row): ("too_slow", f"{speed[row]} m/s") for row in np.flatnonzero(speed < 10)}
        # Rejected, whatever `keep` says of it.
        return iotml.Result(keep=(speed < 30) & (speed >= 5), reject=slow)

    kept, stats = through(broker, unique, plugins, ROWS, stage("sort_out"), errors_tolerance="all")
    assert [row["speed"] for row in kept.rows] == [10.0, 15.0, 20.0, 25.0]
    assert (stats.received, stats.delivered, stats.skipped, stats.filtered) == (12, 4, 2, 6)
    assert stats.in_flight == stats.dead_lettered == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda batch: None, "apply(batch) returned None; return the batch itself, a boolean mask"),
        (lambda batch: 7, "is an int; a preprocessor returns the batch itself"),
        (lambda batch: "all", "is a str; a preprocessor returns"),
        (lambda batch: [True] * (len(batch) + 1), "values for a batch of"),
        (lambda batch: np.ones(len(batch), int), "is of type Int64; a mask is boolean"),
        (lambda batch: np.ma.masked_array(batch["speed"] > 5, True), "has missing values; a mask says of every row"),
        (lambda batch: {"x": np.zeros((len(batch), 2))}, 'column "x" has shape ('),
        (lambda batch: {"x": [1.0] * (len(batch) + 2)}, 'column "x" has'),
        (lambda batch: {"x": np.zeros(len(batch), "complex64")}, 'column "x" is of type complex64'),
        (lambda batch: {"x": [object()] * len(batch)}, 'column "x" holds objects of type object'),
        (lambda batch: {1: batch["speed"]}, "a column is named by an int, not by a string"),
        (lambda batch: pyarrow.table({"x": [1] * (len(batch) + 1)}), "to leave rows out, return a mask"),
        (lambda batch: pyarrow.table([[1] * len(batch)] * 2, names=["x", "x"]), 'two columns "x"'),
        (lambda batch: iotml.Result(reject={len(batch): "x"}), "there is no row"),
        (lambda batch: iotml.Result(reject={-1: "x"}), "there is no row -1"),
        (lambda batch: iotml.Result(reject={0: 5}), "a reason is a text, or a word and a text, not an int"),
        (lambda batch: iotml.Result(reject={0: ("Too Slow", "x")}), '"Too Slow" is no word to count by'),
        (lambda batch: iotml.Result(reject=[0]), "Result.reject is a list; write it as a dict"),
        (lambda batch: iotml.Result(columns=[1]), "Result.columns is a list; give a dict or an Arrow table"),
        (lambda batch: iotml.Result(retry={0: "x"}), "Result.retry is for sinks"),
    ],
)
@pytest.mark.parametrize("tolerance", ["none", "all"])
def test_a_wrong_answer_ends_the_pipeline_with_what_was_wrong(
    broker: str,
    unique: str,
    plugins: iotml.Plugins,
    answer: Callable[[iotml.Batch], Any],
    message: str,
    tolerance: str,
) -> None:
    plugins.preprocessor("wrong", lambda batch: answer(batch))
    with pytest.raises(iotml.PipelineError) as raised:
        through(broker, unique, plugins, ROWS, stage("wrong"), errors_tolerance=tolerance)
    assert message in str(raised.value)
    assert str(raised.value).startswith('preprocess "wrong" failed: apply(batch) failed: ')


def test_an_unknown_column_names_those_that_are_there(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    @plugins.preprocessor("typo")
    def typo(batch: iotml.Batch) -> Any:
        with pytest.raises(TypeError, match="by its name"):
            batch[0]
        return batch["sped"] > 0

    with pytest.raises(iotml.PipelineError, match="there are") as raised:
        through(broker, unique, plugins, ROWS, stage("typo"), errors_tolerance="all")
    cause = raised.value.__cause__
    assert isinstance(cause, iotml.UnknownColumnError)
    assert isinstance(cause, KeyError)
    assert str(cause) == 'there is no column "sped"; there are "speed", "gear", "car"'


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
    assert "ValueError: thirty-five is too much (test_plugins.py, line " in text
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
    kept, dead = [], []

    @plugins.sink("picky")
    def picky(batch: iotml.Batch) -> dict[int, tuple[str, str]]:
        speeds = batch["speed"]
        if (speeds == 55.0).any() and len(batch) >= 1:
            raise KeyError("fifty-five")
        kept.extend(speeds[speeds < 30])
        return {int(row): ("too_fast", "above 30") for row in np.flatnonzero(speeds >= 30)}

    @plugins.sink("dead")
    def letters(batch: iotml.Batch) -> None:
        dead.extend(json.loads(payload)["speed"] for payload in batch.payloads)

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


def scored(kept: Kept) -> list[tuple[Any, ...]]:
    return [
        tuple(row.get(name) for name in ("score", "threshold", "anomaly", "model", "model_version"))
        for row in kept.rows
    ]


def test_inv_8_a_scorer_appends_the_columns_of_scorers_and_names_its_version(
    broker: str, unique: str, plugins: iotml.Plugins
) -> None:
    @plugins.scorer("distance")
    class Distance:
        threshold = 20.0
        version = 7

        def __init__(self, middle: float) -> None:
            self.middle = middle

        def score(self, batch: iotml.Batch) -> Any:
            score = abs(batch["speed"] - self.middle)
            score = np.ma.masked_array(score, batch["speed"] == 30.0)
            score[np.asarray(batch["speed"]) == 40.0] = np.nan
            return score

    score: dict[str, Any] = {"middle": 25}
    kept, stats = through(
        broker,
        unique,
        plugins,
        ROWS,
        lambda builder: builder.score("distance", **score),
        encode={"type": "json", "columns": ["speed", "score", "threshold", "anomaly", "model", "model_version"]},
        errors_tolerance="all",
    )
    assert (stats.delivered, stats.skipped) == (11, 1)
    assert 40.0 not in [row["speed"] for row in kept.rows]
    want = [
        (None, 20.0, None, "distance", "7")
        if row["speed"] == 30.0
        else (abs(row["speed"] - 25), 20.0, abs(row["speed"] - 25) >= 20, "distance", "7")
        for row in ROWS
        if row["speed"] != 40.0
    ]
    assert scored(kept) == want


def test_a_scorer_may_judge_by_itself_and_routes_follow(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    @plugins.scorer("odd")
    def odd(batch: iotml.Batch) -> Any:
        if (batch["gear"] == 5).any():
            raise ZeroDivisionError("fifth gear")
        return batch["speed"], batch["speed"] % 2 == 1

    kept, stats = through(
        broker,
        unique,
        plugins,
        ROWS,
        lambda builder: builder.score("odd"),
        when="anomaly",
        errors_tolerance="all",
    )
    assert [row["speed"] for row in kept.rows] == [5.0, 15.0, 25.0, 35.0, 45.0]
    assert stats.skipped == 2
    assert stats.received == 12
    assert stats.in_flight == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda batch: None, "score(batch) returned None; return one score a row"),
        (lambda batch: batch["speed"][:0], "has 0 values for a batch of"),
        (lambda batch: batch["car"], "score(batch) returned values of type Utf8; a score is a number"),
        (lambda batch: (1, 2, 3), "a tuple that is no pair"),
        (lambda batch: (batch["speed"], batch["speed"]), "verdicts of type Float64; a verdict is boolean"),
        (lambda batch: np.zeros((len(batch), 1)), "a column has one dimension"),
    ],
)
def test_a_wrong_score_ends_the_pipeline(
    broker: str, unique: str, plugins: iotml.Plugins, answer: Callable[[iotml.Batch], Any], message: str
) -> None:
    plugins.scorer("wrong", lambda batch: answer(batch))
    with pytest.raises(iotml.PipelineError) as raised:
        through(broker, unique, plugins, ROWS, lambda builder: builder.score("wrong"))
    assert message in str(raised.value)


DOCUMENT = """
[pipeline]
name = "p"

[source]
type = "mqtt"
server = "mqtt://127.0.0.1:1"
topics = [{ filter = "t" }]

[decode]
type = "json"

[[preprocess]]
type = "tuned"
STAGE

[[route]]
name = "r"
sink = { type = "stdout" }
"""


def mistakes(plugins: iotml.Plugins, table: str) -> list[str]:
    with pytest.raises(iotml.ConfigError) as raised:
        iotml.Pipeline.from_toml(text=DOCUMENT.replace("STAGE", table), plugins=plugins)
    return raised.value.mistakes


def test_keys_of_the_table_are_checked_by_the_signature(plugins: iotml.Plugins) -> None:
    made: list[dict[str, Any]] = []

    @plugins.preprocessor("tuned")
    class Tuned:
        """Turns a knob.

        More about it.
        """

        def __init__(
            self,
            factor: float,
            columns: list[str] | None = None,
            mode: Literal["fast", "slow"] = "fast",
            limits: dict[str, float] | None = None,
            folder: Path = Path("/tmp"),
        ) -> None:
            made.append(dict(locals()))
            if factor < 0:
                raise ValueError("factor must not be negative")

        def apply(self, batch: iotml.Batch) -> iotml.Batch:
            return batch

    config = 'factor = 2\ncolumns = ["a"]\nmode = "slow"\nlimits = { a = 1.5 }'
    pipeline = iotml.Pipeline.from_toml(text=DOCUMENT.replace("STAGE", config), plugins=plugins)
    assert "tuned" in pipeline.graph()
    assert (made[0]["factor"], made[0]["columns"], made[0]["mode"], made[0]["limits"]) == (2, ["a"], "slow", {"a": 1.5})
    wrong = 'facto = 2\nmode = "fats"\ncolumns = [1]\nlimits = { a = "b" }'
    assert [mistake.split(": ", 1)[1] for mistake in mistakes(plugins, wrong)] == [
        "preprocess[0].facto: unknown key; did you mean `factor`?",
        'preprocess[0].mode: "fats" is none of "fast", "slow"; did you mean `fast`?',
        "preprocess[0].columns[0]: must be a string, not a whole number",
        "preprocess[0].limits.a: must be a number, not a string",
    ]
    assert mistakes(plugins, "") == ["line 13: preprocess[0].factor: is missing"]
    (negative,) = mistakes(plugins, "factor = -1")
    assert "preprocess[0]: ValueError: factor must not be negative (test_plugins.py" in negative


def test_a_schema_of_ones_own_is_used(plugins: iotml.Plugins) -> None:
    schema = {
        "type": "object",
        "properties": {"share": {"$ref": "#/$defs/Share"}},
        "required": ["share"],
        "$defs": {"Share": {"type": "number", "minimum": 0, "maximum": 1}},
    }

    def make(**config: Any) -> Callable[[iotml.Batch], iotml.Batch]:
        return lambda batch: batch

    plugins.preprocessor("tuned", make, config_schema=schema, about="Takes a share.")
    assert mistakes(plugins, "share = 2") == ["line 15: preprocess[0].share: must be at most 1"]
    assert [entry[:3] for entry in plugins.registered] == [("preprocess", "tuned", "Takes a share.")]
    assert repr(plugins) == "Plugins(preprocess tuned)"


def test_what_cannot_be_registered(plugins: iotml.Plugins) -> None:
    async def later(batch: iotml.Batch) -> None: ...

    def positional(*numbers: int) -> None: ...

    class Nothing:
        pass

    plugins.preprocessor("tuned", Nothing)
    for name, factory, message in [
        ("Upper", Nothing, "write it in snake case"),
        ("tuned", Nothing, "already registered"),
        ("a", 5, "neither a class nor a function"),
        ("b", later, "is async"),
        ("c", positional, "has no name that a key could have"),
    ]:
        with pytest.raises(iotml.ConfigError, match=message):
            plugins.preprocessor(name, factory)  # type: ignore[call-overload]
    with pytest.raises(iotml.ConfigError, match="no JSON"):
        plugins.scorer("d", Nothing, config_schema={"a": object()})
    (mistake,) = mistakes(plugins, "")
    assert 'TypeError: the factory of "tuned" made a Nothing, which has no method apply(batch)' in mistake
    plugins.sink("kafka", lambda batch: None)
    with pytest.raises(iotml.ConfigError, match='plug-in "kafka": there is already a plug-in of this type'):
        iotml.Pipeline.from_toml(text=DOCUMENT, plugins=plugins)


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
