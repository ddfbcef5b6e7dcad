"""What a stage written in Python sees of a batch."""

from __future__ import annotations

import json
from typing import Any

import iotml
import numpy as np
import polars
import pytest
import topics
from streams import ROWS, Kept, kafka_builder, publish, settle, stage, through


def test_a_batch_shows_columns_without_a_copy(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    seen: list[dict[str, Any]] = []

    @plugins.preprocessor("look")
    def look(batch: iotml.Batch) -> iotml.Batch:
        table = batch.to_arrow()
        speed = batch["speed"]
        with pytest.raises(ValueError, match="read-only"):
            speed[0] = 1.0
        with pytest.raises(ValueError, match="WRITEABLE"):
            speed.setflags(write=True)
        seen.append(
            {
                "n": len(batch),
                "columns": batch.columns,
                "types": {name: batch[name].dtype for name in batch.columns},
                "shared": np.shares_memory(speed, table["speed"].to_numpy()),
                "polars": polars.DataFrame(batch).columns,
                "has": ("speed" in batch, "sped" in batch),
                "speed": speed,
                "repr": repr(batch),
            }
        )
        return batch

    columns = [{"name": "speed", "type": "float32"}, {"name": "gear", "type": "int32"}, {"name": "car", "type": "utf8"}]

    def typed(builder: iotml.PipelineBuilder) -> iotml.PipelineBuilder:
        builder._document["decode"]["columns"] = columns
        return builder.preprocess("look")

    kept, stats = through(broker, unique, plugins, ROWS, typed)
    assert stats.delivered == stats.received == len(kept.rows) == len(ROWS)
    first = seen[0]
    assert first["columns"] == first["polars"] == ["speed", "gear", "car"]
    assert first["types"] == {"speed": np.float32, "gear": np.int32, "car": np.dtype(object)}
    assert first["shared"]
    assert first["has"] == (True, False)
    assert first["repr"].startswith("Batch(")
    assert "speed Float32" in first["repr"]
    # The arrays keep their memory when the batch is gone.
    speeds = np.concatenate([look["speed"] for look in seen])
    assert speeds.tolist() == [row["speed"] for row in ROWS]


def test_a_batch_shows_the_messages_of_its_rows(kafka: str, unique: str, plugins: iotml.Plugins) -> None:
    topics.fill(kafka, unique, ROWS[:6], keys=["a", "b"])
    seen: list[Any] = []

    @plugins.preprocessor("look")
    def look(batch: iotml.Batch) -> iotml.Batch:
        seen.append(batch)
        with pytest.raises(IndexError, match="no row 6"):
            batch.headers(6)
        return batch

    kept = Kept(plugins)
    with kafka_builder(kafka, unique, plugins).preprocess("look").route("r", sink="keep").build() as pipeline:
        pipeline.wait()
    (batch,) = seen
    assert batch.keys == [b"a", b"b"] * 3 == kept.keys
    assert batch.topics == [unique] * 6
    assert batch.partitions.tolist() == [0] * 6
    assert batch.partitions.dtype == np.int32
    assert batch.offsets.tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.offsets.dtype == np.int64
    assert batch.timestamps.dtype == "datetime64[ms]"
    assert abs(batch.timestamps[0] - np.datetime64("now")) < 60_000
    assert [json.loads(payload) for payload in batch.payloads] == ROWS[:6]
    assert batch.headers(0) == []


def test_rows_of_a_pipeline_without_a_decoder_are_bytes(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    seen: list[tuple[int, list[str], str, list[bytes | None]]] = []

    @plugins.preprocessor("look")
    def look(batch: iotml.Batch) -> Any:
        with pytest.raises(KeyError, match="the pipeline has no decoder"):
            batch["speed"]
        seen.append((batch.to_arrow().num_rows, batch.columns, repr(batch), batch.payloads))
        # Columns may begin here.
        return {"length": [len(payload or b"") for payload in batch.payloads]}

    kept = Kept(plugins)
    builder = iotml.Pipeline.builder(unique, plugins=plugins, instance=unique)
    builder.source("mqtt", server=f"mqtt://{broker}", topics=[{"filter": f"{unique}/#"}]).preprocess("look")
    with builder.route("r", encode="json", sink="keep").build() as pipeline:
        publish(broker, f"{unique}/a", [b"abc", b"", b"\xff"])
        settle(pipeline, 3)
    assert [row["length"] for row in kept.rows] == [3, 0, 1]
    assert [payload for *_, payloads in seen for payload in payloads] == [b"abc", b"", b"\xff"]
    assert sum(n_rows for n_rows, *_ in seen) == 3
    assert all(columns == [] and text.endswith(" rows: )") for _, columns, text, _ in seen)


def test_an_unknown_column_names_those_that_are_there(broker: str, unique: str, plugins: iotml.Plugins) -> None:
    @plugins.preprocessor("typo")
    def typo(batch: iotml.Batch) -> Any:
        with pytest.raises(TypeError, match="by its name"):
            batch[0]
        return batch["sped"] > 0

    with pytest.raises(iotml.PipelineError, match="there are") as raised:
        through(broker, unique, plugins, ROWS, stage("typo"), errors_tolerance="all")
    cause = raised.value.__cause__
    assert isinstance(cause, iotml.UnknownColumnError)
    assert isinstance(cause, KeyError)
    assert str(cause) == 'there is no column "sped"; there are "speed", "gear", "car"'
