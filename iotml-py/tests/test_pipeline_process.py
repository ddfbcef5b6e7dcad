"""Pipelines and their process: Ctrl-C, its end, forks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from streams import SPEEDS, free_port, publish

Until = Callable[[Callable[[], bool], str], None]

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
    publish(broker, f"{unique}/a", SPEEDS)
    out = tmp_path / "out"
    until(lambda: out.exists() and len(out.read_bytes().splitlines()) == len(SPEEDS), "everything is written")
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
    publish(broker, f"{unique}/a", SPEEDS[:1])
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
    publish(broker, f"{unique}/a", SPEEDS)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ending\n"
    assert process.wait(30) == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert [json.loads(line) for line in lines] == SPEEDS


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
    publish(broker, f"{unique}/a", SPEEDS[:1])
    assert process.stdout.readline() == "writing\n"
    assert process.wait(30) == 0


def test_a_forked_child_is_told(broker: str, unique: str, tmp_path: Path) -> None:
    # In a process of its own: a child of this one would also collect what earlier tests have left.
    body = """
import json

pipeline.start()
child = os.fork()
if child == 0:
    said = []
    for call in (pipeline.stats, pipeline.wait, pipeline.stop, pipeline.start, pipeline.metrics):
        try:
            call()
        except iotml.ForkedError as error:
            said.append(str(error))
    # Dropped as well, where its threads are not.
    del call, pipeline
    print(json.dumps(said), flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1], os.getpid(), pipeline.stats().state, flush=True)
pipeline.stop()
"""
    process = script(tmp_path, body, broker, unique)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    said, parent = out.splitlines()
    status, parent_id, state = parent.split()
    assert (status, state) == ("0", "running"), "the child ended well, and the parent's goes on"
    assert len(json.loads(said)) == 5
    assert all(f"this pipeline was opened by process {parent_id}" in text for text in json.loads(said))


def test_a_process_may_end_right_after_its_pipeline(broker: str, unique: str, tmp_path: Path) -> None:
    # A thread of the sink that came back to the interpreter while that one ended would crash the process, now and then.
    for _ in range(20):
        process = script(tmp_path, "pipeline.start().stop()", broker, unique)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
