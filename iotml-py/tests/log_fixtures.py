"""Fixtures of the tests of the log: a topic with framed Avro, on embedded and on real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import logs
import numpy as np
import numpy.typing as npt
import pytest
from iotml import KafkaLog
from iotml.testing import EmbeddedKafka

N_PARTITIONS = 3


@dataclass
class Topic:
    """A topic and what was written to it."""

    bootstrap: str
    registry: str
    name: str
    is_real: bool
    #: Records by partition, in order.
    records: dict[int, list[Mapping[str, Any]]] = field(default_factory=dict)
    keys: dict[int, list[str]] = field(default_factory=dict)

    def write(
        self,
        records: Sequence[Mapping[str, Any]],
        schema: Mapping[str, Any] = logs.V2,
        *,
        n_partitions: int = N_PARTITIONS,
        n_keys: int = 5,
    ) -> None:
        """Writes records in turn to the partitions, framed; a key stands in one partition."""
        number = logs.register(self.registry, f"{self.name}-value", schema)
        messages = []
        for at, record in enumerate(records):
            partition = at % n_partitions
            key = f"p{partition}-k{(at // n_partitions * 7) % n_keys}"
            self.records.setdefault(partition, []).append(record)
            self.keys.setdefault(partition, []).append(key)
            time = 1_700_000_000_000 + at * 1000
            messages.append(logs.Message(logs.frame(number, schema, record), partition, key, time))
        logs.produce(self.bootstrap, self.name, messages)

    def add(self, messages: Sequence[logs.Message]) -> None:
        """Writes messages as they are."""
        logs.produce(self.bootstrap, self.name, messages)

    def rows(self) -> list[Mapping[str, Any]]:
        """The records in the order of a read."""
        return [record for partition in sorted(self.records) for record in self.records[partition]]

    def row_keys(self) -> list[str]:
        """The keys in the order of a read."""
        return [key for partition in sorted(self.keys) for key in self.keys[partition]]

    def x(self, *names: str) -> npt.NDArray[np.float32]:
        """The raw features in the order of a read."""
        return np.array([[value(record, name) for name in names] for record in self.rows()], np.float32)

    def log(self, **options: Any) -> KafkaLog:
        """A log of it."""
        options.setdefault("features", ["pressure", "flow", "stage"])
        return KafkaLog(self.bootstrap, self.name, registry=self.registry, progress=False, **options)


def value(record: Mapping[str, Any], name: str) -> Any:
    """A field by its dotted name."""
    at: Any = record
    for part in name.split("."):
        at = at[part]
    return at


@pytest.fixture
def embedded(unique: str) -> Iterator[Topic]:
    """A topic on the embedded Kafka, with a stub of a registry."""
    with EmbeddedKafka({unique: N_PARTITIONS}) as cluster, logs.stub_registry() as registry:
        yield Topic(cluster.bootstrap, registry, unique, is_real=False)


@pytest.fixture
def real(unique: str) -> Topic:
    """A topic on a real Kafka, with a real registry."""
    bootstrap, registry = _servers()
    logs.create(bootstrap, unique, N_PARTITIONS)
    return Topic(bootstrap, registry, unique, is_real=True)


@pytest.fixture(params=["embedded", "real"])
def topic(request: pytest.FixtureRequest) -> Topic:
    """A topic, once on embedded and once on real servers."""
    made: Topic = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def real_topic(unique: str) -> Callable[..., Topic]:
    """Makes a topic on a real Kafka with a configuration."""

    def make(n_partitions: int = 1, **config: str) -> Topic:
        bootstrap, registry = _servers()
        logs.create(bootstrap, unique, n_partitions, {key.replace("_", "."): text for key, text in config.items()})
        return Topic(bootstrap, registry, unique, is_real=True)

    return make


def _servers() -> tuple[str, str]:
    # Here, because the fixtures of this file are made known by that one.
    from conftest import server

    return server("IOTML_KAFKA"), server("IOTML_REGISTRY")
