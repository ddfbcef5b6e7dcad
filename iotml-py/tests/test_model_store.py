"""Stores of models: what is published is what is fetched, and scored with."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import iotml
import numpy as np
import pytest
import stores
from conftest import server
from iotml import ModelStore
from stores import model
from streams import free_port

ROW = np.array([4.0, 2.0], np.float32)


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Iterator[ModelStore]:
    """An empty store of each kind."""
    if request.param == "folder":
        yield ModelStore(tmp_path / "store")
    elif request.param == "memory":
        yield ModelStore(f"memory://{unique}")
    else:
        yield ModelStore(f"s3://models/{unique}", properties=stores.properties(server("IOTML_S3")))


def test_what_is_published_is_listed_described_fetched_and_scored_with(store: ModelStore, tmp_path: Path) -> None:
    assert list(store.list()) == []
    file = model(tmp_path)
    published = store.publish(file)
    assert (published.name, published.version, published.is_new) == ("cars", "1", True)
    assert published.uri == store.uri("cars", "1") == f"{store.url}/cars/1"
    again = store.publish(file.read_bytes())
    assert (again.sha256, again.is_new) == (published.sha256, False)
    renamed = store.publish(model(tmp_path, 0.25), name="trucks", version="2")
    assert (renamed.name, renamed.version) == ("trucks", "2")

    listed = store.list()
    assert [(it.name, it.version, it.uri, it.n_bytes, it.is_signed) for it in listed] == [
        ("cars", "1", published.uri, file.stat().st_size, False),
        ("trucks", "2", renamed.uri, model(tmp_path, 0.25).stat().st_size, False),
    ]
    assert abs(listed[0].published - datetime.now(timezone.utc)) < timedelta(minutes=5)
    assert list(store.list("trucks")) == [listed[1]]
    assert list(store.list("buses")) == []

    manifest = store.manifest("trucks", "2")
    assert (manifest.name, manifest.version, manifest.feature_names) == ("trucks", "2", ["speed", "gear"])
    assert manifest.extra["model_sha256"] == renamed.sha256
    fetched = store.fetch("cars", "1", sha256=published.sha256)
    assert (fetched.onnx, fetched.sha256, fetched.uri) == (file.read_bytes(), published.sha256, published.uri)
    assert (fetched.manifest.name, "onnx" in repr(fetched)) == ("cars", False)

    scorer = iotml.Scorer(renamed.uri, store=store)
    # The manifest in the store counts, not the one in the file.
    assert (scorer.name, scorer.version, scorer.threshold) == ("trucks", "2", 1.5)
    assert scorer.score(ROW) == pytest.approx(stores.score_of(0.25))
    assert f"of {renamed.uri} on " in repr(scorer)


def test_a_manifest_given_takes_the_place_of_the_others(tmp_path: Path) -> None:
    store = ModelStore("memory://")
    manifest = iotml.Manifest.from_json(iotml.Scorer(model(tmp_path)).manifest)
    document = manifest.to_dict() | {"name": "buses", "version": "7"}
    assert store.publish(model(tmp_path), manifest=iotml.Manifest.from_dict(document)).uri == "memory:///buses/7"
    beside = tmp_path / "given.json"
    beside.write_text(iotml.Manifest.from_dict(document | {"version": "8"}).to_json())
    assert store.publish(model(tmp_path).read_bytes(), manifest=beside, name="cars").uri.endswith("cars/8")
    with pytest.raises(iotml.ModelError, match="cannot read the manifest"):
        store.publish(model(tmp_path), manifest=tmp_path / "absent.json")


def test_what_no_worker_would_load_is_not_published(tmp_path: Path) -> None:
    store = ModelStore("memory://")
    wrong = model(tmp_path, score=9.0)
    with pytest.raises(iotml.ModelError, match=r"golden row 0 is 2.5, but training saw 9"):
        store.publish(wrong)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(iotml.ModelError, match=r"not ONNX|is refused"):
        store.publish(tmp_path / "text.onnx")
    with pytest.raises(iotml.ModelError, match="cannot read") as raised:
        store.publish(tmp_path / "absent.onnx")
    assert isinstance(raised.value.__cause__, FileNotFoundError)
    assert list(store.list()) == []
    # Whoever wants no engine to see it is believed.
    assert store.publish(wrong, check=False).is_new
    small = ModelStore("memory://", max_bytes=100)
    with pytest.raises(iotml.ModelError, match="100 bytes"):
        small.publish(model(tmp_path))


def test_versions_never_change(store: ModelStore, tmp_path: Path) -> None:
    store.publish(model(tmp_path))
    with pytest.raises(iotml.StoreError, match="versions never change, so publish under another version") as raised:
        store.publish(model(tmp_path, 0.25))
    assert (raised.value.retryable, isinstance(raised.value, OSError)) == (False, True)
    with pytest.raises(iotml.StoreError, match=r"there is no model cars 9 in .*`iotml model list` shows what there is"):
        store.fetch("cars", "9")
    with pytest.raises(iotml.ModelError, match="was announced"):
        store.fetch("cars", "1", sha256="0" * 64)
    for wrong in ({"sha256": "12"}, {"version": "../1"}):
        with pytest.raises(iotml.ConfigError):
            store.fetch(**{"name": "cars", "version": "1", **wrong})


def test_what_was_damaged_or_replaced_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store", cache=tmp_path / "cache")
    published = store.publish(model(tmp_path))
    file = tmp_path / "store/cars/1/model.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?")
    for use in (lambda: store.fetch("cars", "1"), lambda: iotml.Scorer(published.uri)):
        with pytest.raises(iotml.ModelError, match="it is damaged or replaced and is not used"):
            use()
    file.write_bytes(whole)
    assert store.fetch("cars", "1").onnx == whole
    file.write_bytes(b"")
    # What was verified once is kept on disk.
    assert store.fetch("cars", "1").onnx == whole


def test_signatures_are_looked_at(tmp_path: Path) -> None:
    mine, other = stores.keys(tmp_path, "mine"), stores.keys(tmp_path, "other")
    folder = tmp_path / "store"
    ModelStore(folder).publish(model(tmp_path))
    trusting = ModelStore(folder, trusted_keys=[mine[1]], require_signature=True)
    with pytest.raises(iotml.ModelError, match="is not signed, and require_signature is set"):
        iotml.Scorer(trusting.uri("cars", "1"), store=trusting)
    signed = ModelStore(folder, signing_key=mine[0]).publish(model(tmp_path, 0.25, "2"))
    assert iotml.Scorer(signed.uri, store=trusting).version == "2"
    assert [it.is_signed for it in trusting.list()] == [False, True]
    with pytest.raises(iotml.ModelError, match="by one of the 1 trusted keys"):
        ModelStore(folder, trusted_keys=[other[1]]).manifest("cars", "2")
    with pytest.raises(iotml.ConfigError, match="is no public key of ed25519"):
        ModelStore(folder, trusted_keys=[mine[0]])
    with pytest.raises(iotml.ConfigError, match="cannot read the key") as raised:
        ModelStore(folder, signing_key=tmp_path / "absent.pem")
    assert isinstance(raised.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("ftp://host/models", {}, "there are file://, memory://, s3://"),
        ("s3://", {}, "the bucket is missing"),
        ("folder", {"properties": {"aws_region": "eu"}}, "is no bucket, so it has no properties"),
        ("s3://b", {"properties": {"aws_regoin": "eu"}}, "aws_regoin"),
        ("folder", {"require_signature": True}, "trusted_keys"),
        ("folder", {"request_timeout": -1.0}, "request_timeout: -1.0 seconds cannot be waited for"),
        ("folder", {"max_retries": -1}, "invalid value"),
    ],
)
def test_stores_that_cannot_be(url: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(iotml.ConfigError, match=message):
        ModelStore(url, **options)  # type: ignore[arg-type]


def test_a_store_that_is_away_or_hangs_says_so_and_may_be_asked_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (silent.getsockname()[1], free_port()):
            store = ModelStore("s3://models", **stores.impatient(f"http://127.0.0.1:{port}"))
            with pytest.raises(iotml.StoreError, match=r"cannot write s3://models/cars/1/model.onnx") as raised:
                store.publish(model(tmp_path))
            assert raised.value.retryable
            with pytest.raises(iotml.StoreError, match=r"cannot read s3://models/cars/1/manifest.json"):
                iotml.Scorer("s3://models/cars/1", store=store)


def test_inv_10_credentials_are_not_told(tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    store = ModelStore("s3://models", **stores.impatient(endpoint, "hunter2"))
    said = [repr(store), str(store)]
    for call in (store.list, lambda: store.publish(model(tmp_path)), lambda: iotml.Scorer("s3://models/c/1", store=store)):
        with pytest.raises(iotml.StoreError) as raised:
            call()
        error: BaseException | None = raised.value
        while error is not None:
            said += [str(error), repr(error)]
            error = error.__cause__
    unusable: list[dict[str, Any]] = [
        {"url": "s3://id:hunter2@models"},
        {"properties": {"aws_secret_access_key": ["hunter2"]}},
    ]
    for wrong in unusable:
        with pytest.raises(iotml.ConfigError) as refused:
            ModelStore(**{"url": "s3://models", **wrong})
        said.append(str(refused.value))
    with pytest.raises(iotml.ConfigError) as refused:
        iotml.Scorer("s3://id:hunter2@models/cars/1?token=hunter2")
    said.append(str(refused.value))
    assert len(said) > 10
    assert not [text for text in said if "hunter2" in text]


def test_a_store_travels_by_pickle_and_so_does_its_scorer(store: ModelStore, tmp_path: Path) -> None:
    uri = store.publish(model(tmp_path)).uri
    again = pickle.loads(pickle.dumps(store))
    assert repr(again) == repr(store)
    assert [it.uri for it in again.list()] == [uri]
    scorer = iotml.Scorer(uri, store=store)
    copy = pickle.loads(pickle.dumps(scorer))
    assert repr(copy) == repr(scorer)
    assert copy.score(ROW) == scorer.score(ROW)
