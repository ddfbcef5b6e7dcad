"""Pipelines from Python: documents, start and stop, what they say of themselves, Ctrl-C, forks, the end."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType
from typing import Any, ClassVar

import iotml
import numpy as np
import pytest
import topics
from iotml.testing import EmbeddedMqtt
from streams import Kept, kafka_builder, mqtt_builder, publish, settle

ROWS = [{"speed": float(speed)} for speed in range(20)]
Until = Callable[[Callable[[], bool], str], None]


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """`host:port` of one broker for all tests here; each has topics of its own."""
    with EmbeddedMqtt() as broker:
        yield broker.address


DOCUMENT = """
[pipeline]
name = "p"

[source]
type = "mqtt"
server = "mqtt://BROKER"
topics = [{ filter = "NAME/#" }]

[[route]]
name = "r"
sink = { type = "stdout" }
"""

WRONG = """
[pipeline]
name = "p"
"tasks.maxx" = 2

[source]
type = "kafkaa"

[[route]]
name = "r"
when = "score >"
sink = { type = "stdout", pretty = true }
"""


def test_every_mistake_of_a_document_is_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(iotml.ConfigError) as raised:
        iotml.Pipeline.from_toml(text=WRONG)
    assert isinstance(raised.value, ValueError)
    places = [mistake.split(": ")[:2] for mistake in raised.value.mistakes]
    assert places == [
        ["line 4", 'pipeline."tasks.maxx"'],
        ["line 7", "source.type"],
        ["line 11", "route[0].when"],
        ["line 12", "route[0].sink.pretty"],
    ]
    text = str(raised.value)
    assert text.startswith("pipeline.toml has 4 mistakes:\n")
    assert all(line in text for line in raised.value.mistakes)
    file = tmp_path / "cars.toml"
    file.write_text(WRONG)
    with pytest.raises(iotml.ConfigError, match=r"cars\.toml has 4 mistakes"):
        iotml.Pipeline.from_toml(file)


def test_documents_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(iotml.ConfigError, match=r"absent\.toml: cannot be read"):
        iotml.Pipeline.from_toml(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(iotml.ConfigError, match=r"latin\.toml: cannot be read"):
        iotml.Pipeline.from_toml(str(tmp_path / "latin.toml"))
    for arguments in ({}, {"path": "a", "text": "b"}):
        with pytest.raises(iotml.ConfigError, match="either the path of a file or a text"):
            iotml.Pipeline.from_toml(**arguments)
    with pytest.raises(iotml.ConfigError, match="line 1: not valid TOML"):
        iotml.Pipeline.from_toml(text="[pipeline")


def test_a_builder_only_writes_the_document() -> None:
    builder = (
        iotml.Pipeline.builder("p", tasks_max=2, errors_tolerance="all", errors_retry_delay_max="1s", instance="a b")
        .source("mqtt", server="mqtt://127.0.0.1:1", topics=[{"filter": "cars/#", "qos": np.int64(1)}], group=None)
        .decode("json")
        .preprocess("select", columns=("speed",))
        .preprocess("clamp", name="again", columns={"speed": {"min": 0, "max": 8.5}})
        .score("threshold", column="speed", threshold={"value": 3})
        .route("all", sink="stdout", encode={"type": "json", "columns": ["score"]})
        .route("alerts", when="anomaly", required=False, sink={"type": "stdout"})
        .dead_letter("stdout")
        .state(Path("/tmp/state"), interval="5s")
        .http("127.0.0.1:0")
        .log("warn", format="json")
    )
    text = builder.toml()
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        "[pipeline]",
        "[source]",
        "[[source.topics]]",
        "[decode]",
        "[[preprocess]]",
        "[[preprocess]]",
        "[preprocess.columns.speed]",
        "[score]",
        "[score.threshold]",
        "[[route]]",
        "[route.encode]",
        "[route.sink]",
        "[[route]]",
        "[route.sink]",
        "[dead_letter]",
        "[state]",
        "[http]",
        "[log]",
    ]
    assert '"tasks.max" = 2' in text
    assert '"errors.retry.delay.max" = "1s"' in text
    assert "group" not in text
    pipeline, parsed = builder.build(), iotml.Pipeline.from_toml(text=text)
    assert json.loads(pipeline.config) == json.loads(parsed.config)
    assert json.loads(parsed.config)["preprocess"][1]["columns"] == {"speed": {"min": 0, "max": 8.5}}
    assert repr(builder).startswith("PipelineBuilder('p': pipeline, source, ")


def test_what_a_builder_refuses() -> None:
    builder = iotml.Pipeline.builder("p").source("mqtt", server="x")
    with pytest.raises(iotml.ConfigError, match=r"\[source\] is given twice"):
        builder.source("kafka")
    for value, message in [(float("nan"), "cannot be written as TOML"), (object(), "has no place in a document")]:
        with pytest.raises(iotml.ConfigError, match=message):
            iotml.Pipeline.builder("p").source("mqtt", server=value).toml()
    with pytest.raises(iotml.ConfigError) as raised:
        builder.build()
    assert any(mistake.endswith("route: is missing") for mistake in raised.value.mistakes)


def test_texts_of_any_kind_survive_the_builder(unique: str) -> None:
    name = "a\"b\\c\n\té\u2028\U0001f697\x7f'''"
    pipeline = iotml.Pipeline.builder(name).source("mqtt", server="mqtt://h", topics=[{"filter": "t"}])
    built = pipeline.route("r", sink="stdout").build()
    assert built.name == name


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
    publish(broker, f"{unique}/data/a", ROWS)
    settle(pipeline, len(ROWS))
    pipeline.stop()
    assert pipeline.wait() is True
    assert pipeline.wait(0) is True
    assert kept.rows == ROWS
    # A second run goes on in the same session, and has counts of its own.
    publish(broker, f"{unique}/data/a", ROWS[:2])
    with pipeline:
        publish(broker, f"{unique}/data/a", ROWS[2:3])
        settle(pipeline, 3)
    assert pipeline.stats().received == 3
    assert kept.rows == ROWS + ROWS[:3]
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
        publish(broker, f"{unique}/data/a", ROWS[:10])
        until(lambda: pipeline.stats().received == 10, "received")
        raise KeyError("mine")
    assert len(kept.rows) == 10
    assert pipeline.stats().state == "stopped"
    with pytest.raises(iotml.PipelineError, match="thirteen"), pipeline:
        publish(broker, f"{unique}/data/a", ROWS[10:])
        until(lambda: pipeline.stats().state == "failed", "failed")
    assert "thirteen" in pipeline.stats().detail
    assert not pipeline.stats().is_healthy


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


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


def test_inv_10_secrets_are_in_no_text(unique: str) -> None:
    secret = "hunter2-" + unique
    pipeline = (
        iotml.Pipeline.builder(unique)
        .source(
            "kafka",
            topics=["t"],
            connect_timeout="300ms",
            kafka={"bootstrap.servers": f"127.0.0.1:{free_port()}", "sasl.password": secret, "sasl.mechanism": "PLAIN"},
        )
        .route("r", sink="stdout")
        .build()
    )
    with pytest.raises(iotml.PipelineError) as raised:
        pipeline.start()
    texts = [pipeline.config, pipeline.graph(), repr(pipeline), pipeline.stats().detail, pipeline.metrics()]
    error: BaseException | None = raised.value
    while error is not None:
        texts.append(repr(error))
        error = error.__cause__
    assert not [text for text in texts if secret in text]


def test_what_a_pipeline_says_of_itself(broker: str, unique: str) -> None:
    builder = mqtt_builder(broker, unique, errors_tolerance="all").route("r", sink="stdout").http("127.0.0.1:0")
    pipeline = builder.build()
    assert pipeline.name == unique
    (warning,) = pipeline.warnings
    assert warning.startswith('line 2: pipeline."errors.tolerance": rows that fail for good are skipped')
    assert pipeline.graph().startswith(f"{unique} (1 task)\n  source      mqtt")
    assert pipeline.graph("mermaid").startswith("flowchart LR\n")
    with pytest.raises(ValueError, match='"text" and "mermaid"'):
        pipeline.graph("dot")
    assert pipeline.http is None
    with pipeline:
        publish(broker, f"{unique}/data/a", ROWS)
        settle(pipeline, len(ROWS))
        with urllib.request.urlopen(f"http://{pipeline.http}/metrics") as answer:
            assert "iotml_pipeline_received_rows_total" in answer.read().decode()
        with urllib.request.urlopen(f"http://{pipeline.http}/readyz") as answer:
            assert answer.status == 200


def test_watching_shows_the_balance(kafka: str, unique: str, capfd: pytest.CaptureFixture[str]) -> None:
    plugins = iotml.Plugins()
    Kept(plugins)
    topics.fill(kafka, unique, ROWS)
    with kafka_builder(kafka, unique, plugins).route("r", sink="keep").build() as pipeline:
        pipeline.watch(0.1)
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"{unique}: stopped, 20 received")
    assert "20 delivered" in last
    assert "0 in flight" in last


def test_watching_in_a_notebook_writes_one_table_over(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Shell:
        config: ClassVar = {"IPKernelApp": {}}

    class Handle:
        update = staticmethod(shown.append)

    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    monkeypatch.setattr(ipython, "get_ipython", Shell, raising=False)
    monkeypatch.setattr(display, "HTML", str, raising=False)
    monkeypatch.setattr(display, "display", lambda html, display_id: Handle(), raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    pipeline = mqtt_builder(broker, "a<b").route("r", sink="stdout").build()
    pipeline.start().stop(wait=False)
    pipeline.watch(0.05)
    assert "<caption>a&lt;b</caption>" in shown[-1]
    assert "<th>state</th><td>stopped</td>" in shown[-1]


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


SCRIPT = """
import os, signal, sys, threading, time
import iotml

address, name, out = sys.argv[1:4]
plugins = iotml.Plugins()

@plugins.sink("file")
def write(batch):
    time.sleep(float(os.environ.get("SLOW", "0")))
    with open(out, "ab") as file:
        file.writelines(payload + b"\\n" for payload in batch.payloads)

pipeline = (
    iotml.Pipeline.builder(name, plugins=plugins, instance=name)
    .source("mqtt", server=f"mqtt://{address}", topics=[{"filter": f"{name}/#"}])
    .route("r", sink="file")
    .build()
)
"""


def script(tmp_path: Path, body: str, address: str, name: str, **environment: str) -> subprocess.Popen[str]:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT + body)
    arguments = [sys.executable, str(file), address, name, str(tmp_path / "out")]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(arguments, text=True, env={**os.environ, **environment}, **streams)  # type: ignore[call-overload, no-any-return]


def test_ctrl_c_stops_and_drains_within_200_ms(broker: str, unique: str, tmp_path: Path, until: Until) -> None:
    body = """
pipeline.start()
print("running", flush=True)
try:
    pipeline.wait()
except KeyboardInterrupt:
    stats = pipeline.stats()
    print(stats.state, stats.received, stats.delivered, stats.in_flight, flush=True)
"""
    process = script(tmp_path, body, broker, unique)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    publish(broker, f"{unique}/a", ROWS)
    out = tmp_path / "out"
    until(lambda: out.exists() and len(out.read_bytes().splitlines()) == len(ROWS), "everything is written")
    began = monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "stopped 20 20 0\n"
    took = monotonic() - began
    assert process.wait(30) == 0
    # 200 ms for Ctrl-C to be felt, and what closing the connections takes on a busy machine.
    assert took < 1.0, took


def test_ctrl_c_waits_for_what_is_in_flight_and_a_second_one_does_not(broker: str, unique: str, tmp_path: Path) -> None:
    body = """
class Hangs:
    def write(self, batch):
        print("writing", flush=True)
        time.sleep(60)
plugins.sink("hangs", Hangs)
pipeline = (
    iotml.Pipeline.builder(name, plugins=plugins, instance=name, drain_timeout="60s")
    .source("mqtt", server=f"mqtt://{address}", topics=[{"filter": f"{name}/#"}])
    .route("r", sink="hangs")
    .build()
)
pipeline.start()
print("running", flush=True)
try:
    pipeline.wait()
except KeyboardInterrupt:
    print(pipeline.stats().state, flush=True)
    os._exit(7)
"""
    process = script(tmp_path, body, broker, unique)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    publish(broker, f"{unique}/a", ROWS[:1])
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "running\n"
    assert process.wait(30) == 7


def test_ctrl_c_while_a_pipeline_starts(unique: str, tmp_path: Path) -> None:
    body = """
pipeline = (
    iotml.Pipeline.builder(name)
    .source("kafka", topics=["t"], connect_timeout="60s", kafka={"bootstrap.servers": address})
    .route("r", sink="stdout")
    .build()
)
print("starting", flush=True)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    pipeline.start()
except KeyboardInterrupt:
    print(time.monotonic() - began < 1.0, flush=True)
    os._exit(0)
"""
    process = script(tmp_path, body, f"127.0.0.1:{free_port()}", unique)
    out, err = process.communicate(timeout=30)
    assert out.splitlines() == ["starting", "True"], err


def test_the_end_of_the_process_drains(broker: str, unique: str, tmp_path: Path, until: Until) -> None:
    body = """
pipeline.start()
print("running", flush=True)
sys.stdin.readline()
while pipeline.stats().received < 20:
    time.sleep(0.005)
print("ending", flush=True)
"""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT + body)
    process = subprocess.Popen(
        [sys.executable, str(file), broker, unique, str(tmp_path / "out")],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "SLOW": "0.3"},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "running\n"
    publish(broker, f"{unique}/a", ROWS)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ending\n"
    assert process.wait(30) == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_a_stage_that_hangs_does_not_keep_the_process(broker: str, unique: str, tmp_path: Path) -> None:
    body = """
class Hangs:
    def write(self, batch):
        print("writing", flush=True)
        time.sleep(600)
plugins.sink("hangs", Hangs)
pipeline = (
    iotml.Pipeline.builder(name, plugins=plugins, instance=name, drain_timeout="100ms")
    .source("mqtt", server=f"mqtt://{address}", topics=[{"filter": f"{name}/#"}])
    .route("r", sink="hangs")
    .build()
)
pipeline.start()
print("running", flush=True)
sys.stdin.close()
while not pipeline.stats().received:
    time.sleep(0.005)
time.sleep(0.1)
"""
    process = script(tmp_path, body, broker, unique)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    publish(broker, f"{unique}/a", ROWS[:1])
    assert process.stdout.readline() == "writing\n"
    assert process.wait(30) == 0


def test_a_forked_child_is_told(broker: str, unique: str) -> None:
    with mqtt_builder(broker, unique).route("r", sink="stdout").build() as pipeline:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            said = []
            for call in (pipeline.stats, pipeline.wait, pipeline.stop, pipeline.start, pipeline.metrics):
                try:
                    call()
                except iotml.ForkedError as error:
                    said.append(str(error))
            del pipeline
            gc.collect()
            os.write(writer, json.dumps(said).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            said = json.loads(answers.read())
        assert os.waitpid(child, 0)[1] == 0
        assert len(said) == 5
        assert all(f"this pipeline was opened by process {os.getpid()}" in text for text in said)
        assert pipeline.stats().state == "running", "the parent's goes on"
