"""The training examples, against the real Kafka, registry and broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from cars_topic import fill
from conftest import server
from iotml import Scorer

pytest.importorskip("tensorflow")

EXAMPLES = Path(__file__).parents[2] / "examples/python"


@pytest.fixture(scope="module")
def topic() -> list[str]:
    """The arguments that name a topic of 1,000 cars, filled over MQTT."""
    name = f"py-{uuid.uuid4().hex[:12]}"
    kafka, registry = server("IOTML_KAFKA"), server("IOTML_REGISTRY")
    fill(kafka, server("IOTML_MOSQUITTO"), registry, name, n_cars=1_000, n_readings=100, seed=21)
    return ["--bootstrap", kafka, "--registry", registry, "--topic", name]


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of other cars, whose faults are known."""
    path = tmp_path_factory.mktemp("unseen") / "unseen.csv"
    cars = ["--cars", "200", "--ticks", "100", "--tick-seconds", "10", "--seed", "33", "--fault-share", "0.4"]
    subprocess.run([sys.executable, "-m", "iotml", "simulate", "csv", *cars, "--out", str(path)], check=True)
    return path


def run(example: str, *arguments: object) -> str:
    """Run an example, and give what it prints."""
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_autoencoder_finds_every_fault_and_its_data_can_be_read_again(topic: list[str], unseen: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "cars.onnx", tmp_path / "again.onnx"
    board = tmp_path / "board"
    run(
        "train_autoencoder.py", *topic, "--evaluate", unseen, "--epochs", 25, "--batch", 256, "--out", first,
        "--tensorboard", board, "--plot", tmp_path / "threshold.png",
    )  # fmt: skip
    trained = json.loads(first.with_suffix(".json").read_text())["trained"]
    assert min(trained["metrics"]["roc_auc"].values()) >= 0.95
    assert len(trained["metrics"]["roc_auc"]) == 4
    assert set(trained["data"]["range"]["partitions"]) == {str(number) for number in range(8)}
    assert list(board.rglob("events.out.tfevents.*"))
    assert (tmp_path / "threshold.png").stat().st_size > 10_000
    again = ["--again", first.with_suffix(".json"), "--epochs", 1, "--min-auc", 0, "--out", second]
    run("train_autoencoder.py", *topic, *again)
    assert json.loads(second.with_suffix(".json").read_text())["trained"]["digest"] == trained["digest"]
    assert "battery_voltage" in run("score_in_python.py", "--model", first, "--rows", unseen)


def test_lstm_beats_persistence_and_scores_alike_in_rust(topic: list[str], tmp_path: Path) -> None:
    path = tmp_path / "forecast.onnx"
    printed = run("train_lstm.py", *topic, "--look-back", 2, "--epochs", 2, "--batch", 128, "--out", path)
    assert "by persistence" in printed
    metrics = json.loads(path.with_suffix(".json").read_text())["trained"]["metrics"]
    assert metrics["loss"] < metrics["persistence"]
    assert Scorer(str(path)).n_features == 18


@pytest.mark.torch
def test_torch_module_from_the_log(topic: list[str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run("train_torch.py", *topic, "--epochs", 3, "--out", tmp_path / "cars.onnx")
    assert Scorer(str(tmp_path / "cars.onnx")).n_features == 18
