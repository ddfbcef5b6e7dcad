"""Which rows come out of a log, in which order, and as which numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import iotml
import logs
import numpy as np
import pytest
from iotml import KafkaLog, Manifest
from iotml.manifest import Feature, RangeScale, StandardScale, scale
from iotml.train.windows import windows
from log_fixtures import Topic, value

NAMES = ("pressure", "flow", "stage")


def test_batches_hold_every_row_in_order_with_where_it_came_from(topic: Topic) -> None:
    topic.write(logs.pumps(1000))
    log = topic.log(label="failure_occurred")
    expected = topic.x(*NAMES)
    labels = np.array([record["failure_occurred"] == "true" for record in topic.rows()], np.float32)
    for batch_rows in (1, 7, 256, 4096, 10_000):
        batches = list(log.batches(batch_rows))
        assert [len(batch) for batch in batches[:-1]] == [batch_rows] * (len(batches) - 1)
        x = np.concatenate([batch.x for batch in batches])
        assert x.dtype == np.float32
        assert np.array_equal(x, expected)
        assert np.array_equal(np.concatenate([batch.y for batch in batches]), labels)
        assert [(key or b"").decode() for batch in batches for key in batch.keys] == topic.row_keys()
        partitions = np.concatenate([batch.partitions for batch in batches])
        offsets = np.concatenate([batch.offsets for batch in batches])
        assert np.array_equal(partitions, np.repeat([0, 1, 2], [334, 333, 333]))
        assert np.array_equal(offsets, np.concatenate([np.arange(334), np.arange(333), np.arange(333)]))
        seconds = np.concatenate([batch.timestamps for batch in batches]) - np.datetime64(1_700_000_000_000, "ms")
        assert np.array_equal(seconds.astype(np.int64) // 1000, offsets * 3 + partitions)
    x, y = log.numpy()
    assert np.array_equal(x, expected)
    assert y is not None
    assert np.array_equal(y, labels)
    assert log.last_read is not None
    stats = log.last_read.stats
    assert (stats.messages, stats.rows, stats.offsets, stats.offsets_total) == (1000, 1000, 1000, 1000)
    assert (stats.complete, stats.lag, stats.holes) == (True, 0, 0)


def test_the_arrays_of_a_whole_batch_are_handed_over_without_a_copy(embedded: Topic) -> None:
    embedded.write(logs.pumps(5000), logs.V1)
    batch = next(embedded.log().batches(4096))
    assert batch.x.flags["C_CONTIGUOUS"]
    assert batch.x.flags["WRITEABLE"]
    # The owner of the memory is Rust's vector, not an array that it was copied into.
    base = batch.x
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    assert not isinstance(base, np.ndarray)


def test_the_same_range_gives_the_same_rows_and_digest_again(topic: Topic) -> None:
    topic.write(logs.pumps(5000))
    log = topic.log(filter="stage > 0")
    wanted = log.range()
    x, _ = log.numpy(range=wanted)
    first = log.last_read
    assert first is not None
    assert first.digest == f"sha256:{hashlib.sha256(x.tobytes()).hexdigest()}"
    topic.write(logs.pumps(10, seed=3))
    again = topic.log(filter="stage > 0")
    reading = again.batches(33, range=iotml.LogRange.from_dict(json.loads(json.dumps(first.to_dict()["range"]))))
    assert reading.digest is None
    assert np.array_equal(np.concatenate([batch.x for batch in reading]), x)
    assert reading.digest == first.digest
    assert reading.to_dict() == first.to_dict()
    other = again.batches(range=again.range(last=4000))
    list(other)
    assert other.digest != first.digest


def test_features_are_scaled_as_the_manifest_says(topic: Topic, tmp_path: Path) -> None:
    features = [
        Feature("motor.temp", StandardScale(60.0, 9.0)),
        Feature("nothing", constant=0.25),
        Feature("pressure", RangeScale(0.0, 10.0)),
        Feature("stage"),
    ]
    topic.write(logs.pumps(500))
    manifest = Manifest(kind="reconstruction", name="pumps", features=features)
    path = tmp_path / "pumps.json"
    path.write_text(manifest.to_json())
    raw = topic.x("motor.temp", "stage", "pressure", "stage")
    expected = scale(features, raw)
    for given in (features, manifest, path, str(path), [feature.to_dict() for feature in features]):
        x, y = topic.log(features=given).numpy()
        assert y is None
        np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)


def test_filters_keep_the_rows_that_meet_all_of_them(topic: Topic) -> None:
    topic.write(logs.pumps(600))
    rows = topic.rows()
    healthy = [record["failure_occurred"] == "false" for record in rows]
    log = topic.log(filter='failure_occurred == "false"', label="failure_occurred")
    x, y = log.numpy()
    assert np.array_equal(x, topic.x(*NAMES)[healthy])
    assert y is not None
    assert not y.any()
    assert log.last_read is not None
    assert (log.last_read.stats.filtered, log.last_read.stats.rows) == (600 - sum(healthy), sum(healthy))
    both = [good and record["motor"]["temp"] >= 60 for good, record in zip(healthy, rows, strict=True)]
    x, _ = topic.log(filter=["failure_occurred == 'false'", "motor.temp >= 60"]).numpy()
    assert np.array_equal(x, topic.x(*NAMES)[both])


def test_conditions_that_are_none_are_refused(embedded: Topic) -> None:
    embedded.write(logs.pumps(9))
    with pytest.raises(iotml.ConfigError, match="is not a condition"):
        next(embedded.log(filter="speed >").batches())
    with pytest.raises(iotml.ConfigError, match="not text"):
        next(embedded.log(filter='stage == "1"').batches())
    with pytest.raises(iotml.DecodeError, match=r"no scalar field \"stag\": it has note, pressure, flow, stage"):
        next(embedded.log(filter="stag == 1").batches())


def test_missing_values_reject_the_row_or_are_imputed(topic: Topic) -> None:
    records = logs.pumps(30)
    records[4]["flow"] = None
    records[8]["flow"] = float("nan")
    records[12]["pressure"] = float("inf")
    topic.write(records)
    with pytest.raises(iotml.DecodeError) as error:
        topic.log().numpy()
    for part in (topic.name, "partition 0 offset 4", "feature `pressure` is inf", "on_bad"):
        assert part in str(error.value)
    log = topic.log(on_bad="skip")
    x, _ = log.numpy()
    bad = {(0, 4): "non_finite", (1, 1): "missing", (2, 2): "non_finite"}
    good = np.array([(p, o) not in bad for p in range(3) for o in range(10)])
    assert np.array_equal(x, topic.x(*NAMES)[good])
    assert log.last_read is not None
    listed = {(row.partition, row.offset): row.reason for row in log.last_read.rejected}
    assert listed == bad
    assert log.last_read.stats.reasons == {"missing": 1, "non_finite": 2}
    assert log.last_read.to_dict()["rejected"] == 3
    features = [Feature("pressure", RangeScale(0, 10), impute=2.5), Feature("flow", StandardScale(1, 3))]
    x, _ = topic.log(features=features, missing="impute").numpy()
    assert x.shape == (30, 2)
    assert x[4, 0] == -0.5
    assert x[10 + 1, 1] == x[20 + 2, 1] == 0.0


def test_a_schema_that_changes_in_the_middle_is_read_by_the_writers_own(topic: Topic) -> None:
    topic.write(logs.pumps(90), logs.V1)
    topic.write(logs.pumps(90, seed=1), logs.V2)
    topic.write(logs.pumps(90, seed=2), logs.V1)
    x, _ = topic.log().numpy()
    assert np.array_equal(x, topic.x(*NAMES))
    # A label that only the second one has: the others' rows are bad, and are so by name.
    with pytest.raises(iotml.DecodeError, match='no scalar field "failure_occurred"'):
        topic.log(label="failure_occurred").numpy()
    log = topic.log(label="failure_occurred", on_bad="skip")
    x, _ = log.numpy()
    assert log.last_read is not None
    assert (len(x), log.last_read.stats.reasons) == (90, {"wrong_schema": 180})
    x, _ = topic.log(features=["motor.temp"], missing="impute").numpy()
    assert x.shape == (270, 1)
    assert np.count_nonzero(x) == 90


@pytest.mark.parametrize("look_back", [1, 4])
def test_windows_are_consecutive_rows_of_one_key_and_the_row_after(topic: Topic, look_back: int) -> None:
    topic.write(logs.pumps(700))
    log = topic.log(filter='failure_occurred == "false"', label="stage")
    kept = np.array([record["failure_occurred"] == "false" for record in topic.rows()])
    rows = topic.x(*NAMES)[kept]
    keys = [key for key, good in zip(topic.row_keys(), kept, strict=True) if good]
    x, target, at = windows(rows, look_back, keys)
    for batch_rows in (5, 100_000):
        batches = list(log.batches(batch_rows, windows=look_back))
        assert np.array_equal(np.concatenate([batch.x for batch in batches]), x)
        assert np.array_equal(np.concatenate([batch.target for batch in batches]), target)
        assert np.array_equal(np.concatenate([batch.y for batch in batches]), rows[at, 2])
        assert [(key or b"").decode() for batch in batches for key in batch.keys] == [keys[n] for n in at]
    found_x, found_target = log.numpy(windows=look_back)
    assert np.array_equal(found_x, x)
    assert found_target is not None
    assert np.array_equal(found_target, target)
    # The digest is that of the rows, however they are looked at.
    assert log.last_read is not None
    assert log.last_read.digest == f"sha256:{hashlib.sha256(rows.tobytes()).hexdigest()}"


def test_rows_without_a_key_are_one_sequence_a_partition(embedded: Topic) -> None:
    number = logs.register(embedded.registry, "s", logs.V1)
    records = logs.pumps(20)
    embedded.add([logs.Message(logs.frame(number, logs.V1, record), at // 10) for at, record in enumerate(records)])
    x, target = embedded.log(features=["flow"]).numpy(windows=3)
    flow = np.array([record["flow"] for record in records], np.float32).reshape(2, 10)
    assert target is not None
    assert np.array_equal(target[:, 0], flow[:, 3:].ravel())
    assert np.array_equal(x[:, 0, 0], flow[:, :-3].ravel())


@pytest.mark.parametrize("label", ["stage", "flow", "failure_occurred"])
def test_labels_stay_numbers_and_truth_becomes_one(embedded: Topic, label: str) -> None:
    embedded.write(logs.pumps(60))
    _, y = embedded.log(label=label).numpy()
    expected = [value(record, label) for record in embedded.rows()]
    expected = [1.0 if label == "true" else 0.0 if label == "false" else label for label in expected]
    assert y is not None
    assert np.array_equal(y, np.array(expected, np.float32))


def test_a_label_that_is_no_number_is_told(embedded: Topic) -> None:
    embedded.write(logs.pumps(6))
    with pytest.raises(iotml.DecodeError, match='label `note` is "n0", neither true, false nor a number'):
        embedded.log(label="note").numpy()


def test_other_formats(embedded: Topic, tmp_path: Path) -> None:
    records = logs.pumps(40)
    schema = tmp_path / "pump.avsc"
    schema.write_text(json.dumps(logs.V2))
    x = np.array([[record[name] for name in NAMES] for record in records], np.float32)
    y = np.array([record["failure_occurred"] == "true" for record in records], np.float32)
    line = "{note},{pressure},{flow},{stage},{failure_occurred}".format
    fields = ["note", "pressure", "flow", "stage", "failure_occurred"]
    formats: list[tuple[Any, bytes, dict[str, Any]]] = [
        ("avro", b"", {"format": "avro", "schema": schema}),
        ("json", b"", {"format": "json"}),
        ("csv", b"", {"format": {"type": "csv", "fields": fields}}),
    ]
    for partition, (kind, _, options) in enumerate(formats):
        for record in records:
            if kind == "avro":
                payload = logs.bare(logs.V2, record)
            elif kind == "json":
                payload = json.dumps({**record, "failure_occurred": record["failure_occurred"] == "true"}).encode()
            else:
                payload = line(**record).encode()
            embedded.add([logs.Message(payload, partition)])
        log = KafkaLog(embedded.bootstrap, embedded.name, features=NAMES, label="failure_occurred", **options)
        some = log.range(offsets={partition: (0, 40)})
        found_x, found_y = log.numpy(range=some)
        assert np.array_equal(found_x, x), kind
        assert found_y is not None
        assert np.array_equal(found_y, y), kind
        filtered = KafkaLog(embedded.bootstrap, embedded.name, features=NAMES, filter="stage == 1", **options)
        found_x, _ = filtered.numpy(range=some)
        assert np.array_equal(found_x, x[x[:, 2] == 1]), kind


def test_a_followed_topic_gives_what_comes(topic: Topic) -> None:
    topic.write(logs.pumps(30))
    log = topic.log()
    with log.follow(max_delay=0.05) as reading:
        topic.write(logs.pumps(60, seed=1))
        rows: list[tuple[int, int, float]] = []
        while len(rows) < 60:
            batch = next(reading)
            rows.extend(zip(batch.partitions.tolist(), batch.offsets.tolist(), batch.x[:, 0].tolist(), strict=True))
        assert reading.stats.offsets_total is None
    assert [row[2] for row in sorted(rows)] == [
        record["pressure"] for partition in range(3) for record in topic.records[partition][10:]
    ]
    with log.follow(7, start="start", max_delay=30.0) as reading:
        assert [len(next(reading)) for _ in range(12)] == [7] * 12
    with log.follow(start=log.range(offsets={1: (25, 25)}), max_delay=0.05) as reading:
        assert next(reading).offsets[0] == 25


def test_arguments_are_checked_before_anything_is_connected() -> None:
    log: dict[str, Any] = {"bootstrap": "localhost:1", "topic": "cars", "registry": "http://localhost:1"}
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"missing": "drop"}, "missing is 'drop'"),
        ({"on_bad": "ignore"}, "on_bad is 'ignore'"),
        ({"on_gap": "ignore"}, "on_gap is 'ignore'"),
        ({"features": []}, "empty"),
        ({"features": ["a", "a"]}, "a comes twice"),
        ({"features": [{"name": "a", "scale": {"min": 1, "max": 1}}]}, r"features\[0\].scale"),
        ({"features": "nowhere.json"}, "nowhere.json"),
        ({"format": "protobuf"}, "no format 'protobuf'"),
        ({"format": "json"}, "of no use"),
        ({"format": "avro", "registry": None}, "says nothing of its schema"),
        ({"format": {"type": "csv", "fild": []}, "registry": None}, "unknown field `fild`"),
        ({"registry": None}, "needs the address of a schema registry"),
        ({"timeout": 0}, "timeout"),
        ({"kafka": {"group.id": 3, "linger.ms": [1]}}, "must be a string"),
        ({"topic": "a b"}, "not a name a Kafka topic can have"),
        ({"kafka": {"auto.offset.reset": "earliest"}}, '"auto.offset.reset" cannot be set'),
    ]
    for wrong, message in mistakes:
        with pytest.raises((iotml.ConfigError, iotml.ModelError), match=message):
            KafkaLog(**{**log, **wrong}).range()
    with pytest.raises(iotml.ConfigError, match="features"):
        KafkaLog(**log).numpy()
