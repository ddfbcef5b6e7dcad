"""What the training rows were like, as the manifest writes it and the engine reads it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import models
import numpy as np
import numpy.typing as npt
import pytest
from exporting import FEATURES, manifest, rows
from iotml import ConfigError, ModelError, Scorer, embed_manifest
from iotml.distribution import Distribution, FeatureDistribution, ScoreDistribution, describe, describe_scores
from iotml.manifest import Feature, Manifest
from iotml.train.presets import Statistics

RNG = np.random.default_rng(11)


def test_shares_are_those_of_the_bins() -> None:
    values = RNG.normal(size=(10_000, 1)).astype(np.float32)
    found = describe([Feature("speed")], values).features[0]
    assert len(found.edges) == 21
    assert len(found.shares) == 22
    assert sum(found.shares) == pytest.approx(1, abs=1e-4)
    assert (found.shares[0], found.shares[-1]) == (0, 0), "nothing is below the lowest or above the highest"
    assert found.shares[1:-1] == pytest.approx([0.05] * 20, abs=1e-3)
    edges = np.array(found.edges, np.float32)
    assert edges[0] == values.min()
    assert values.max() < edges[-1] <= np.nextafter(values.max(), np.float32(np.inf))
    by_search = [float(np.mean((values >= low) & (values < high))) for low, high in pairwise(edges)]
    assert found.shares[1:-1] == pytest.approx(by_search, abs=1e-6)


def test_few_values_have_a_bin_each() -> None:
    gear = np.repeat(np.array([1, 2, 5], np.float32), [970, 20, 10])[:, None]
    found = describe([Feature("gear")], gear).features[0]
    assert found.edges[:-1] == [1.0, 2.0, 5.0]
    assert found.shares == [0.0, 0.97, 0.02, 0.01, 0.0]
    still = describe([Feature("still")], np.full((9, 1), 0.7)).features[0]
    assert still.edges == [0.7, 0.70000005]
    assert still.shares == [0.0, 1.0, 0.0]


def test_what_is_missing_is_counted_and_what_is_never_read_left_out() -> None:
    features = [Feature("speed"), Feature("coolant", constant=0.0), Feature("gone")]
    raw = np.array([[1.0, 5.0, np.nan], [np.nan, 5.0, np.nan], [2.0, 5.0, np.inf], [3.0, 5.0, 1e300]])
    found = describe(features, raw)
    assert [feature.name for feature in found.features] == ["speed"]
    assert (found.rows, found.features[0].missing) == (4, 0.25)
    assert found.features[0].shares == [0.0, 0.333333, 0.333333, 0.333333, 0.0]


@pytest.mark.parametrize("raw", [np.zeros(4), np.zeros((2, 3)), np.full((2, 4), "fast")])
def test_rows_of_another_form_are_refused(raw: npt.NDArray[Any]) -> None:
    with pytest.raises(ConfigError, match=r"raw rows \[n, 4\] are needed"):
        describe(FEATURES, raw)


def test_scores_have_the_threshold_among_their_edges() -> None:
    scores = RNG.exponential(size=5_000).astype(np.float32)
    found = describe_scores(np.r_[scores, np.nan], 6.0)
    assert found is not None
    assert 6.0 in found.edges
    assert found.anomalies == pytest.approx(np.mean(scores >= 6.0), abs=1e-6)
    assert sum(found.shares) == pytest.approx(1, abs=1e-4)
    assert describe_scores([np.nan]) is None
    low = describe_scores([0.1, 0.2], 9.0)
    assert low is not None
    assert low.edges[-2] == 9.0
    assert low.anomalies == 0


def test_the_engine_reads_what_is_written(tmp_path: Path) -> None:
    raw = rows(2_000)
    spread = describe(FEATURES, raw)
    spread = Distribution(spread.features, describe_scores([0.1, 0.2, 0.7], 0.5), spread.rows)
    written = manifest(distribution=spread)
    written.check()
    assert Manifest.from_json(written.to_json()) == Manifest.from_dict(written.to_dict())
    assert json.loads(written.to_json())["distribution"]["score"]["anomalies"] == pytest.approx(1 / 3, abs=1e-5)
    path = models.scaled_copy(tmp_path / "cars.onnx", 4, 1.0)
    path.write_bytes(embed_manifest(path.read_bytes(), written.to_json()))
    # The engine writes it back as it read it.
    read = json.loads(Scorer(str(path), golden="none").manifest)
    assert read["distribution"] == json.loads(written.to_json())["distribution"]


def test_what_the_engine_would_refuse_is_refused() -> None:
    def refused(feature: FeatureDistribution, score: ScoreDistribution | None = None) -> str:
        with pytest.raises(ModelError) as error:
            manifest(distribution=Distribution([feature], score)).check()
        return str(error.value)

    good = FeatureDistribution("speed", [1.0], [0.5, 0.5])
    assert "do not rise: 2 comes before 1" in refused(FeatureDistribution("speed", [2.0, 1.0], [0.0, 0.5, 0.5]))
    assert "are 0.75 in all, but must be 1" in refused(FeatureDistribution("speed", [1.0], [0.5, 0.25]))
    assert "is none of the manifest's features" in refused(FeatureDistribution("sped", [1.0], [0.5, 0.5]))
    assert "distribution.score.shares: are 1" in refused(good, ScoreDistribution([1.0], [1.0]))


def test_statistics_keep_an_even_sample_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotml.train.presets.scaling._SAMPLE_ROWS", 1_000)
    whole = np.arange(20_000, dtype=np.float32)[:, None]
    found = Statistics.of(np.array_split(whole, 37)).describe([Feature("at")])
    assert found.rows == 20_000
    edges = np.array(found.features[0].edges)
    # Of a thousand rows, each quantile is within a few percent of the whole's.
    np.testing.assert_allclose(edges[1:-1], np.linspace(0, 20_000, 21)[1:-1], atol=1_200)
    few = Statistics.of([whole[:300], whole[300:900]]).describe([Feature("at")])
    assert few.features[0] == describe([Feature("at")], whole[:900]).features[0]
