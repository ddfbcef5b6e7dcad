"""Scorers of versions in stores, by their URIs alone."""

from __future__ import annotations

from pathlib import Path

import iotml
import numpy as np
import pytest
import stores
from conftest import server
from iotml import ModelStore
from stores import model

ROW = np.array([4.0, 2.0], np.float32)


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "our models"
    published = ModelStore(folder).publish(model(tmp_path))
    for uri in (published.uri, (folder / "cars/1").as_uri()):
        assert iotml.Scorer(uri).score(ROW) == pytest.approx(stores.score_of(0.5))
    # A file is what it was before.
    assert iotml.Scorer((folder / "cars/1/model.onnx").as_uri()).name == "cars"


def test_a_bucket_is_asked_with_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unique: str) -> None:
    for name, value in stores.variables(stores.properties(server("IOTML_S3"))).items():
        monkeypatch.setenv(name, value)
    published = ModelStore(f"s3://models/{unique}").publish(model(tmp_path, 0.25, "3"))
    scorer = iotml.Scorer(published.uri)
    assert (scorer.version, scorer.score(ROW)) == ("3", pytest.approx(stores.score_of(0.25)))


def test_a_manifest_given_wins_over_the_store(tmp_path: Path) -> None:
    store = ModelStore("memory://uri")
    uri = store.publish(model(tmp_path)).uri
    assert iotml.Scorer(uri).threshold == 1.5
    changed = iotml.Manifest.from_dict(store.manifest("cars", "1").to_dict() | {"threshold": {"value": 5.0}})
    assert iotml.Scorer(uri, manifest=changed.to_json()).threshold == 5.0


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://host/cars.onnx", '"http" is no scheme that models are read from.*such as s3://models/cars/4'),
        ("s3://models", "must end with the name and the version"),
        ("s3://models/cars/..", "must end with the name and the version"),
        ("memory://nowhere/cars/1", "there is no model cars 1 in memory://nowhere"),
        ("memory:///cars/1", "there is no model cars 1"),
    ],
)
def test_uris_of_no_model(uri: str, message: str) -> None:
    with pytest.raises((iotml.ConfigError, iotml.StoreError), match=message):
        iotml.Scorer(uri)


def test_a_store_opens_only_what_is_in_it(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    uri = ModelStore(tmp_path / "other").publish(model(tmp_path)).uri
    with pytest.raises(iotml.ConfigError, match="is not the address of a model in the store"):
        iotml.Scorer(uri, store=store)
    with pytest.raises(iotml.ConfigError, match=r"store is no iotml.ModelStore"):
        iotml.Scorer(uri, store="file:///srv/models")  # type: ignore[arg-type]
