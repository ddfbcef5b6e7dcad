"""The command line `iotml`, as a process of its own."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fastavro
import iotml
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
import topics
from iotml.cli import main
from streams import publish

CHECKOUT = Path(__file__).resolve().parents[2]
MODEL = CHECKOUT / "testdata/cars/cars-autoencoder.onnx"
Until = Callable[[Callable[[], bool], str], None]


def cli(*words: object, script: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = [str(script)] if script else ["-m", "iotml"]
    command = [sys.executable, *program, *map(str, words)]
    environment = {key: value for key, value in os.environ.items() if key != "RUST_LOG"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def test_the_help_lists_every_command() -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert "Usage: iotml <COMMAND>" in done.stdout
    listed = re.findall(r"^  ([a-z]+) ", done.stdout, re.MULTILINE)
    workers = ["run", "validate", "plugins", "graph", "schema"]
    remote = ["audit", "status", "pause", "resume", "restart", "leave"]
    assert listed == [*workers, *remote, "replay", "model", "demo", "simulate", "train", "export", "score", "help"]
    assert re.search(r"^  replay +Show dead letters", done.stdout, re.MULTILINE)
    assert cli("--version").stdout == f"iotml {iotml.__version__}\n"
    assert "--model" in cli("score", "--help").stdout
    assert "usage: iotml score" in cli("help", "score").stdout
    assert "--cars" in cli("demo", "--help").stdout
    assert "mqtt" in cli("help", "simulate").stdout
    wrong = cli("rum")
    assert (wrong.returncode == 2 and "did you mean" in wrong.stderr) or "similar" in wrong.stderr


def test_a_worker_validates_draws_and_describes(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    text = iotml.Pipeline.builder("p").source("mqtt", server="mqtt://h", topics=[{"filter": "t"}])
    good.write_text(text.route("r", sink="stdout").toml())
    bad.write_text(good.read_text().replace("stdout", "stdot").replace("[source]", "[source]\nqos = 9"))
    assert cli("validate", good).stdout == f'{good}: pipeline "p" is valid\n'
    done = cli("validate", good, bad)
    assert done.returncode == 2
    assert "did you mean `stdout`?" in done.stderr
    assert "source.qos: unknown key" in done.stderr
    assert cli("graph", good).stdout.startswith("p (1 task)\n")
    listed = cli("plugins").stdout
    assert all(word in listed for word in ("kafka", "mqtt", "onnx", "confluent_avro", "clamp"))
    assert json.loads(cli("schema").stdout)["$defs"]["score.onnx"]["properties"]["model"]


WORKER = """
import sys
import iotml

plugins = iotml.Plugins()

@plugins.preprocessor("faster_than")
def faster_than(batch, *, limit: float = 0.0):
    "Keeps what is fast."
    return batch["speed"] > limit

if __name__ == "__main__":
    sys.exit(plugins.main())
"""


def test_a_worker_with_stages_in_python(broker: str, unique: str, tmp_path: Path, until: Until) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    assert re.search(r"^  faster_than +Keeps what is fast\.$", cli("plugins", script=script).stdout, re.MULTILINE)
    described = cli("plugins", "describe", "preprocess/faster_than", script=script).stdout
    assert "limit" in described
    assert "0.0" in described
    schema = json.loads(cli("schema", script=script).stdout)["$defs"]["preprocess.faster_than"]
    assert schema["properties"]["limit"] == {"type": "number", "default": 0.0}

    file = tmp_path / "fast.toml"
    builder = iotml.Pipeline.builder(unique, instance=unique)
    builder.source("mqtt", server=f"mqtt://{broker}", topics=[{"filter": f"{unique}/#"}]).decode("json")
    builder._document["preprocess"] = [{"type": "faster_than", "limit": 10}]
    file.write_text(builder.route("r", encode="json", sink="stdout").log("info").toml())
    command = [sys.executable, str(script), "run", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stderr:
        if "the pipeline runs" in line:
            break
    publish(broker, f"{unique}/a", [{"speed": speed} for speed in (5, 15, 25)])
    rows = [process.stdout.readline() for _ in range(2)]
    assert ["15" in rows[0], "25" in rows[1]] == [True, True], rows
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "received 3 = delivered 2" in err
    assert "filtered 1" in err


def test_ctrl_c_ends_a_command_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "iotml", "demo", "--cars", "10", "--seconds", "600", "--metrics", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ready"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, "clean: nothing was lost" in out) == (0, True), err


def test_the_demo_runs_from_the_module_alone() -> None:
    done = cli("demo", "--cars", "20", "--seconds", "2", "--metrics", "127.0.0.1:0")
    assert done.returncode == 0, done.stderr
    assert "lost 0" in done.stdout
    assert "clean: nothing was lost" in done.stdout


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same readings of cars as CSV, Parquet and Avro."""
    folder = tmp_path_factory.mktemp("cars")
    files = {kind: folder / f"cars.{kind}" for kind in ("csv", "avro", "parquet")}
    for kind in ("csv", "avro"):
        done = cli("simulate", kind, "--cars", 7, "--ticks", 30, "--seed", 5, "--out", files[kind])
        assert (done.returncode, "210 r" in done.stdout) == (0, True), done.stderr
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(files["csv"]), files["parquet"])
    return files


def test_files_are_scored_like_arrays(cars: dict[str, Path], tmp_path: Path) -> None:
    scorer = iotml.Scorer(MODEL)
    with cars["csv"].open() as text:
        rows = list(csv.DictReader(text))
    x = np.array([[float(row[name]) for name in scorer.features] for row in rows])
    want = scorer.predict(x)
    for kind, file in cars.items():
        out = tmp_path / f"{kind}.csv"
        done = cli("score", file, "--model", MODEL, "--out", out, "--batch", 64)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith("210 of 210 rows scored by cars 1 (")
        with out.open() as written:
            found = list(csv.DictReader(written))
        np.testing.assert_allclose([float(row["score"]) for row in found], want.score, rtol=1e-3, atol=1e-7)
        assert want.anomaly is not None
        assert [row["anomaly"] for row in found] == [str(bool(anomaly)) for anomaly in want.anomaly]
        assert {(row["model"], row["model_version"], row["error"]) for row in found} == {("cars", "1", "")}
        assert [row["speed"] for row in found][:3] == [row["speed"] for row in rows][:3] or kind != "csv"
    with cars["avro"].open("rb") as stream:
        assert len(list(fastavro.reader(stream))) == len(rows)
    lines = cli("score", cars["parquet"], "--model", MODEL, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["score"] for line in lines] == pytest.approx(want.score.tolist(), rel=1e-5)


def test_a_row_without_a_number_has_no_score_and_its_neighbours_do(cars: dict[str, Path], tmp_path: Path) -> None:
    lines = cars["csv"].read_text().splitlines()
    names = lines[0].split(",")
    bad = lines[2].split(",")
    bad[names.index("speed")], bad[names.index("coolant_temp")] = "fast", ""
    file = tmp_path / "bad.csv"
    file.write_text("\n".join([*lines[:2], ",".join(bad), *lines[3:6]]) + "\n")
    done = cli("score", file, "--model", MODEL)
    assert done.returncode == 0
    assert done.stderr.startswith("4 of 5 rows scored")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert rows[1]["score"] == rows[1]["anomaly"] == ""
    assert rows[1]["error"] == "no number: coolant_temp, speed"
    assert all(row["score"] and not row["error"] for at, row in enumerate(rows) if at != 1)


def test_columns_that_no_cell_can_hold_are_left_out_by_name(cars: dict[str, Path], tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(cars["parquet"])
    table = table.append_column("tags", pyarrow.array([["a", "b"]] * len(table)))
    missing = pyarrow.array([None] + [1] * (len(table) - 1), pyarrow.int64())
    pyarrow.parquet.write_table(table.append_column("trip", missing), tmp_path / "tags.parquet")
    done = cli("score", tmp_path / "tags.parquet", "--model", MODEL)
    assert done.returncode == 1
    assert 'column "tags" is List(' in done.stderr
    assert "name the columns to keep with --columns" in done.stderr
    done = cli("score", tmp_path / "tags.parquet", "--model", MODEL, "--columns", "car, trip")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert list(rows[0])[:2] == ["car", "trip"]
    assert [row["trip"] for row in rows[:2]] == ["", "1.0"]
    assert len(rows) == 210
    done = cli("score", tmp_path / "tags.parquet", "--model", MODEL, "--columns", "carr")
    assert (done.returncode, 'no column "carr"; there are: ' in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cars.txt", b"", "is too short to be a file of rows"),
        ("cars.csv", b"", "has no header"),
        ("cars.csv", b"car,speed\n", "the file has no column coolant_temp, "),
        ("cars.csv", b"\xff,b\n", "is not UTF-8"),
        ("cars.parquet", b"no parquet", "is neither a Parquet file nor an Avro container file"),
        ("cars.avro", b"Obj\x01 and nothing more", "is no sound Avro container file"),
    ],
)
def test_files_that_cannot_be_scored(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    done = cli("score", tmp_path / name, "--model", MODEL)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    absent = cli("score", tmp_path / "absent.csv", "--model", MODEL)
    assert absent.returncode == 1
    assert "cannot be read: No such file" in absent.stderr


def test_the_command_line_can_be_called_from_python(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["--version"]) == 0
    assert main(["validate", "/absent.toml"]) == 2
    assert signal.getsignal(signal.SIGINT) is before
    assert "cannot be read" in capfd.readouterr().err


def test_the_simulator_publishes_to_a_broker(mqtt: str, kafka: str, unique: str) -> None:
    topics.create(kafka, unique)
    bridge = (
        iotml.Pipeline.builder(unique, instance=unique)
        .source("mqtt", server=f"mqtt://{mqtt}", topics=[{"filter": "vehicles/sensor/data/{car}", "key": "{car}"}])
        .route("r", sink={"type": "kafka", "topic": unique, "kafka": {"bootstrap.servers": kafka}})
        .build()
    )
    with bridge:
        done = cli("simulate", "mqtt", "--server", mqtt, "--cars", 5, "--messages", 8, "--rate", 50, "--ramp-up", 0.1)
        assert (done.returncode, "40 of 40 messages acknowledged" in done.stdout) == (0, True), done.stderr
        while bridge.stats().received < 40 or bridge.stats().in_flight:
            assert not bridge.wait(0.01)
    records = topics.read(kafka, unique)
    assert len(records) == 40
    assert len({record.key for record in records}) == 5
