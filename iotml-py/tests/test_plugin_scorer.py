"""Scorers written in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import iotml
import numpy as np
import pytest
from streams import ROWS, Kept, through


def scored(kept: Kept) -> list[tuple[Any, ...]]:
    return [
        tuple(row.get(name) for name in ("score", "threshold", "anomaly", "model", "model_version"))
        for row in kept.rows
    ]


def test_inv_8_a_scorer_appends_the_columns_of_scorers_and_names_its_version(
    broker: str, unique: str, plugins: iotml.Plugins
) -> None:
    @plugins.scorer("distance")
    class Distance:
        threshold = 20.0
        version = 7

        def __init__(self, middle: float) -> None:
            self.middle = middle

        def score(self, batch: iotml.Batch) -> Any:
            score = abs(batch["speed"] - self.middle)
            score = np.ma.masked_array(score, batch["speed"] == 30.0)
            score[np.asarray(batch["speed"]) == 40.0] = np.nan
            return score

    score: dict[str, Any] = {"middle": 25}
    kept, stats = through(
        broker,
        unique,
        plugins,
        ROWS,
        lambda builder: builder.score("distance", **score),
        encode={"type": "json", "columns": ["speed", "score", "threshold", "anomaly", "model", "model_version"]},
        errors_tolerance="all",
    )
    assert (stats.delivered, stats.skipped) == (11, 1)
    assert 40.0 not in [row["speed"] for row in kept.rows]
    want = [
        (None, 20.0, None, "distance", "7")
        if row["speed"] == 30.0
        else (abs(row["speed"] - 25), 20.0, abs(row["speed"] - 25) >= 20, "distance", "7")
        for row in ROWS
        if row["speed"] != 40.0
    ]
    assert scored(kept) == want


def test_a_scorer_may_judge_by_itself_and_routes_follow(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    @plugins.scorer("odd")
    def odd(batch: iotml.Batch) -> Any:
        if (batch["gear"] == 5).any():
            raise ZeroDivisionError("fifth gear")
        return batch["speed"], batch["speed"] % 2 == 1

    kept, stats = through(
        broker,
        unique,
        plugins,
        ROWS,
        lambda builder: builder.score("odd"),
        when="anomaly",
        errors_tolerance="all",
    )
    assert [row["speed"] for row in kept.rows] == [5.0, 15.0, 25.0, 35.0, 45.0]
    assert stats.skipped == 2
    assert stats.received == 12
    assert stats.in_flight == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda batch: None, "score(batch) returned None; return one score a row"),
        (lambda batch: batch["speed"][:0], "has 0 values for a batch of"),
        (lambda batch: batch["car"], "score(batch) returned values of type Utf8; a score is a number"),
        (lambda batch: (1, 2, 3), "a tuple that is no pair"),
        (lambda batch: (batch["speed"], batch["speed"]), "verdicts of type Float64; a verdict is boolean"),
        (lambda batch: np.zeros((len(batch), 1)), "a column has one dimension"),
    ],
)
def test_a_wrong_score_ends_the_pipeline(
    broker: str, unique: str, plugins: iotml.Plugins, answer: Callable[[iotml.Batch], Any], message: str
) -> None:
    plugins.scorer("wrong", lambda batch: answer(batch))
    with pytest.raises(iotml.PipelineError) as raised:
        through(broker, unique, plugins, ROWS, lambda builder: builder.score("wrong"))
    assert message in str(raised.value)
