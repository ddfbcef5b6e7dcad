"""The picture of a comparison of models, and the command that draws it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topics
from iotml.comparison import draw

image = pytest.importorskip("matplotlib.image")

RNG = np.random.default_rng(3)
SCORES = RNG.exponential(size=(2, 400))


def summary(numbers: Any) -> dict[str, float]:
    return {"n": len(numbers), "mean": 1.0, "min": 0.0, "p50": 8.0, "p90": 9.0, "p99": 30.0, "p999": 40.0, "max": 50.0}


def version(name: str, *, shadow: bool = False, rollout: str | None = None, rate: float | None = 0.1) -> dict[str, Any]:
    truth = {"n": 50, "precision": 0.9, "recall": None, "f1": 0.8}
    return {
        "version": name,
        "shadow": shadow,
        "rollout": rollout,
        "n_rows": 400,
        "anomaly_rate": rate,
        "anomaly_rate_interval": None if rate is None else [0.8 * rate, 1.3 * rate],
        "score_percentiles": list(np.percentile(RNG.exponential(size=400), np.arange(101))),
        "latency_ms": summary(range(400)),
        "labelled": truth,
    }


REPORT = {
    "model": "cars",
    "n_rows": 1200,
    "versions": [version("3", rollout="full"), version("4", rollout="canary", rate=0.15), version("5", shadow=True)],
    "shadows": [
        {"acting": "3", "shadow": "5", "n_judged": 400, "n_both": 30, "n_only_acting": 5, "n_only_shadow": 15, "agreement": 0.95}
    ],
}


def n_colours(path: Path) -> int:
    pixels = image.imread(path)
    return len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0))


def test_every_panel_is_drawn_where_there_is_something_to_show(tmp_path: Path) -> None:
    whole = draw(REPORT, tmp_path / "whole.png")
    assert image.imread(whole).shape[1] > 2_500
    assert n_colours(whole) > 50
    plain = {**version("1"), "labelled": None, "latency_ms": None}
    small = draw({**REPORT, "versions": [plain], "shadows": []}, tmp_path / "small.png", title="one")
    assert image.imread(small).shape[1] < 1_300


def test_nothing_at_all_is_a_picture_too(tmp_path: Path) -> None:
    empty = {**version("1", rate=None), "score_percentiles": [], "labelled": None, "latency_ms": None}
    for versions in ([], [empty], [{**empty, "n_rows": 0}]):
        assert draw({**REPORT, "versions": versions, "shadows": []}, tmp_path / "empty.png").stat().st_size > 1_000


def test_the_command_draws_what_it_tells(kafka: str, unique: str, tmp_path: Path) -> None:
    names = ["1", "2"]
    rows = [
        {"model": "cars", "model_version": name, "score": float(score), "anomaly": bool(score > 3)}
        for scores in SCORES.T
        for name, score in zip(names, scores, strict=True)
    ]
    topics.fill(kafka, unique, rows, keys=["car1", "car2"])
    config = tmp_path / "score.toml"
    config.write_text(f"""
        [pipeline]
        name = "score"
        [source]
        type = "kafka"
        topics = ["{unique}-in"]
        kafka = {{ "bootstrap.servers" = "{kafka}", "group.id" = "{unique}" }}
        [decode]
        type = "json"
        columns = [{{ name = "a", type = "float64" }}]
        [score]
        type = "threshold"
        column = "a"
        threshold = {{ value = 1.0 }}
        [[route]]
        name = "predictions"
        encode = {{ type = "json" }}
        [route.sink]
        type = "kafka"
        topic = "{unique}"
        kafka = {{ "bootstrap.servers" = "{kafka}" }}
    """)
    picture, report = tmp_path / "report.png", tmp_path / "report.json"

    def compare(*more: object) -> subprocess.CompletedProcess[str]:
        words = ["model", "compare", "cars", "--config", config, *more]
        command = [sys.executable, "-m", "iotml", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = compare("--png", picture, "--json", report)
    assert done.returncode == 0, done.stderr
    assert "cars: 800 predictions" in done.stdout
    assert n_colours(picture) > 30
    found = json.loads(report.read_text())
    assert [version["n_rows"] for version in found["versions"]] == [400, 400]
    for number, version in enumerate(found["versions"]):
        scores = SCORES[number].astype(np.float32)
        assert version["score"]["p99"] == pytest.approx(np.percentile(scores, 99), rel=1e-6)
        assert version["n_anomalies"] == np.sum(scores > 3)
    assert compare("--png", picture, "--json", "-").returncode == 2
    assert compare("--png", picture, "--route", "none").returncode == 1
