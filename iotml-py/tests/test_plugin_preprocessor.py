"""What a preprocessor written in Python may give back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import iotml
import numpy as np
import polars
import pyarrow
import pytest
from streams import ROWS, stage, through


def as_arrow(batch: iotml.Batch) -> pyarrow.Table:
    return pyarrow.table({"fast": pyarrow.array([speed > 30 for speed in batch["speed"]]), "speed": batch["speed"]})


def wrong(value: Any) -> Any:
    """What types would not allow."""
    return value


def as_polars(batch: iotml.Batch) -> polars.DataFrame:
    return polars.DataFrame(batch).with_columns(fast=polars.col("speed") > 30).select("fast", "speed", "car")


FAST = [row["speed"] > 30 for row in ROWS]

N_FAST = sum(FAST)


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        (lambda batch: batch, ROWS),
        (lambda batch: batch["speed"] > 30, ROWS[-N_FAST:]),
        (lambda batch: (batch["speed"] > 30).tolist(), ROWS[-N_FAST:]),
        (lambda batch: pyarrow.array(batch["speed"] > 30), ROWS[-N_FAST:]),
        (lambda batch: polars.Series(batch["speed"]) > 30, ROWS[-N_FAST:]),
        (lambda batch: {"fast": batch["speed"] > 30}, [{**row, "fast": row["speed"] > 30} for row in ROWS]),
        (lambda batch: {"gear": batch["gear"].astype("int16")[::-1][::-1]}, ROWS),
        (
            lambda batch: {"car": [f"{car}!" for car in batch["car"]]},
            [{**row, "car": row["car"] + "!"} for row in ROWS],
        ),
        (lambda batch: {"car": polars.Series(batch["car"]).cast(polars.Categorical)}, ROWS),
        (as_arrow, [{"fast": row["speed"] > 30, "speed": row["speed"]} for row in ROWS]),
        (as_polars, [{"fast": row["speed"] > 30, "speed": row["speed"], "car": row["car"]} for row in ROWS]),
        (
            lambda batch: iotml.Result(keep=batch["speed"] > 30, columns={"kmh": batch["speed"] * 3.6}),
            [{**row, "kmh": row["speed"] * 3.6} for row in ROWS[-N_FAST:]],
        ),
        (
            lambda batch: {
                "none": np.ma.masked_array(batch["speed"], batch["speed"] < 50),
                "text": [None] * len(batch),
            },
            [{**row, "none": row["speed"] if row["speed"] >= 50 else None, "text": None} for row in ROWS],
        ),
        (lambda batch: {"at": batch["speed"].astype("int64").astype("datetime64[s]")}, None),
    ],
)
def test_what_a_preprocessor_may_give_back(
    broker: str, unique: str, plugins: iotml.Plugins, answer: Callable[[iotml.Batch], Any], want: list[Any] | None
) -> None:
    @plugins.preprocessor("answer")
    def answered(batch: iotml.Batch) -> Any:
        return answer(batch)

    kept, stats = through(broker, unique, plugins, ROWS, stage("answer"))
    assert stats.delivered + stats.filtered == len(ROWS)
    if want is not None:
        got = [
            {key: pytest.approx(value) if isinstance(value, float) else value for key, value in row.items()}
            for row in want
        ]
        assert kept.rows == got
    else:
        assert [row["at"] for row in kept.rows][:2] == [0, 5000], "milliseconds"


def test_inv_4_rejected_and_filtered_rows_are_counted_and_the_rest_goes_on(
    broker: str, unique: str, plugins: iotml.Plugins
) -> None:
    @plugins.preprocessor("sort_out")
    def sort_out(batch: iotml.Batch) -> iotml.Result:
        speed = batch["speed"]
        slow = {int(row): ("too_slow", f"{speed[row]} m/s") for row in np.flatnonzero(speed < 10)}
        # Rejected, whatever `keep` says of it.
        return iotml.Result(keep=(speed < 30) & (speed >= 5), reject=slow)

    kept, stats = through(broker, unique, plugins, ROWS, stage("sort_out"), errors_tolerance="all")
    assert [row["speed"] for row in kept.rows] == [10.0, 15.0, 20.0, 25.0]
    assert (stats.received, stats.delivered, stats.skipped, stats.filtered) == (12, 4, 2, 6)
    assert stats.in_flight == stats.dead_lettered == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda batch: None, "apply(batch) returned None; return the batch itself, a boolean mask"),
        (lambda batch: 7, "is an int; a preprocessor returns the batch itself"),
        (lambda batch: "all", "is a str; a preprocessor returns"),
        (lambda batch: [True] * (len(batch) + 1), "values for a batch of"),
        (lambda batch: np.ones(len(batch), int), "is of type Int64; a mask is boolean"),
        (lambda batch: np.ma.masked_array(batch["speed"] > 5, True), "has missing values; a mask says of every row"),
        (lambda batch: {"x": np.zeros((len(batch), 2))}, 'column "x" has shape ('),
        (lambda batch: {"x": [1.0] * (len(batch) + 2)}, 'column "x" has'),
        (lambda batch: {"x": np.zeros(len(batch), "complex64")}, 'column "x" is of type complex64'),
        (lambda batch: {"x": [object()] * len(batch)}, 'column "x" holds objects of type object'),
        (lambda batch: {1: batch["speed"]}, "a column is named by an int, not by a string"),
        (lambda batch: pyarrow.table({"x": [1] * (len(batch) + 1)}), "to leave rows out, return a mask"),
        (lambda batch: pyarrow.table([[1] * len(batch)] * 2, names=["x", "x"]), 'two columns "x"'),
        (lambda batch: iotml.Result(reject={len(batch): "x"}), "there is no row"),
        (lambda batch: iotml.Result(reject={-1: "x"}), "there is no row -1"),
        (lambda batch: iotml.Result(reject={0: wrong(5)}), "a reason is a text, or a word and a text, not an int"),
        (lambda batch: iotml.Result(reject={0: ("Too Slow", "x")}), '"Too Slow" is no word to count by'),
        (lambda batch: iotml.Result(reject=wrong([0])), "Result.reject is a list; write it as a dict"),
        (lambda batch: iotml.Result(columns=wrong([1])), "Result.columns is a list; give a dict or an Arrow table"),
        (lambda batch: iotml.Result(retry={0: "x"}), "Result.retry is for sinks"),
    ],
)
@pytest.mark.parametrize("tolerance", ["none", "all"])
def test_a_wrong_answer_ends_the_pipeline_with_what_was_wrong(
    broker: str,
    unique: str,
    plugins: iotml.Plugins,
    answer: Callable[[iotml.Batch], Any],
    message: str,
    tolerance: str,
) -> None:
    plugins.preprocessor("wrong", lambda batch: answer(batch))
    with pytest.raises(iotml.PipelineError) as raised:
        through(broker, unique, plugins, ROWS, stage("wrong"), errors_tolerance=tolerance)
    assert message in str(raised.value)
    assert str(raised.value).startswith('preprocess "wrong" failed: apply(batch) failed: ')
