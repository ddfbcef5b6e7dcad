"""The same reader over files."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import fastavro
import iotml
import logs
import numpy as np
import pytest
from iotml import FileLog, FileRange
from iotml.manifest import Feature, RangeScale, scale
from iotml.train.windows import windows

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAMES = ["pressure", "flow", "stage"]


def parquet(path: Path, records: list[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(records), path, **options)
    return path


def avro(path: Path, records: list[dict[str, Any]], codec: str = "null") -> Path:
    with path.open("wb") as file:
        fastavro.writer(file, logs.V2, records, codec=codec, sync_interval=2000)
    return path


def x_of(records: list[dict[str, Any]]) -> Any:
    return np.array([[record[name] for name in NAMES] for record in records], np.float32)


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return logs.pumps(3000)


@pytest.fixture(params=["parquet", "avro"])
def path(request: pytest.FixtureRequest, tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    write = parquet if request.param == "parquet" else avro
    return write(tmp_path / f"pumps.{request.param}", records)


def test_files_give_what_a_topic_gives(path: Path, records: list[dict[str, Any]]) -> None:
    log = FileLog(path, features=NAMES, label="failure_occurred", filter="motor.temp > 55", progress=False)
    kept = [record for record in records if record["motor"]["temp"] > 55]
    x, y = log.numpy()
    assert np.array_equal(x, x_of(kept))
    assert y is not None
    assert np.array_equal(y, [record["failure_occurred"] == "true" for record in kept])
    reading = log.last_read
    assert reading is not None
    assert reading.digest == f"sha256:{hashlib.sha256(x.tobytes()).hexdigest()}"
    assert (reading.stats.messages, reading.stats.filtered) == (3000, 3000 - len(kept))
    batches = list(log.batches(100))
    assert [len(batch) for batch in batches[:-1]] == [100] * (len(batches) - 1)
    offsets = np.concatenate([batch.offsets for batch in batches])
    assert offsets.tolist() == [at for at, record in enumerate(records) if record["motor"]["temp"] > 55]
    assert pa.table(log.to_arrow()).column("pressure").to_pylist() == [record["pressure"] for record in kept]


def test_columns_of_a_batch_are_raw(path: Path, records: list[dict[str, Any]]) -> None:
    batch = next(FileLog(path, features=[Feature("flow", RangeScale(-5, 5))], columns=["motor.temp", "note"]).batches(100))
    assert batch.columns == ["flow", "motor.temp", "note"]
    assert batch["flow"].tolist() == [record["flow"] for record in records[:100]]
    assert batch["motor.temp"].tolist() == [record["motor"]["temp"] for record in records[:100]]
    assert batch["note"].tolist() == [record["note"] for record in records[:100]]
    assert not batch["flow"].flags.writeable
    with pytest.raises(iotml.UnknownColumnError, match=r'no column "stage"; there are: flow, motor\.temp, note'):
        batch["stage"]


def test_ranges_of_files(path: Path, records: list[dict[str, Any]]) -> None:
    log = FileLog([path, path], features=NAMES)
    everything = log.range()
    assert [(start, end) for _, start, end, _ in everything.files] == [(0, 3000), (0, 3000)]
    assert pickle.loads(pickle.dumps(everything)) == FileRange.from_dict(everything.to_dict()) == everything
    assert eval(repr(everything)) == everything
    x, _ = log.numpy(range=log.range(last=3100))
    assert np.array_equal(x, np.concatenate([x_of(records[-100:]), x_of(records)]))
    x, _ = log.numpy(range=log.range(offsets={1: (1200, 2345)}))
    assert np.array_equal(x, x_of(records[1200:2345]))
    batch = next(log.batches(range=log.range(offsets={1: (1200, 2345)})))
    assert (set(batch.partitions.tolist()), batch.offsets[0]) == ({1}, 1200)
    with pytest.raises(iotml.ConfigError, match="has 3000 rows, and not the 3001"):
        log.range(offsets={0: (0, 3001)})
    with pytest.raises(iotml.ConfigError, match="no file 2"):
        log.range(offsets={2: (0, 1)})


def test_windows_of_files_go_by_the_key_column(path: Path, records: list[dict[str, Any]]) -> None:
    log = FileLog(path, key="stage", features=NAMES)
    x, target, _ = windows(x_of(records), 3, [record["stage"] for record in records])
    found_x, found_target = log.numpy(windows=3)
    assert np.array_equal(found_x, x)
    assert found_target is not None
    assert np.array_equal(found_target, target)
    with pytest.raises(iotml.ConfigError, match='no column "car"; there are: '):
        FileLog(path, key="car", features=NAMES).numpy()


def test_codecs_and_kinds_of_text(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    for codec in ("snappy", "gzip", "zstd", "lz4", "none"):
        file = parquet(tmp_path / f"{codec}.parquet", records, compression=codec)
        assert np.array_equal(FileLog(file, features=NAMES).numpy()[0], x_of(records)), codec
    for codec in ("deflate", "null"):
        file = avro(tmp_path / f"{codec}.avro", records, codec)
        assert np.array_equal(FileLog(file, features=NAMES).numpy()[0], x_of(records)), codec
    table = pa.Table.from_pylist(records)
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        at = table.schema.get_field_index("failure_occurred")
        texts = table.set_column(at, "failure_occurred", table.column(at).cast(kind))
        pq.write_table(texts, tmp_path / "texts.parquet")
        log = FileLog(
            tmp_path / "texts.parquet", features=NAMES, label="failure_occurred", filter="failure_occurred == 'true'"
        )
        x, y = log.numpy()
        assert np.array_equal(x, x_of([record for record in records if record["failure_occurred"] == "true"])), kind
        assert y is not None
        assert y.all()


def test_features_are_scaled_and_missing_ones_bad(tmp_path: Path) -> None:
    records = logs.pumps(50)
    records[7]["flow"] = None
    path = parquet(tmp_path / "pumps.parquet", records)
    with pytest.raises(iotml.DecodeError, match=r"pumps.parquet row 7: missing: feature `flow` is null"):
        FileLog(path, features=NAMES).numpy()
    features = [Feature("flow", RangeScale(-5, 5)), Feature("pressure")]
    log = FileLog(path, features=features, on_bad="skip")
    x, _ = log.numpy()
    raw = [[record["flow"], record["pressure"]] for record in records if record["flow"] is not None]
    np.testing.assert_allclose(x, scale(features, raw), rtol=1e-6)
    assert log.last_read is not None
    assert [(row.partition, row.offset, row.reason) for row in log.last_read.rejected] == [(0, 7, "missing")]


def test_files_that_are_none_or_have_changed(tmp_path: Path, path: Path, records: list[dict[str, Any]]) -> None:
    with pytest.raises(iotml.SourceError, match="cannot be opened") as error:
        FileLog(tmp_path / "nowhere.parquet", features=NAMES).numpy()
    assert isinstance(error.value.__cause__, FileNotFoundError)
    text = tmp_path / "text.csv"
    text.write_text("a,b\n1,2\n")
    with pytest.raises(iotml.SourceError, match="neither a Parquet file nor an Avro container"):
        FileLog(text, features=NAMES).numpy()
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(iotml.SourceError, match="no sound"):
        FileLog(cut, features=NAMES).numpy()
    log = FileLog(path, features=NAMES)
    before = log.range()
    (parquet if path.suffix == ".parquet" else avro)(path, records[:-3])
    with pytest.raises(iotml.SourceError, match="has changed since the range was taken"):
        log.numpy(range=before)
    with pytest.raises(iotml.ConfigError, match='no column "presure"; there are: '):
        FileLog(path, features=["presure"]).numpy()
    with pytest.raises(iotml.ConfigError, match="no file is named"):
        FileLog([])
