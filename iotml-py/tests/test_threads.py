"""Scorers and threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import iotml
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("onnxruntime")


@pytest.mark.parametrize("engine", ["onnxruntime", "tract"])
def test_many_threads_get_their_own_scores(cars: Path, engine: str) -> None:
    scorer = iotml.Scorer(cars, engine=engine)
    inputs = [np.random.default_rng(seed).normal(20, 5, (seed * 37 + 1, 18)).astype(np.float32) for seed in range(16)]
    expected = [scorer.score(x) for x in inputs]
    start = threading.Barrier(8)

    def work(thread: int) -> None:
        start.wait()
        for turn in range(50):
            at = (thread + turn) % len(inputs)
            np.testing.assert_array_equal(scorer.score(inputs[at]), expected[at])
            assert scorer.score(inputs[at][0]) == pytest.approx(float(expected[at][0]), rel=1e-5)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, thread) for thread in range(8)]:
            done.result()


def test_python_runs_while_rows_are_scored(cars: Path) -> None:
    scorer = iotml.Scorer(cars)
    x = np.full((4_000_000, 18), 20.0, np.float32)
    thread = threading.Thread(target=scorer.score, args=(x,))
    thread.start()
    steps = 0
    while thread.is_alive():
        steps += 1
    # With the GIL held all the time there would be the few between the start and the call.
    assert steps > 10_000
