"""Announcements of models on a real Kafka, and workers that follow them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import iotml
import logs
import pytest
import stores
import topics
from conftest import server
from iotml import ModelStore, ModelTopic, Rollout
from stores import model
from streams import free_port, settle


@pytest.fixture
def bootstrap() -> str:
    """`host:port` of the real Kafka: the embedded one has no transactions."""
    return server("IOTML_KAFKA")


@pytest.fixture
def topic(bootstrap: str, unique: str) -> ModelTopic:
    """An empty topic."""
    return ModelTopic(bootstrap, f"{unique}-models", status_topic=f"{unique}-status")


def in_force(announced: iotml.ModelSet) -> dict[str, str]:
    """Give which rows each version scores."""
    return {it.version: str(it.rollout) if it.is_ready else "retired" for it in announced.versions}


def test_versions_are_announced_promoted_rolled_back_and_retired(topic: ModelTopic, tmp_path: Path) -> None:
    assert topic.announced() == {}
    assert topic.statuses() == []
    store = ModelStore(tmp_path / "store")
    one, two, three = (store.publish(model(tmp_path, version=version)) for version in "123")
    assert in_force(topic.announce(one)) == {"1": "all rows"}
    assert in_force(topic.announce(two, canary=10)) == {"1": "all rows", "2": "10 % of the keys"}
    assert in_force(topic.promote("cars", "2")) == {"1": "retired", "2": "all rows"}
    assert in_force(topic.rollback("cars")) == {"1": "all rows", "2": "retired"}
    assert in_force(topic.announce(three, shadow=True)) == {"1": "all rows", "2": "retired", "3": "shadow"}
    after = topic.retire("cars", "3")
    assert in_force(after) == {"1": "all rows", "2": "retired", "3": "retired"}

    assert topic.announced() == {"cars": after}
    assert topic.announced("cars") == after
    assert topic.announced("trucks") == iotml.ModelSet("trucks")
    assert (after["1"].uri, after["1"].sha256, after["1"].rollout) == (one.uri, one.sha256, Rollout())
    with pytest.raises(KeyError, match="there are 2, 1, 3"):
        after["4"]
    assert str(after) == f"announced of cars:\n  2  retired  {two.uri}\n  1  all rows  {one.uri}\n  3  retired  {three.uri}"


def test_models_may_come_along_or_be_elsewhere(topic: ModelTopic, bootstrap: str, tmp_path: Path) -> None:
    file = model(tmp_path)
    topic.announce("cars", "1", inline=file, weight=1)
    # Version and name are not those in the file, so a manifest comes along too.
    topic.announce("cars", "2", inline=file.read_bytes(), weight=3)
    document = iotml.Manifest.from_json(iotml.Scorer(file).manifest).to_dict() | {"version": "3"}
    announced = topic.announce(
        "cars", "3", uri=file.as_uri(), sha256="ab" * 32, manifest=iotml.Manifest.from_dict(document), canary=2.5
    )
    assert in_force(announced) == {"1": "weight 1", "2": "weight 3", "3": "2.5 % of the keys"}
    assert (announced["1"].inline_bytes, announced["1"].uri) == (file.stat().st_size, None)
    assert "inline, " in str(announced)
    written = topics.read(bootstrap, topic.topic)[-1]
    versions = {it["version"]: it for it in written.json["versions"]}
    assert written.key == b"cars"
    assert "manifest" not in versions["1"]
    assert [versions[number]["manifest"]["version"] for number in "23"] == ["2", "3"]


def test_avro_is_announced_and_read_beside_json(topic: ModelTopic, bootstrap: str, unique: str, tmp_path: Path) -> None:
    file, registry = model(tmp_path), server("IOTML_REGISTRY")
    topic.announce("cars", "1", inline=file)
    avro = ModelTopic(bootstrap, topic.topic, status_topic=f"{unique}-status", format="confluent_avro", registry={"url": registry})
    announced = avro.announce("cars", "2", inline=file, canary=10)
    assert in_force(announced) == {"1": "all rows", "2": "10 % of the keys"}
    assert (topics.read(bootstrap, topic.topic)[-1].value or b"")[:1] == b"\0"
    assert ModelTopic(bootstrap, topic.topic, registry=registry).announced("cars") == announced
    assert "set `registry.url`" in (topic.announced("cars").trouble or "")
    with pytest.raises(iotml.RolloutError, match=r"registry\.url"):
        topic.promote("cars", "2")
    away = ModelTopic(bootstrap, topic.topic, registry=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(iotml.SourceError, match="the schema registry is unavailable"):
        away.announced()


def test_changes_that_cannot_be(topic: ModelTopic, tmp_path: Path) -> None:
    file = model(tmp_path)
    stored = ModelStore("memory://").publish(file)
    topic.announce(stored)
    refused: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: topic.promote("cars", "9"), iotml.RolloutError, 'there is no version "9" of model "cars"; there are 1'),
        (lambda: topic.rollback("cars"), iotml.RolloutError, "retired after it scored all rows, so there is none to go back to"),
        (lambda: topic.announce("cars", "2", inline=file, canary=110), iotml.RolloutError, "at most 100 percent"),
        (lambda: topic.announce(stored, canary=1, shadow=True), iotml.ConfigError, "exclude each other"),
        (lambda: topic.announce(stored, uri="x"), iotml.ConfigError, "says everything of itself"),  # type: ignore[call-overload]
        (lambda: topic.announce("cars", uri="x", sha256="y"), iotml.ConfigError, "version is missing"),  # type: ignore[call-overload]
        (lambda: topic.announce("cars", "2", uri="x"), iotml.ConfigError, "give either uri and sha256"),  # type: ignore[call-overload]
        (lambda: topic.announce("cars", "2", uri="x", sha256="y"), iotml.ConfigError, "is no SHA-256"),
        (lambda: topic.announce("cars", "2", inline=model(tmp_path, score=9.0)), iotml.ModelError, "golden row 0"),
        (lambda: topic.announce("cars", "2", inline=tmp_path), iotml.ModelError, "cannot read"),
    ]
    for call, kind, message in refused:
        with pytest.raises(kind, match=message):
            call()
    assert in_force(topic.announced("cars")) == {"1": "all rows"}


def test_what_workers_say_of_drift_is_read(bootstrap: str, unique: str) -> None:
    topic = ModelTopic(bootstrap, f"{unique}-models", drift_topic=f"{unique}-drift")
    assert topic.drifts() == []
    logs.create(bootstrap, f"{unique}-drift", 1)
    head = '"pipeline": "p", "instance": "w1", "time": 1790000600000, "windows": 3, "rows": 30000'
    far = """"from": 1790000000000, "until": 1790000599000, "log": [{"topic": "in", "partitions": {"0": [12, 34]}}],
        "features": [{"name": "speed", "psi": 1.5, "ks": 0.5, "missing": 0.0}], "anomaly_rate": {"found": 0.1, "expected": 0.01}"""
    reports = [
        f'{{"model": "cars", "version": "3", {head}, {far}}}',
        f'{{"model": "trucks", "version": "1", {head}, "features": []}}',
    ]
    logs.produce(bootstrap, f"{unique}-drift", [logs.Message(report.encode()) for report in reports])
    cars, trucks = topic.drifts()
    assert [cars] == topic.drifts("cars")
    assert (cars.version, cars.rows, cars.log) == ("3", 30_000, (iotml.LogRange("in", {0: (12, 34)}),))
    assert (cars.begun, cars.ended) == (datetime(2026, 9, 21, 14, 13, 20, tzinfo=timezone.utc), cars.time - timedelta(seconds=1))
    assert cars.features == (iotml.FeatureDrift("speed", psi=1.5, ks=0.5, missing=0.0),)
    assert cars.anomaly_rate == iotml.AnomalyRate(found=0.1, expected=0.01)
    assert (trucks.model, trucks.begun, trucks.log, trucks.anomaly_rate) == ("trucks", None, (), None)


def test_what_cannot_be_read_says_why_and_is_not_overwritten(topic: ModelTopic, bootstrap: str) -> None:
    topics.fill(bootstrap, topic.topic, [{"format": 9}], keys=["cars"])
    announced = topic.announced("cars")
    assert announced.versions == ()
    assert "format 9" in (announced.trouble or "")
    assert "format 9" in str(announced)
    with pytest.raises(iotml.RolloutError, match='what is announced of model "cars" cannot be read'):
        topic.announce("cars", "1", uri="file:///cars.onnx", sha256="ab" * 32)


def test_topics_that_cannot_be() -> None:
    for arguments, message in (
        ({"topic": "a b"}, "not a name a Kafka topic can have"),
        ({"topic": "a", "status_topic": "a"}, "must differ from `topic`"),
        ({"timeout": 0}, "a timeout of 0 seconds"),
        ({"replication": -1}, "invalid value"),
        ({"format": "avro"}, "unknown variant `avro`"),
        ({"format": "confluent_avro"}, "`format` is confluent_avro"),
        ({"registry": "registry:8081"}, "must begin with http://"),
    ):
        with pytest.raises(iotml.ConfigError, match=message):
            ModelTopic("127.0.0.1:1", **arguments)
    with pytest.raises(iotml.ConfigError, match=r"bootstrap\.servers"):
        ModelTopic("").announced()


def test_inv_10_no_password_is_told_when_kafka_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sasl = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "me", "sasl.password": "hunter2"}
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("PY_MODEL_TOPIC_PASSWORD", "hunter2")
    given = ModelTopic(address, timeout=0.5, kafka=sasl)
    feed = {"type": "kafka", "connect_timeout": "500ms", "kafka": {**sasl, "bootstrap.servers": address}}
    feed["kafka"]["sasl.password"] = "${env:PY_MODEL_TOPIC_PASSWORD}"  # type: ignore[index]
    file = pipeline(tmp_path / "p.toml", feed, store=str(tmp_path))
    for topic in (given, ModelTopic.from_toml(file)):
        said = [repr(topic)]
        for call in (topic.announced, lambda: topic.promote("cars", "1")):  # noqa: B023 - called at once
            with pytest.raises((iotml.SourceError, iotml.SinkError)) as raised:
                call()
            error: BaseException | None = raised.value
            while error is not None:
                said.append(repr(error))
                error = error.__cause__
        assert len(said) >= 3
        assert not [text for text in said if "hunter2" in text]
    with pytest.raises(iotml.ConfigError) as refused:
        ModelTopic(address, kafka={"sasl.password": ["hunter2"]})  # type: ignore[dict-item]
    assert "hunter2" not in str(refused.value)


def test_a_pipelines_document_says_where(topic: ModelTopic, bootstrap: str, unique: str, tmp_path: Path) -> None:
    feed = {"type": "kafka", "topic": topic.topic, "status_topic": f"{unique}-status"}
    feed["kafka"] = {"bootstrap.servers": bootstrap}  # type: ignore[assignment]
    file = pipeline(tmp_path / "p.toml", feed, store=str(tmp_path / "store"))
    stored = ModelStore.from_toml(file).publish(model(tmp_path))
    assert stored.uri == (tmp_path / "store/cars/1").as_uri()
    same = ModelTopic.from_toml(file)
    assert repr(same) == repr(topic) == f"ModelTopic('{unique}-models')"
    assert same.announce(stored) == topic.announced("cars")

    alone = pipeline(tmp_path / "alone.toml", feed)
    with pytest.raises(iotml.ConfigError, match=r"the scorer of .*alone.toml names no store: set score.follow.store"):
        ModelStore.from_toml(alone)
    still = tmp_path / "still.toml"
    still.write_text(
        iotml.Pipeline.builder("p").source("mqtt", server="mqtt://h", topics=[{"filter": "t"}]).route("r", sink="stdout").toml()
    )
    for kind in (ModelStore, ModelTopic):
        with pytest.raises(iotml.ConfigError, match=r"follows no announcements: it has no score.follow"):
            kind.from_toml(still)
        with pytest.raises(iotml.ConfigError, match="cannot be read"):
            kind.from_toml(tmp_path / "absent.toml")


def pipeline(file: Path, feed: dict[str, Any], **follow: Any) -> Path:
    """Write a pipeline that follows `cars`."""
    builder = iotml.Pipeline.builder("follows").source("mqtt", server="mqtt://h", topics=[{"filter": "t"}]).decode("json")
    builder.score("onnx", follow={"name": "cars", "feed": feed, **follow}).route("r", encode="json", sink="stdout")
    file.write_text(builder.toml())
    return file


def test_a_worker_follows_what_is_announced(topic: ModelTopic, bootstrap: str, unique: str, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    topic.announce(store.publish(model(tmp_path)))
    topics.create(bootstrap, f"{unique}-out")
    feed = {"type": "kafka", "topic": topic.topic, "status_topic": f"{unique}-status"}
    feed["kafka"] = {"bootstrap.servers": bootstrap}  # type: ignore[assignment]
    rows = [{"speed": 4.0, "gear": 2.0}] * 10
    topics.create(bootstrap, unique)
    kafka = {"bootstrap.servers": bootstrap}
    worker = (
        iotml.Pipeline.builder(unique, instance="one")
        .source("kafka", topics=[unique], kafka={**kafka, "group.id": unique})
        .decode("json")
        .score("onnx", follow={"name": "cars", "feed": feed, "store": store.url})
        .route("out", encode="json", sink={"type": "kafka", "topic": f"{unique}-out", "kafka": kafka})
        .build()
    )

    n_rows = 0

    def feed_until(version: str, state: str) -> iotml.ModelStatus:
        """Feed rows until a worker says so: a task takes a model over with its next batch."""
        nonlocal n_rows
        for _ in range(300):
            topics.fill(bootstrap, unique, rows, keys=[f"car-{number}" for number in range(10)])
            n_rows += len(rows)
            settle(worker, n_rows)
            for it in topic.statuses("cars"):
                if (it.version, it.state) == (version, state):
                    return it
        raise AssertionError(f"version {version} did not become {state}")

    with worker:
        assert feed_until("1", "READY").cause is None
        topic.announce(store.publish(model(tmp_path, 0.25, "2")), canary=50)
        feed_until("2", "READY")
        topic.announce("cars", "3", inline=model(tmp_path, 0.75, "3"))
        feed_until("3", "READY")
        topic.announce("cars", "4", uri=(tmp_path / "absent.onnx").as_uri(), sha256="ab" * 32)
        refused = feed_until("4", "UNAVAILABLE")
    assert "cannot read" in (refused.cause or "")
    assert (refused.pipeline, refused.instance) == (unique, "one")
    assert topic.statuses("trucks") == []
    written = topics.read(bootstrap, f"{unique}-out")
    assert len(written) == n_rows
    wanted = {"1": stores.score_of(0.5), "2": stores.score_of(0.25), "3": stores.score_of(0.75)}
    cars: dict[str, set[bytes | None]] = {version: set() for version in wanted}
    for record in written:
        version = record.json["model_version"]
        assert record.json["score"] == pytest.approx(wanted[version])
        cars[version].add(record.key)
    assert all(cars.values())
    # A car stays with the canary, also when another takes the rest; and what could not be had has changed nothing.
    assert cars["2"].isdisjoint(cars["3"])
    assert {record.json["model_version"] for record in written[-10:]} == {"2", "3"}
