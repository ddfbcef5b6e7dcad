"""The training examples, against the real Kafka, registry and broker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cars_topic import run
from iotml import Scorer

pytest.importorskip("tensorflow")

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of other cars, whose faults are known."""
    path = tmp_path_factory.mktemp("unseen") / "unseen.csv"
    cars = ["--cars", "200", "--ticks", "100", "--tick-seconds", "10", "--seed", "33", "--fault-share", "0.4"]
    subprocess.run([sys.executable, "-m", "iotml", "simulate", "csv", *cars, "--out", str(path)], check=True)
    return path


def test_autoencoder_finds_every_fault_and_its_data_can_be_read_again(cars_log: list[str], unseen: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "cars.onnx", tmp_path / "again.onnx"
    board = tmp_path / "board"
    run(
        "train_autoencoder.py", *cars_log, "--evaluate", unseen, "--epochs", 20, "--batch", 128, "--out", first,
        "--tensorboard", board, "--plot", tmp_path / "threshold.png",
    )  # fmt: skip
    document = json.loads(first.with_suffix(".json").read_text())
    trained, spread = document["trained"], document["distribution"]
    assert (spread["rows"], len(spread["features"])) == (trained["rows"], 18)
    assert 0 < spread["score"]["anomalies"] < 0.5
    assert min(trained["metrics"]["roc_auc"].values()) >= 0.95
    assert len(trained["metrics"]["roc_auc"]) == 4
    assert set(trained["data"]["range"]["partitions"]) == {str(number) for number in range(8)}
    assert list(board.rglob("events.out.tfevents.*"))
    assert (tmp_path / "threshold.png").stat().st_size > 10_000
    again = ["--again", first.with_suffix(".json"), "--epochs", 1, "--min-auc", 0, "--out", second]
    run("train_autoencoder.py", *cars_log, *again)
    assert json.loads(second.with_suffix(".json").read_text())["trained"]["digest"] == trained["digest"]
    assert "battery_voltage" in run("score_in_python.py", "--model", first, "--rows", unseen)


def test_lstm_beats_persistence_and_scores_alike_in_rust(cars_log: list[str], tmp_path: Path) -> None:
    path = tmp_path / "forecast.onnx"
    printed = run("train_lstm.py", *cars_log, "--look-back", 2, "--epochs", 6, "--batch", 128, "--out", path)
    assert "by persistence" in printed
    metrics = json.loads(path.with_suffix(".json").read_text())["trained"]["metrics"]
    assert metrics["loss"] < metrics["persistence"]
    assert Scorer(str(path)).n_features == 18


def test_the_readme_trains_and_scores(cars_log: list[str], tmp_path: Path) -> None:
    bootstrap, registry, topic = cars_log[1::2]
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    # Those of the life cycle of models are run by test_model_readme.py.
    ours = [block for block in blocks if "ModelStore" not in block]
    code = "\n".join(block for block in ours if "KafkaLog" in block or "Scorer" in block)
    for placeholder, name in [("localhost:9092", bootstrap), ("sensor-data", topic), ("http://localhost:8081", registry)]:
        assert placeholder in code
        code = code.replace(placeholder, name)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "<Scorer cars 1 (reconstruction, 6 features) of cars.onnx on onnxruntime>" in done.stdout
    assert (tmp_path / "cars.json").exists()
