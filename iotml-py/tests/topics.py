"""Topics of a test: filled and read with confluent-kafka, which knows nothing of iotml."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic


class Record(NamedTuple):
    """A record that was read."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> Any:
        """The value as JSON."""
        return json.loads(self.value or b"null")


def create(bootstrap: str, topic: str, partitions: int = 1) -> None:
    """Create a topic on a real cluster, if it is not there; the embedded one does so at the first message."""
    if bootstrap == os.environ.get("IOTML_KAFKA"):
        admin = AdminClient({"bootstrap.servers": bootstrap})
        try:
            admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(timeout=30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def fill(
    bootstrap: str, topic: str, values: Iterable[Any], *, keys: Sequence[str] | None = None, partition: int = 0
) -> None:
    """Writes values in order, as JSON unless they are bytes."""
    create(bootstrap, topic)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    failures: list[object] = []

    def done(error: object, _: object) -> None:
        if error is not None:
            failures.append(error)

    for number, value in enumerate(values):
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        key = keys[number % len(keys)] if keys else None
        while True:
            try:
                producer.produce(topic, payload, key, partition, on_delivery=done)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(30) == 0, "not everything was written"
    assert not failures, failures


def read(bootstrap: str, topic: str) -> list[Record]:
    """Everything that is in a topic now, by partition and offset."""
    options: dict[str, Any] = {"bootstrap.servers": bootstrap, "group.id": f"{topic}-reader", "enable.auto.commit": False}
    # The last offset may be a mark of a transaction, which is no message.
    options["enable.partition.eof"] = True
    # A place that is not there is an error, rather than a reason to wait at the end.
    consumer = Consumer({**options, "auto.offset.reset": "error"})
    records: list[Record] = []
    errors: set[str] = set()
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        ends = {}
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            if high > low:
                ends[partition] = high
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        deadline = monotonic() + 30
        while ends:
            assert monotonic() < deadline, f"{topic} ends before {ends} after {len(records)} records; {errors or 'no errors'}"
            message: Any = consumer.poll(0.2)
            if message is None:
                continue
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:
                    ends.pop(message.partition(), None)
                    continue
                # The client tries most things again by itself.
                errors.add(str(error))
                continue
            headers = dict(message.headers() or [])
            records.append(Record(message.partition(), message.key(), message.value(), headers))
            if message.offset() + 1 >= ends.get(message.partition(), 0):
                ends.pop(message.partition(), None)
    finally:
        consumer.close()
    return sorted(records, key=lambda record: record.partition)


def committed(bootstrap: str, topic: str, group: str, partition: int = 0) -> int:
    """The offset that a group has committed; -1001 where it has none."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        return int(consumer.committed([TopicPartition(topic, partition)], timeout=30)[0].offset)
    finally:
        consumer.close()
