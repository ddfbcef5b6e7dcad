"""The wheel as others get it: in a bare environment outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy
import pytest

CHECK = """
import sys
import numpy as np
import iotml
scorer = iotml.Scorer(sys.argv[1])
score = scorer.score(np.full((3, 18), 20.0, np.float32))
assert score.shape == (3,) and np.isfinite(score).all()
assert "onnxruntime" not in sys.modules
print(scorer.engine, iotml.__version__, iotml.__file__)
"""


@pytest.fixture
def bare(tmp_path: Path, wheel: Path) -> Path:
    """The Python of an environment that has NumPy, the wheel and nothing else."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True, symlinks=True)
    packages = next(folder.glob("lib/python3*/site-packages"))
    # NumPy as it is here, for want of a network.
    for entry in Path(numpy.__file__).parents[1].glob("numpy*"):
        (packages / entry.name).symlink_to(entry)
    python = folder / "bin" / "python"
    _run(tmp_path, python, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", wheel)
    return python


def _run(home: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in surroundings without ONNX Runtime, compilers or a repository."""
    surroundings = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    return subprocess.run(command, check=True, cwd=home, env=surroundings, capture_output=True, text=True)


def test_it_installs_and_scores_with_tract_where_there_is_nothing_else(bare: Path, cars: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, bare, "-c", CHECK, cars)
    engine, version, file = run.stdout.split()
    assert engine == "tract"
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert Path(file).is_relative_to(tmp_path)
    assert run.stderr == ""


def test_its_command_is_there(bare: Path, tmp_path: Path) -> None:
    assert "demo" in _run(tmp_path, bare.parent / "iotml", "--help").stdout


def test_an_installed_onnxruntime_is_found_but_not_imported(cars: Path, tmp_path: Path) -> None:
    # This interpreter's own package, although neither PATH nor a variable leads to it.
    assert _run(tmp_path, sys.executable, "-c", CHECK, cars).stdout.startswith("onnxruntime ")


def test_it_says_what_it_needs_of_a_machine(wheel: Path, tmp_path: Path) -> None:
    assert re.search(r"-cp310-abi3-manylinux_2_28_(x86_64|aarch64)\.whl$", wheel.name)
    shown = _run(tmp_path, sys.executable, "-m", "auditwheel", "show", wheel).stdout
    assert re.search(r'platform tag:\s+"manylinux_2_(5|12|17|28)_', shown), shown


def test_it_holds_its_types_and_no_other_library(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        metadata = files.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {"iotml/py.typed", "iotml/_iotml.pyi", "iotml/__init__.py"} <= set(names)
    assert [name for name in names if ".so" in name] == ["iotml/_iotml.abi3.so"]
    extras = re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)
    assert {"onnxruntime", "tensorflow", "torch", "polars", "arrow"} <= set(extras)
    # Stripped: with its debug information it would be ten times that.
    assert os.stat(wheel).st_size < 40e6
