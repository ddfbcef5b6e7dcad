"""Servers for the tests: real ones by the environment, as the Rust tests take them, and embedded ones."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from iotml.testing import EmbeddedKafka, EmbeddedMqtt


def server(name: str) -> str:
    """The address in the environment variable `name`; skips without it, or fails under `IOTML_REQUIRE_SERVERS=1`."""
    address = os.environ.get(name)
    if not address:
        if os.environ.get("IOTML_REQUIRE_SERVERS") == "1":
            pytest.fail(f"{name} is not set, and IOTML_REQUIRE_SERVERS=1")
        pytest.skip(f"{name} is not set")
    return address


@pytest.fixture
def unique() -> str:
    """A name that no other test has."""
    return f"py-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["embedded", "real"])
def kafka(request: pytest.FixtureRequest) -> Iterator[str]:
    """`host:port` of a Kafka, once the embedded one and once the real one."""
    if request.param == "real":
        yield server("IOTML_KAFKA")
        return
    with EmbeddedKafka() as cluster:
        yield cluster.bootstrap


@pytest.fixture
def embedded_kafka() -> Iterator[str]:
    """`host:port` of a Kafka inside this process."""
    with EmbeddedKafka() as cluster:
        yield cluster.bootstrap


@pytest.fixture(params=["embedded", "real"])
def mqtt(request: pytest.FixtureRequest) -> Iterator[str]:
    """`host:port` of an MQTT broker, once the embedded one and once the real one."""
    if request.param == "real":
        yield server("IOTML_MOSQUITTO")
        return
    with EmbeddedMqtt() as broker:
        yield broker.address


@pytest.fixture
def until() -> Callable[[Callable[[], bool], str], None]:
    """Waits until a condition holds, for at most 30 seconds."""
    from time import monotonic, sleep

    def wait(condition: Callable[[], bool], what: str) -> None:
        deadline = monotonic() + 30
        while not condition():
            assert monotonic() < deadline, f"waited in vain until {what}"
            sleep(0.005)

    return wait
