"""`Scorer`: rows of every kind, missing values, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import iotml
import models
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from models import readings

pytestmark = pytest.mark.usefixtures("onnxruntime")


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000, 10_000])
def test_every_layout_of_an_array_scores_the_same(scorer: iotml.Scorer, n: int) -> None:
    x = readings(n)
    expected = scorer.score(x)
    wide = np.zeros((n, 40), np.float32)
    wide[:, 3:39:2] = x
    unaligned = np.zeros(n * 18 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(n, 18)
    unaligned[:] = x
    record = np.zeros(n, [("flag", np.int8), ("rows", np.float32, 18)])
    record["rows"] = x
    twice = x.repeat(2, axis=0)[::2]
    for other in (np.asfortranarray(x), wide[:, 3:39:2], x[::-1][::-1], unaligned, record["rows"], twice):
        np.testing.assert_array_equal(scorer.score(other), expected)
    read_only = x.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(scorer.score(read_only), expected)
    np.testing.assert_allclose(scorer.score(x.astype(np.float64)), expected, rtol=1e-3)


def test_one_row_has_a_float(scorer: iotml.Scorer) -> None:
    x = readings(5)
    expected = scorer.score(x)
    for row, score in zip(x, expected, strict=True):
        found = scorer.score(row)
        assert isinstance(found, float)
        assert found == pytest.approx(float(score), rel=1e-5)
        assert scorer.score(row.astype(np.float64)) == pytest.approx(float(score), rel=1e-3)
    assert scorer.score(x[:, ::-1][0][::-1]) == pytest.approx(float(expected[0]), rel=1e-5)


def test_tables_of_every_library_score_as_arrays(scorer: iotml.Scorer) -> None:
    x = readings(300)
    expected = scorer.score(x)
    columns = {name: x[:, at] for at, name in enumerate(scorer.features)}
    shuffled = dict(reversed(columns.items())) | {"other": np.arange(300)}
    table = pa.table(shuffled)
    chunked = pa.concat_tables([table[:100], table[100:101], table[101:]])
    reader = pa.RecordBatchReader.from_batches(chunked.schema, chunked.to_batches())
    for data in (table, chunked, reader, table.to_batches()[0], pd.DataFrame(shuffled), pl.DataFrame(shuffled)):
        # To the last bits only, since an engine may add up differently in batches of another size.
        np.testing.assert_allclose(scorer.score(data), expected, rtol=1e-5)
    mixed = table.set_column(0, "control_unit_firmware", table["control_unit_firmware"].cast(pa.float64()))
    np.testing.assert_allclose(scorer.score(mixed), expected, rtol=1e-5)


def test_no_rows_have_no_scores_but_are_checked(scorer: iotml.Scorer) -> None:
    assert scorer.score(readings(0)).shape == (0,)
    prediction = scorer.predict(readings(0))
    assert prediction.reconstruction is not None
    assert prediction.reconstruction.shape == (0, 18)
    assert scorer.run(np.zeros((0, 18), np.float32)).shape == (0, 18)
    with pytest.raises(iotml.ConfigError, match="18 columns"):
        scorer.score(np.zeros((0, 17), np.float32))


class TestMissing:
    """Values that are not there."""

    def test_rows_at_fault_are_named(self, scorer: iotml.Scorer) -> None:
        x = readings(10_000)
        rows = [2, 5000, 9999]
        x[rows, [0, 5, 17]] = [np.nan, np.inf, -np.inf]
        message = r"3 of 10000 rows .*row 2: .*`coolant_temp` is NaN; row 5000"
        with pytest.raises(iotml.ScoreError, match=message) as raised:
            scorer.score(x)
        assert list(raised.value.rows) == rows
        x[:5, 1] = np.nan
        with pytest.raises(iotml.ScoreError, match="and 4 more"):
            scorer.predict(x)

    def test_nulls_of_a_table_are_missing_too(self, scorer: iotml.Scorer) -> None:
        columns: dict[str, Any] = {name: [1.0, 2.0] for name in scorer.features}
        columns["speed"] = [None, 2.0]
        with pytest.raises(iotml.ScoreError, match=r"row 0: .*`speed` is null"):
            scorer.score(pa.table(columns))

    def test_imputed_values_are_the_manifests(self, tmp_path: Path, engine: str) -> None:
        features: list[Any] = [{"name": "a", "impute": 3.0}, {"name": "b", "scale": {"min": 0.0, "max": 10.0}}]
        text = models.manifest("reconstruction", features)
        path = models.scaled_copy(tmp_path / "m.onnx", 2, 0.0)
        scorer = iotml.Scorer(path, engine=engine, manifest=text, golden="none", missing="impute")
        scores = scorer.score(np.array([[np.nan, 5.0], [1.0, np.nan], [1.0, 10.0]]))
        np.testing.assert_allclose(scores, [4.5, 0.5, 1.0])

    def test_a_constant_feature_is_never_missing(self, tmp_path: Path, engine: str) -> None:
        features: list[Any] = ["a", {"name": "b", "constant": 2.0}]
        text = models.manifest("reconstruction", features)
        path = models.scaled_copy(tmp_path / "m.onnx", 2, 0.0)
        scorer = iotml.Scorer(path, engine=engine, manifest=text, golden="none")
        np.testing.assert_allclose(scorer.score(np.array([[1.0, np.nan], [3.0, 7.0]])), [2.5, 6.5])
        np.testing.assert_allclose(scorer.score(pa.table({"a": [1.0, 3.0]})), [2.5, 6.5])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 17), np.float32), "18 columns, .*but the rows have 17"),
        (np.zeros(17, np.float32), "18 columns, .*but the rows have 17"),
        (np.zeros((2, 18), np.int64), "of int64.*astype"),
        (np.zeros((2, 18), np.float16), "of float16.*astype"),
        (np.zeros((2, 18), ">f4"), "of >f4.*astype"),
        (np.zeros((2, 18), object), "of object.*astype"),
        (np.zeros((2, 1, 18), np.float32), r"3 axes, \[2, 1, 18\]"),
        (np.float32(1.0), "not as numpy.float32"),
        (np.zeros((), np.float32), "0 axes"),
        (np.ma.masked_array(np.zeros((2, 18), np.float32)), "masked"),
        ([[0.0] * 18], "not as list"),
        (None, "not as NoneType"),
        (pa.array([1.0, 2.0]), "no named columns"),
        (pa.table({"speed": [1.0]}), "needs the column `coolant_temp`"),
    ],
)
def test_wrong_rows_are_refused(scorer: iotml.Scorer, x: Any, message: str) -> None:
    for call in (scorer.score, scorer.predict):
        with pytest.raises(iotml.ConfigError, match=message):
            call(x)


def test_a_column_of_text_is_refused(scorer: iotml.Scorer) -> None:
    columns: dict[str, Any] = {name: [1.0] for name in scorer.features}
    with pytest.raises(iotml.ConfigError, match="column `speed` is of type Utf8"):
        scorer.score(pa.table(columns | {"speed": ["fast"]}))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 17), np.float32), r"shape \[2, 17\].*rows of 18"),
        (np.zeros(18, np.float32), r"shape \[18\]"),
        (np.zeros((2, 18), np.int32), "of int32"),
        ([[0.0] * 18], "not builtins.list|not list"),
    ],
)
def test_wrong_scaled_rows_are_refused(scorer: iotml.Scorer, x: Any, message: str) -> None:
    with pytest.raises(iotml.ConfigError, match=message):
        scorer.run(x)


def test_a_large_array_is_neither_copied_nor_scored_at_once(cars: Path) -> None:
    script = f"""
import resource
import numpy as np
import iotml
scorer = iotml.Scorer({str(cars)!r})
x = np.full((2_000_000, 18), 20.0, np.float32)
scorer.score(x[:10_000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scores = scorer.score(x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(scores))
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    grown, n = map(int, output.split())
    assert n == 2_000_000
    # The scores take 8 MB, the array 144.
    assert grown < 24 * 1024
