"""The manifest's Python form against the engine's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from iotml import ModelError
from iotml.manifest import Feature, Manifest, RangeScale, StandardScale, scale, unscale

CARS = Path(__file__).parents[2] / "testdata/cars/cars-autoencoder.json"
DOCUMENT = {
    "kind": "reconstruction",
    "name": "cars",
    "version": 3,
    "inputs": [{"name": "input"}],
    "outputs": [{"name": "out", "role": "reconstruction"}],
    "features": [
        {"name": "speed", "scale": {"min": 0, "max": 50}},
        {"name": "volt", "scale": {"mean": 230.0, "std": 10.0}, "impute": 230},
        {"name": "throttle", "scale": None},
        {"name": "coolant", "scale": None, "constant": 0.5},
    ],
    "threshold": {"method": "per_feature", "per_feature": {"speed": 2.0}},
    "golden": {"input": [[12.5, 231.0, 0.4, 0.0]], "score": [0.0042], "tolerance": 1e-3},
    "trained": {"framework": "tensorflow", "batch": 100},
    "licence": "Apache-2.0",
}


def test_every_field_survives_reading_and_writing() -> None:
    manifest = Manifest.from_dict(DOCUMENT)
    assert manifest.version == "3"
    assert manifest.features[1] == Feature("volt", StandardScale(230.0, 10.0), impute=230)
    assert manifest.extra == {"licence": "Apache-2.0"}
    again = json.loads(manifest.to_json())
    assert again == {"manifest_version": 1, **DOCUMENT, "version": "3"}
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_committed_manifest_reads_back_as_it_is() -> None:
    assert Manifest.read(CARS).to_dict() == json.loads(CARS.read_text())


def test_scaling_is_the_engines() -> None:
    features = Manifest.from_dict(DOCUMENT).features
    scaled = scale(features, [[0.0, 230.0, 7.0, np.nan], [50.0, 250.0, 0.0, 9.0]])
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [[-1.0, 0.0, 7.0, 0.5], [1.0, 2.0, 0.0, 0.5]]
    np.testing.assert_allclose(unscale(features, scaled)[:, :3], [[0.0, 230.0, 7.0], [50.0, 250.0, 0.0]])
    with pytest.raises(ModelError, match=r"\[n, 4\] is needed"):
        scale(features, [[1.0, 2.0]])


def test_what_the_engine_would_refuse_is_refused() -> None:
    with pytest.raises(ModelError, match=r"features\[0\]\.scale"):
        Manifest("reconstruction", "cars", [Feature("speed", RangeScale(1.0, 1.0))]).check()
    with pytest.raises(ModelError, match="JSON"):
        Manifest("reconstruction", "cars", [Feature("speed", StandardScale(float("nan"), 1.0))]).check()
    with pytest.raises(ModelError, match="treshold"):
        Manifest.from_dict({**DOCUMENT, "treshold": {}})
    with pytest.raises(ModelError, match="expected form"):
        Manifest.from_json("{")
