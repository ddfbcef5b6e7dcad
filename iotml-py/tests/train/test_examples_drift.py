"""The example that lets a model drift, and another program that sees to it."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import cars_topic


def test_a_model_that_drifts_is_retrained_canaried_and_promoted(
    kafka: str, mosquitto: str, registry: str, tmp_path: Path
) -> None:
    servers = ["--kafka", kafka, "--mqtt", mosquitto, "--registry", registry, "--topic", f"drift-{uuid4().hex[:8]}"]
    printed = cars_topic.run("drift.py", *servers, "--out", tmp_path)
    told = json.loads(printed.splitlines()[-1])
    assert told["versions"] == ["1", "2"], printed
    assert told["updated"] < told["canary"] < told["promoted"], printed
    assert told["anomalies_before"] < 0.05, printed
    assert told["anomalies_drifted"] > 5 * told["anomalies_before"] + 0.1, printed
    assert told["anomalies_after"] < 0.05, printed
    assert (tmp_path / "drift.png").stat().st_size > 10_000
