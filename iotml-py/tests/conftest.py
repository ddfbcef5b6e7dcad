"""Servers for the tests, real ones by the environment as in Rust, and embedded ones; data; the wheel."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import iotml
import pytest
from cars_topic import fill
from iotml.testing import EmbeddedKafka, EmbeddedMqtt
from log_fixtures import embedded, real, real_topic, topic  # noqa: F401 - makes the fixtures known

REPOSITORY = Path(__file__).parents[2]

# A shell starts what it puts into the background with Ctrl-C ignored, and every process from there on would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """`host:port` of one embedded MQTT broker for all tests of a file; each has topics of its own."""
    with EmbeddedMqtt() as broker:
        yield broker.address


@pytest.fixture
def plugins() -> iotml.Plugins:
    """No plug-ins yet."""
    return iotml.Plugins()


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


@pytest.fixture(params=["onnxruntime", "tract"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    return str(request.param)


@pytest.fixture
def scorer(cars: Path, engine: str) -> iotml.Scorer:
    """The demo's network on each engine in turn."""
    return iotml.Scorer(cars, engine=engine)


@pytest.fixture
def wheel() -> Path:
    """The wheel under test: the one `IOTML_WHEEL` names, else the newest in `dist/`."""
    if named := os.environ.get("IOTML_WHEEL"):
        return Path(named)
    wheels = sorted((REPOSITORY / "dist").glob("iotml-*.whl"), key=lambda file: file.stat().st_mtime)
    return wheels[-1] if wheels else _skip("there is no wheel in dist/: run `make wheel`", "IOTML_REQUIRE_SERVERS")


@pytest.fixture(scope="session")
def cars_log() -> list[str]:
    """The arguments that name a topic of 500 cars, filled over MQTT."""
    name = f"py-{uuid.uuid4().hex[:12]}"
    kafka, registry = server("IOTML_KAFKA"), server("IOTML_REGISTRY")
    fill(kafka, server("IOTML_MOSQUITTO"), registry, name, n_cars=500, n_readings=100, seed=21)
    return ["--bootstrap", kafka, "--registry", registry, "--topic", name]
