"""`Scorer` with a model that looks back: rows by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import iotml
import models
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

pytestmark = pytest.mark.usefixtures("onnxruntime")


class TestNextEvent:
    """A model that scores a row by the rows of its key before it."""

    @pytest.fixture
    def scorer(self, tmp_path: Path, engine: str) -> iotml.Scorer:
        """Expects, with two rows before it, the last one once more."""
        text = models.manifest("next_event", ["a"], threshold={"value": 4.0})
        return iotml.Scorer(models.persistence(tmp_path / "m.onnx", 1, 2), engine=engine, manifest=text, golden="none")

    def test_rows_of_different_keys_do_not_mix(self, scorer: iotml.Scorer) -> None:
        x = np.array([[1.0], [10.0], [2.0], [20.0], [4.0], [23.0], [4.5]], np.float32)
        car = ["one", "two", "one", "two", "one", "two", "one"]
        expected = [np.nan, np.nan, np.nan, np.nan, 4.0, 9.0, 0.25]
        table = pa.table({"car": car, "a": x[:, 0]})
        numbers = [1 if name == "one" else 2 for name in car]
        ways: list[tuple[Any, Any]] = [(x, car), (x, np.array(car)), (x, numbers), (x, np.array(numbers))]
        ways += [(x, [name.encode() for name in car]), (x, pd.Series(car)), (x, pl.Series(car)), (table, car)]
        ways += [(table, "car"), (pl.from_arrow(table), "car"), (table.to_pandas(), "car")]
        ways += [(pa.concat_tables([table[:3], table[3:]]), "car"), (pa.concat_tables([table[:1], table[1:]]), car)]
        for rows, keys in ways:
            # Twice, since nothing is remembered from call to call.
            for _ in range(2):
                np.testing.assert_array_equal(scorer.score(rows, keys=keys), np.array(expected, np.float32))
        prediction = scorer.predict(x, keys=car)
        assert prediction.anomaly is not None
        assert prediction.reconstruction is not None
        assert prediction.anomaly.tolist() == [False] * 4 + [True, True, False]
        np.testing.assert_array_equal(prediction.reconstruction[:, 0], [np.nan] * 4 + [2.0, 20.0, 4.0])

    def test_keys_reach_over_blocks(self, scorer: iotml.Scorer) -> None:
        n = 20_000
        x = np.arange(n, dtype=np.float32)[:, None] // 10
        scores = scorer.score(x, keys=np.arange(n) % 10)
        assert np.isnan(scores[:20]).all()
        assert (scores[20:] == 1.0).all()

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (None, "give keys"),
            (["a"], "1 keys for 3 rows"),
            (["a", None, "a"], "row 1 has no key"),
            ("car", "array without names"),
        ],
    )
    def test_wrong_keys_are_refused(self, scorer: iotml.Scorer, keys: Any, message: str) -> None:
        with pytest.raises(iotml.ConfigError, match=message):
            scorer.score(np.zeros((3, 1), np.float32), keys=keys)

    def test_wrong_columns_of_keys_are_refused(self, scorer: iotml.Scorer) -> None:
        table = pa.table({"car": ["a", None], "a": [1.0, 2.0]})
        with pytest.raises(iotml.ConfigError, match="1 rows have no key in `car`"):
            scorer.score(table, keys="car")
        with pytest.raises(iotml.ConfigError, match=r"`bus`.*\"car\", \"a\""):
            scorer.score(table, keys="bus")

    def test_one_row_alone_is_refused(self, scorer: iotml.Scorer) -> None:
        with pytest.raises(iotml.ConfigError, match="no rows before it"):
            scorer.score(np.zeros(1, np.float32), keys=["a"])
