"""The Kafka topic that a bridge fills: made, watched, and read back."""

import time

import load
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

PARTITIONS = 10


class Topic:
    """A topic of ten partitions whose messages carry the time at which the broker appended them."""

    def __init__(self, kafka: str, name: str):
        """Creates it."""
        self.kafka, self.name = kafka, name
        self.admin = AdminClient({"bootstrap.servers": kafka})
        # The broker's own clock on every message: when the last one came is read from the log instead of being watched for.
        config = {"message.timestamp.type": "LogAppendTime"}
        made = self.admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config)])
        made[name].result(timeout=10)
        self.partitions = [TopicPartition(name, partition) for partition in range(PARTITIONS)]
        self._wait_for_leaders()

    def _wait_for_leaders(self) -> None:
        """A topic is created a little before its partitions can be asked for anything."""
        deadline = time.monotonic() + 10
        while True:
            try:
                self.count()
                return
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def count(self) -> int:
        """Messages in it now."""
        asked = self.admin.list_offsets(dict.fromkeys(self.partitions, OffsetSpec.latest()))
        return sum(answer.result(timeout=10).offset for answer in asked.values())

    def check(self, n_messages: int) -> tuple[float, int]:
        """Reads everything: every message must be there as it was published.

        Returns when the last of the first copies was appended (seconds since 1970), and how many came more than once.
        """
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": self.name,
                "enable.auto.commit": False,
                "queued.min.messages": 500_000,
            }
        )
        try:
            consumer.assign([TopicPartition(self.name, partition, 0) for partition in range(PARTITIONS)])
            return self._compare(consumer, n_messages)
        finally:
            consumer.close()

    def _compare(self, consumer: Consumer, n_messages: int) -> tuple[float, int]:
        n_left, last, n_twice = self.count(), 0, 0
        missing = set(range(n_messages))
        deadline = time.monotonic() + 60
        while n_left > 0:
            if time.monotonic() > deadline:
                raise SystemExit(f"bridge: {self.name} could not be read within a minute")
            for message in consumer.consume(10_000, timeout=1):
                if message.error():
                    raise KafkaException(message.error())
                n_left -= 1
                value = message.value()
                if value == load.PROBE:
                    continue
                number = load.number(value)
                if value != load.payload(number):
                    raise SystemExit(f"bridge: {self.name} has {value!r}, which nobody published")
                if number in missing:
                    missing.remove(number)
                    last = max(last, message.timestamp()[1])
                else:
                    n_twice += 1
        if missing:
            raise SystemExit(f"bridge: {len(missing)} of {n_messages} messages are lost, such as {min(missing)}")
        return last / 1000, n_twice
