"""The example that lets a model drift, and another program that sees to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cars_topic import run
from conftest import server

pytest.importorskip("tensorflow")


def test_a_model_that_drifts_is_retrained_canaried_and_promoted(unique: str, tmp_path: Path) -> None:
    addresses = {"--kafka": "IOTML_KAFKA", "--mqtt": "IOTML_MOSQUITTO", "--registry": "IOTML_REGISTRY"}
    servers = [word for flag, name in addresses.items() for word in (flag, server(name))]
    printed = run("drift.py", *servers, "--topic", unique, "--out", tmp_path)
    told = json.loads(printed.splitlines()[-1])
    assert told["versions"] == ["1", "2"], printed
    assert told["updated"] < told["canary"] < told["promoted"], printed
    assert told["anomalies_before"] < 0.05, printed
    assert told["anomalies_drifted"] > 5 * told["anomalies_before"] + 0.1, printed
    assert told["anomalies_after"] < 0.05, printed
    assert (tmp_path / "drift.png").stat().st_size > 10_000
