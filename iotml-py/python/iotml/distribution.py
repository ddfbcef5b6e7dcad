"""What the rows were like that a model was trained on, so that whoever scores others can say how far they are from it.

Raw values and scores are written down as shares of bins: a value is in the bin behind the last edge that is not above
it, so there is one bin more than there are edges. The engine compares live rows with them (`[score.watch]`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ConfigError

if TYPE_CHECKING:
    from iotml.manifest import Feature

FloatArray = npt.NDArray[np.float32]

#: Bins between the lowest and the highest value of a feature.
_N_BINS = 20
#: Where the bins of scores meet: finer where the anomalies are.
_SCORE_QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
_DIGITS = 6


@dataclass(frozen=True)
class FeatureDistribution:
    """The raw values of a feature: `edges` rise, `shares` are those of the bins among the rows that have a value.

    `missing` is the share of the rows that have none.
    """

    name: str
    edges: Sequence[float]
    shares: Sequence[float]
    missing: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        document = {"name": self.name, "edges": list(self.edges), "shares": list(self.shares)}
        return document | ({"missing": self.missing} if self.missing else {})


@dataclass(frozen=True)
class ScoreDistribution:
    """The scores, in bins like those of a feature; `anomalies` is the share of rows that are taken for anomalies."""

    edges: Sequence[float]
    shares: Sequence[float]
    anomalies: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        document: dict[str, Any] = {"edges": list(self.edges), "shares": list(self.shares)}
        return document | ({} if self.anomalies is None else {"anomalies": self.anomalies})


@dataclass(frozen=True)
class Distribution:
    """The training rows, `rows` in number, as shares of bins."""

    features: Sequence[FeatureDistribution] = ()
    score: ScoreDistribution | None = None
    rows: int | None = None

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Distribution:
        """Read the JSON form."""
        features = tuple(FeatureDistribution(**feature) for feature in document.get("features", ()))
        score = document.get("score")
        return cls(features, None if score is None else ScoreDistribution(**score), document.get("rows"))

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        document: dict[str, Any] = {} if self.rows is None else {"rows": self.rows}
        document["features"] = [feature.to_dict() for feature in self.features]
        return document | ({} if self.score is None else {"score": self.score.to_dict()})


def describe(features: Sequence[Feature], rows: npt.ArrayLike) -> Distribution:
    """Describe raw rows `[n, n_features]`; numbers that are not finite are missing values.

    A constant feature, which is never read, is left out, and so is one without any value.

    >>> from iotml.manifest import Feature
    >>> found = describe([Feature("gear")], np.float32([[1], [2], [2], [3]])).features[0]
    >>> found.edges, found.shares
    ([1.0, 2.0, 3.0, 3.0000002], [0.0, 0.25, 0.5, 0.25, 0.0])
    """
    raw = np.asarray(rows)
    if raw.ndim != 2 or raw.shape[1] != len(features) or raw.dtype.kind not in "fiub":
        raise ConfigError(f"rows have the shape {list(raw.shape)}, but raw rows [n, {len(features)}] are needed")
    with np.errstate(over="ignore"):
        raw = raw.astype(np.float32)
    columns = [_column(feature.name, raw[:, at]) for at, feature in enumerate(features) if feature.constant is None]
    return Distribution([column for column in columns if column is not None], rows=len(raw))


def describe_scores(scores: npt.ArrayLike, threshold: float | None = None) -> ScoreDistribution | None:
    """Describe scores `[n]`, of which those that are NaN do not count; `None` if there are none.

    `threshold` is the score from which on a row is an anomaly.
    """
    values = np.asarray(scores, np.float32)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    inner = np.quantile(values, _SCORE_QUANTILES, method="inverted_cdf")
    if threshold is not None and np.isfinite(np.float32(threshold)):
        inner = np.append(inner, np.float32(threshold))
    edges = _edges(inner, float(max(values.max(), inner.max())))
    reached = None if threshold is None else round(float(np.mean(values >= np.float32(threshold))), _DIGITS)
    return ScoreDistribution(_decimals(edges), _shares(values, edges), reached)


def _column(name: str, column: FloatArray) -> FeatureDistribution | None:
    values = column[np.isfinite(column)]
    if not len(values):
        return None
    unique = np.unique(values)
    # Few values have a bin each, so that a change from one to another is seen.
    quantiles = np.linspace(0, 1, _N_BINS + 1)[:-1]
    inner = unique if len(unique) <= _N_BINS else np.quantile(values, quantiles, method="inverted_cdf")
    edges = _edges(inner, float(unique[-1]))
    missing = round(1 - len(values) / len(column), _DIGITS)
    return FeatureDistribution(name, _decimals(edges), _shares(values, edges), missing)


def _edges(inner: npt.NDArray[Any], highest: float) -> FloatArray:
    """Edges with bins of their own for what is below and above all values."""
    above = np.nextafter(np.float32(highest), np.float32(np.inf))
    return np.unique(np.append(inner.astype(np.float32), above if np.isfinite(above) else []).astype(np.float32))


def _shares(values: FloatArray, edges: FloatArray) -> list[float]:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return [round(float(count / len(values)), _DIGITS) for count in counts]


def _decimals(edges: FloatArray) -> list[float]:
    """Give the shortest decimals that name the same float32 numbers."""
    return [float(str(edge)) for edge in edges]
