"""Servers for the tests, real ones by the environment as in Rust, and embedded ones; data; the wheel."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
from iotml.testing import EmbeddedKafka, EmbeddedMqtt
from log_fixtures import embedded, real, real_topic, topic  # noqa: F401 - makes the fixtures known

REPOSITORY = Path(__file__).parents[2]


def _skip(what: str, required_by: str) -> NoReturn:
    """Skips the test, or fails it where what it needs is required."""
    if os.environ.get(required_by) == "1":
        pytest.fail(f"{what}, and {required_by}=1")
    pytest.skip(what)


def server(name: str) -> str:
    """The address in the environment variable `name`; skips without it, or fails under `IOTML_REQUIRE_SERVERS=1`."""
    return os.environ.get(name) or _skip(f"{name} is not set", "IOTML_REQUIRE_SERVERS")


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


@pytest.fixture
def seed_data() -> Path:
    """The folder of the reference data."""
    folder = Path(os.environ.get("IOTML_SEED_DATA") or REPOSITORY.parent / "shared" / "seed")
    if not folder.is_dir():
        _skip(f"no reference data in {folder}", "IOTML_REQUIRE_SEED_DATA")
    return folder


@pytest.fixture
def onnxruntime() -> None:
    """ONNX Runtime, which a test names that needs it beside tract."""
    if find_spec("onnxruntime") is None:
        _skip("onnxruntime is not installed", "IOTML_REQUIRE_SERVERS")


@pytest.fixture
def cars() -> Path:
    """The default network of the car demo: 18 features, kind reconstruction."""
    return REPOSITORY / "testdata" / "cars" / "cars-autoencoder.onnx"


@pytest.fixture
def wheel() -> Path:
    """The wheel under test: the one `IOTML_WHEEL` names, else the newest in `dist/`."""
    if named := os.environ.get("IOTML_WHEEL"):
        return Path(named)
    wheels = sorted((REPOSITORY / "dist").glob("iotml-*.whl"), key=lambda file: file.stat().st_mtime)
    return wheels[-1] if wheels else _skip("there is no wheel in dist/: run `make wheel`", "IOTML_REQUIRE_SERVERS")
