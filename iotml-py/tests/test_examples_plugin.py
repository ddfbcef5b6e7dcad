"""The example of stages in Python, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import topics

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/python/python_plugin.py"


def test_the_example_of_python_stages_runs(kafka: str, unique: str, tmp_path: Path) -> None:
    names = ["tire_pressure_1_1", "tire_pressure_1_2", "tire_pressure_2_1", "tire_pressure_2_2"]
    rows = [dict(zip(names, (30, 31, 32, 30 + 4 * (n % 3)), strict=True)) for n in range(30)]
    rows.append({"tire_pressure_1_1": 30})
    topics.fill(kafka, unique, rows, keys=["car-0", "car-1", "car-2"])
    database = tmp_path / "tyres.sqlite"
    command: list[str | Path] = [sys.executable, EXAMPLE, "--kafka", kafka, "--topic", unique, "--database", database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "car-1: 10 rows with uneven tyres, 4 psi at worst",
        "car-2: 10 rows with uneven tyres, 8 psi at worst",
        "31 received = 30 kept + 1 rejected",
    ]
