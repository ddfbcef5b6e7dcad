"""Processes that fork."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

import iotml
import numpy as np
import pytest

pytestmark = [pytest.mark.usefixtures("onnxruntime"), pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]


def in_child(work: Callable[[], str]) -> str:
    """Run `work` in a forked child and give what it says."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return said


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("engine", ["onnxruntime", "tract"])
def test_a_forked_child_is_told_to_open_its_own(cars: Path, engine: str) -> None:
    scorer = iotml.Scorer(cars, engine=engine)
    x = np.full((10, 18), 20.0, np.float32)
    expected = scorer.score(x)
    for call in (lambda: str(scorer.score(x)), lambda: str(scorer.predict(x)), lambda: str(scorer.run(x))):
        said = in_child(call)
        assert said.startswith("ForkedError: this Scorer was opened by process"), said
        assert "open another" in said

    def with_its_own() -> str:
        del_me = iotml.Scorer(cars, engine="tract")
        return str(np.allclose(del_me.score(x), expected, rtol=1e-3))

    assert in_child(with_its_own) == "True"
    # The parent's is as before, also after children ended with copies of it.
    np.testing.assert_array_equal(scorer.score(x), expected)


def test_spawned_processes_take_a_scorer_along(cars: Path) -> None:
    scorer = iotml.Scorer(cars)
    parts = [np.full((10, 18), value, np.float32) for value in (10.0, 20.0, 30.0)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(scorer.score, parts)
    for scores, part in zip(found, parts, strict=True):
        np.testing.assert_array_equal(scores, scorer.score(part))
