"""What a user sees of a topic, registry or broker that is not as it should be."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import iotml
import logs
import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from iotml import KafkaLog
from iotml.testing import EmbeddedKafka
from log_fixtures import Topic


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_wrong_broker_topic_or_partition(topic: Topic) -> None:
    topic.write(logs.pumps(9))
    begun = time.monotonic()
    away = nobody()
    with pytest.raises(iotml.SourceError, match=f'no Kafka broker of "{away}" answered'):
        KafkaLog(away, topic.name, registry=topic.registry, features=["flow"], timeout=1).numpy()
    missing = f"{topic.name}-not"
    with pytest.raises(iotml.SourceError, match=f'"{missing}" does not exist at'):
        KafkaLog(topic.bootstrap, missing, registry=topic.registry, features=["flow"]).numpy()
    with pytest.raises(iotml.SourceError, match="no partition 3: it has 0 to 2"):
        topic.log().range(offsets={3: (0, 1)})
    with pytest.raises(iotml.SourceError, match="the range ends at offset 99, but the log at 3"):
        topic.log().numpy(range=topic.log().range(offsets={1: (0, 99)}))
    other = iotml.LogRange("other", {0: (0, 1)})
    with pytest.raises(iotml.ConfigError, match='"other"'):
        topic.log().numpy(range=other)
    assert time.monotonic() - begun < 30


def test_a_wrong_registry(topic: Topic) -> None:
    topic.write(logs.pumps(9))
    begun = time.monotonic()
    with pytest.raises(iotml.DecodeError, match=r"schema \d+ cannot be fetched: the schema registry is unavailable"):
        KafkaLog(topic.bootstrap, topic.name, registry=f"http://{nobody()}", features=["flow"]).numpy()
    if topic.is_real:
        wrong = "/".join([*topic.registry.split("/")[:3], "elsewhere"])
        with pytest.raises(iotml.DecodeError, match="check the path"):
            KafkaLog(topic.bootstrap, topic.name, registry=wrong, features=["flow"]).numpy()
    with pytest.raises(iotml.ConfigError, match="must begin with http"):
        KafkaLog(topic.bootstrap, topic.name, registry="ftp://host", features=["flow"]).numpy()
    assert time.monotonic() - begun < 30


def test_a_missing_column_is_named_beside_those_that_are_there(topic: Topic) -> None:
    topic.write(logs.pumps(9))
    for options in ({"features": ["flow", "presure"]}, {"label": "presure"}, {"columns": ["presure"]}):
        with pytest.raises(iotml.DecodeError, match=r"\"presure\": it has note, pressure, flow, stage, motor.temp"):
            topic.log(**options).numpy()
    # Skipping every row would hide the mistake.
    with pytest.raises(iotml.DecodeError, match=r'not one of 9 rows can be used; the first: .*"presure"'):
        topic.log(features=["presure"], on_bad="skip").numpy()
    with pytest.raises(iotml.DecodeError, match=r"label|not a number"):
        topic.log(features=["note"], missing="impute").numpy()
    with pytest.raises(iotml.ConfigError, match=r"column `note` is of type Utf8"):
        topic.log(features=["note"]).numpy()


def broken(number: int) -> list[tuple[bytes | None, str]]:
    """Payloads that cannot be decoded, and the word for it."""
    good = logs.frame(number, logs.V2, logs.pumps(1)[0])
    return [
        (good[:-3], "truncated"),
        (good[:3], "truncated"),
        (good + b"x", "trailing_bytes"),
        (b"\1" + good[1:], "wrong_magic_byte"),
        (b"\0\x7f\xff\xff\xff" + good[5:], "unknown_schema_id"),
        (b"", "empty"),
        (b"{}", "wrong_magic_byte"),
    ]


def test_messages_that_cannot_be_decoded_end_the_read_or_are_listed(topic: Topic) -> None:
    topic.write(logs.pumps(30))
    number = logs.register(topic.registry, f"{topic.name}-value", logs.V2)
    topic.add([logs.Message(payload, 1) for payload, _ in broken(number)])
    topic.write(logs.pumps(30, seed=1))
    with pytest.raises(iotml.DecodeError) as error:
        topic.log().numpy()
    assert f'topic "{topic.name}" partition 1 offset 10: truncated' in str(error.value)
    log = topic.log(on_bad="skip")
    x, _ = log.numpy()
    assert np.array_equal(x, topic.x("pressure", "flow", "stage"))
    assert log.last_read is not None
    found = [(row.partition, row.offset, row.reason) for row in log.last_read.rejected]
    assert found == [(1, 10 + at, reason) for at, (_, reason) in enumerate(broken(number))]
    assert log.last_read.stats.rejected == len(found)
    assert "truncated" in repr(log.last_read.rejected[0])


def test_rejections_are_all_counted_and_the_first_thousand_listed(embedded: Topic) -> None:
    embedded.write(logs.pumps(10))
    embedded.add([logs.Message(b"junk", 0)] * 2500)
    log = embedded.log(on_bad="skip")
    log.numpy()
    assert log.last_read is not None
    assert log.last_read.stats.reasons == {"wrong_magic_byte": 2500}
    assert len(log.last_read.rejected) == 1000


def test_tombstones_and_compacted_offsets_are_counted_and_no_matter(real_topic: Callable[..., Topic]) -> None:
    topic = real_topic(
        cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.001", max_compaction_lag_ms="100"
    )
    number = logs.register(topic.registry, f"{topic.name}-value", logs.V1)
    log = topic.log()
    deadline = time.monotonic() + 60
    while True:
        records = logs.pumps(50)
        values = [logs.frame(number, logs.V1, record) for record in records]
        topic.add([logs.Message(payload, 0, f"k{at % 10}") for at, payload in enumerate(values)])
        topic.add([logs.Message(None, 0, "k3")])
        everything = log.range()
        x, _ = log.numpy(range=everything)
        assert log.last_read is not None
        stats = log.last_read.stats
        assert stats.messages + stats.holes == stats.offsets == everything.n_offsets
        assert stats.messages == stats.rows + stats.tombstones
        assert stats.tombstones >= 1
        assert len(x) == stats.rows
        if stats.holes > 0:
            break
        assert time.monotonic() < deadline, "nothing was compacted"
    # The same range once more, as far as it is still the same.
    reading = log.batches(range=everything)
    assert sum(len(batch) for batch in reading) <= len(x)


def test_what_retention_removed_is_an_error_or_a_listed_gap(real: Topic) -> None:
    real.write(logs.pumps(300))
    log = real.log()
    everything = log.range()
    admin = AdminClient({"bootstrap.servers": real.bootstrap})
    for future in admin.delete_records([TopicPartition(real.name, 1, 40)]).values():
        future.result(timeout=30)
    with pytest.raises(iotml.SourceError, match="partition 1: offsets 0 to 39 of the range were removed by retention"):
        log.numpy(range=everything)
    skipping = real.log(on_gap="skip")
    x, _ = skipping.numpy(range=everything)
    assert np.array_equal(x, np.delete(real.x("pressure", "flow", "stage"), np.s_[100:140], axis=0))
    assert skipping.last_read is not None
    assert skipping.last_read.stats.gaps == [(1, 0, 40)]
    assert skipping.last_read.to_dict()["gaps"] == [[1, 0, 40]]
    # What is there now can be read as ever.
    assert len(log.numpy()[0]) == 260


def test_a_broker_that_goes_away_in_the_middle_is_an_error_in_time(unique: str) -> None:
    with EmbeddedKafka({unique: 1}) as cluster, logs.stub_registry() as registry:
        topic = Topic(cluster.bootstrap, registry, unique, is_real=False)
        topic.write(logs.pumps(20_000), n_partitions=1)
        small = {"queued.max.messages.kbytes": 64, "max.partition.fetch.bytes": 20_000}
        reading = topic.log(timeout=2.0, kafka=small).batches(100)
        next(reading)
        cluster.stop()
        gone = time.monotonic()
        with pytest.raises(iotml.SourceError, match=r"no broker of .* answers"):
            for _ in reading:
                pass
        assert time.monotonic() - gone < 15
        assert list(reading) == []
        assert not reading.stats.complete
        assert reading.digest is None


def test_the_topic_and_its_mistakes_are_told_without_secrets(embedded: Topic) -> None:
    embedded.write(logs.pumps(3))
    secrets = {"sasl.password": "hunter2", "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
    registry = {"url": embedded.registry, "username": "me", "password": "swordfish"}
    log = KafkaLog(embedded.bootstrap, embedded.name, registry=registry, features=["flow"], kafka=secrets, timeout=3)
    with pytest.raises(iotml.SourceError) as error:
        log.numpy()
    shown: list[Any] = [log, error.value, error.value.__cause__]
    for secret in ("hunter2", "swordfish"):
        assert all(secret not in repr(one) and secret not in str(one) for one in shown)
