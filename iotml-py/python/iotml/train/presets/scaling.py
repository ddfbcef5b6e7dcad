"""Scaling fitted to data, in one pass over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from iotml.distribution import Distribution, describe
from iotml.exceptions import ConfigError
from iotml.manifest import Feature, RangeScale, Scale, StandardScale

FloatArray = npt.NDArray[np.float64]

#: Rows that are kept to say how values are spread, and numbers in them.
_SAMPLE_ROWS = 65_536
_SAMPLE_NUMBERS = 2**24


class Statistics:
    """Count, mean, deviation, range and spread of every column of rows `[n, n_features]` that come in batches.

    >>> found = Statistics.of([np.float32([[1, 10]]), np.float32([[3, 30]])])
    >>> found.n_rows, found.mean.tolist(), found.std.tolist(), found.min.tolist()
    (2, [2.0, 20.0], [1.0, 10.0], [1.0, 10.0])
    """

    def __init__(self, n_features: int) -> None:
        """Start with no rows."""
        self.n_rows = 0
        self.mean: FloatArray = np.zeros(n_features)
        self.min: FloatArray = np.full(n_features, np.inf)
        self.max: FloatArray = np.full(n_features, -np.inf)
        self._squares: FloatArray = np.zeros(n_features)
        self._room = max(1, min(_SAMPLE_ROWS, _SAMPLE_NUMBERS // max(n_features, 1)))
        self._sample: npt.NDArray[np.float32] = np.empty((0, n_features), np.float32)
        self._draws = np.random.default_rng(0)

    @classmethod
    def of(cls, batches: Iterable[npt.NDArray[np.float32]]) -> Statistics:
        """Take the statistics of all batches; raises `ConfigError` if there are no rows, or one has NaN or infinity."""
        found: Statistics | None = None
        for batch in batches:
            if found is None:
                found = cls(batch.shape[1])
            found.add(batch)
        if found is None or found.n_rows == 0:
            raise ConfigError("there are no rows to train on: look at the range, the filter and the topic")
        return found

    def add(self, batch: npt.NDArray[np.float32]) -> None:
        """Take in rows `[n, n_features]`; raises `ConfigError` for one with NaN or infinity."""
        if not len(batch):
            return
        if not np.isfinite(batch).all():
            row, column = np.argwhere(~np.isfinite(batch))[0]
            raise ConfigError(f"training row {self.n_rows + row} has {batch[row, column]} in column {column}; leave such rows out")
        self._keep(batch)
        rows = batch.astype(np.float64)
        mean, n_all = rows.mean(axis=0), self.n_rows + len(rows)
        # Merged by the means of both parts, since sums of squares would lose what the deviation is made of.
        step = mean - self.mean
        self._squares += ((rows - mean) ** 2).sum(axis=0) + step**2 * self.n_rows * len(rows) / n_all
        self.mean = self.mean + step * len(rows) / n_all
        self.min, self.max = np.minimum(self.min, rows.min(axis=0)), np.maximum(self.max, rows.max(axis=0))
        self.n_rows = n_all

    def describe(self, features: Sequence[Feature]) -> Distribution:
        """How the values of these features are spread, for the manifest; of many rows, in an even sample of them."""
        return dataclasses.replace(describe(features, self._sample), rows=self.n_rows)

    def _keep(self, batch: npt.NDArray[np.float32]) -> None:
        """Keep a sample in which every row so far is as likely as any other."""
        n_free = self._room - len(self._sample)
        self._sample = np.concatenate([self._sample, batch[:n_free]], dtype=np.float32) if n_free > 0 else self._sample
        rest = batch[max(n_free, 0) :]
        if len(rest):
            before = self.n_rows + len(batch) - len(rest)
            at = self._draws.integers(0, np.arange(before + 1, before + 1 + len(rest)))
            # Of two that fall on one place the later one stays, as if they had come one by one.
            self._sample[at[at < self._room]] = rest[at < self._room]

    @property
    def std(self) -> FloatArray:
        """The deviation of every column from its mean."""
        return np.sqrt(self._squares / max(self.n_rows, 1))


def fit_range(features: Sequence[str | Feature], found: Statistics) -> tuple[Feature, ...]:
    """Features scaled so that what the rows hold becomes -1 to 1; a `Feature` keeps the scale or constant it has."""
    return _fit(features, found, lambda at: RangeScale(float(found.min[at]), float(found.max[at])))


def fit_standard(features: Sequence[str | Feature], found: Statistics) -> tuple[Feature, ...]:
    """Features scaled to mean 0 and deviation 1; a `Feature` keeps the scale or constant it has."""
    return _fit(features, found, lambda at: StandardScale(float(found.mean[at]), float(found.std[at])))


def _fit(features: Sequence[str | Feature], found: Statistics, scale: Callable[[int], Scale]) -> tuple[Feature, ...]:
    named = [Feature(feature) if isinstance(feature, str) else feature for feature in features]
    if len(named) != len(found.mean):
        raise ConfigError(f"there are {len(named)} features for rows of {len(found.mean)} numbers")
    for at, feature in enumerate(named):
        if feature.scale is not None or feature.constant is not None:
            continue
        if found.min[at] == found.max[at]:
            raise ConfigError(
                f"{feature.name} is always {found.min[at]:g} in the training rows, so it cannot be scaled: "
                f"leave it out, or give it as Feature({feature.name!r}, constant=0.0)"
            )
        named[at] = dataclasses.replace(feature, scale=scale(at))
    return tuple(named)
