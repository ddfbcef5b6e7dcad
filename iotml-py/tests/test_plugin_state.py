"""Stages written in Python that remember something from batch to batch."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import iotml
import pytest
import topics
from streams import Kept, kafka_builder


class Counting:
    """Numbers the rows of every partition; what it cannot count ends the pipeline."""

    def __init__(self) -> None:
        self.n_rows: Counter[str] = Counter()

    def apply(self, batch: iotml.Batch) -> dict[str, list[int]]:
        numbers = []
        for partition, n in zip(batch.partition_names, batch["n"], strict=True):
            assert partition is not None
            if n < 0:
                raise ValueError(f"{n:.0f} is no number of a row")
            self.n_rows[partition] += 1
            numbers.append(self.n_rows[partition])
        return {"number": numbers}

    def snapshot(self, partition: str) -> bytes | None:
        return json.dumps(self.n_rows[partition]).encode()

    def restore(self, partition: str, state: bytes) -> None:
        self.n_rows[partition] = json.loads(state)

    def forget(self, partition: str) -> None:
        del self.n_rows[partition]


def run(kafka: str, topic: str, folder: Path, *, tolerance: str = "none") -> list[int]:
    """Numbers that the rows of the topic were given, up to its end; offsets are committed."""
    plugins = iotml.Plugins()
    plugins.preprocessor("counting", Counting)
    kept = Kept(plugins)
    builder = kafka_builder(kafka, topic, plugins, errors_tolerance=tolerance).preprocess("counting")
    with builder.route("r", encode="json", sink="keep").state(folder).build() as pipeline:
        pipeline.wait()
    return [row["number"] for row in kept.rows]


def test_inv_9_state_goes_on_after_a_restart(kafka: str, unique: str, tmp_path: Path) -> None:
    topics.fill(kafka, unique, [{"n": n} for n in range(250)])
    assert run(kafka, unique, tmp_path) == list(range(1, 251))
    topics.fill(kafka, unique, [{"n": n} for n in range(30)])
    assert run(kafka, unique, tmp_path) == list(range(251, 281))
    assert run(kafka, unique, tmp_path / "other") == []


def test_an_exception_ends_the_pipeline_since_no_row_may_be_counted_twice(
    embedded_kafka: str, unique: str, tmp_path: Path
) -> None:
    topics.fill(embedded_kafka, unique, [{"n": n} for n in (1, 2, -3, 4)])
    with pytest.raises(iotml.PipelineError, match="-3 is no number of a row") as raised:
        run(embedded_kafka, unique, tmp_path, tolerance="all")
    assert type(raised.value.__cause__) is ValueError


def test_a_state_that_cannot_be_taken_or_restored_is_said(embedded_kafka: str, unique: str, tmp_path: Path) -> None:
    topics.fill(embedded_kafka, unique, [{"n": 1}])
    run(embedded_kafka, unique, tmp_path)
    files = list(tmp_path.rglob("*.state"))
    assert files
    for file in files:
        file.write_bytes(b"no JSON")
    with pytest.raises(iotml.PipelineError, match=r"state of .* of stage .counting. cannot be restored") as raised:
        run(embedded_kafka, unique, tmp_path)
    assert isinstance(raised.value.__cause__, json.JSONDecodeError)

    class Listing(Counting):
        def snapshot(self, partition: str) -> bytes | None:
            return [partition]  # type: ignore[return-value]

    plugins = iotml.Plugins()
    plugins.preprocessor("listing", Listing)
    Kept(plugins)
    topics.fill(embedded_kafka, unique, [{"n": 1}])
    builder = kafka_builder(embedded_kafka, unique, plugins).preprocess("listing").route("r", sink="keep")
    with pytest.raises(iotml.PipelineError, match=r"snapshot\(partition\) returned list; return bytes"):
        builder.state(tmp_path / "lists").build().start().wait()


def test_a_stage_that_keeps_state_has_all_it_takes() -> None:
    class Half:
        def apply(self, batch: iotml.Batch) -> iotml.Batch:
            return batch

        def snapshot(self, partition: str) -> bytes | None:
            return None

    plugins = iotml.Plugins()
    plugins.preprocessor("half", Half)
    with pytest.raises(iotml.ConfigError, match=r"Half keeps state, .* it has no restore\(\) and forget\(\)"):
        kafka_builder("127.0.0.1:1", "t", plugins).preprocess("half").route("r", sink="stdout").build()
