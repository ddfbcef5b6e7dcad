"""The threshold of a model: from which score on a row is an anomaly."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ConfigError
from iotml.manifest import Threshold
from iotml.train.curves import Curves, curves

Method = Literal["quantile", "false_alarm_rate", "labels"]
Criterion = Literal["f1", "youden"]


@dataclass(frozen=True)
class Calibration:
    """A threshold, how it was found, and what it does on the rows it was found on.

    `threshold` goes into the manifest. `curves` is there if both healthy and anomalous rows were; so are the figures
    that need them, which are `None` otherwise. `scores` and `labels` are the finite scores that were used and their
    labels.
    """

    threshold: Threshold
    value: float
    method: Method
    parameters: dict[str, Any]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.bool_] | None
    curves: Curves | None

    @property
    def roc_auc(self) -> float | None:
        """Area under the ROC curve."""
        return None if self.curves is None else self.curves.roc_auc

    @property
    def pr_auc(self) -> float | None:
        """Area under the precision-recall curve (average precision)."""
        return None if self.curves is None else self.curves.pr_auc

    @property
    def false_alarm_rate(self) -> float:
        """The share of the healthy rows, or of all rows if there are no labels, whose score reaches the threshold."""
        healthy = self.scores if self.labels is None else self.scores[~self.labels]
        return float(np.mean(healthy >= np.float32(self.value))) if len(healthy) else 0.0

    @property
    def recall(self) -> float | None:
        """The share of the anomalies whose score reaches the threshold."""
        if self.labels is None or not self.labels.any():
            return None
        return float(np.mean(self.scores[self.labels] >= np.float32(self.value)))

    @property
    def precision(self) -> float | None:
        """The share of anomalies among the rows whose score reaches the threshold."""
        reached = self.scores >= np.float32(self.value)
        return None if self.labels is None or not reached.any() else float(np.mean(self.labels[reached]))

    def to_dict(self) -> dict[str, Any]:
        """Give what goes into the manifest under `trained`: method, parameters and figures, without the curves."""
        figures = {
            "false_alarm_rate": self.false_alarm_rate,
            "recall": self.recall,
            "precision": self.precision,
            "roc_auc": self.roc_auc,
            "pr_auc": self.pr_auc,
        }
        known = {name: round(value, 6) for name, value in figures.items() if value is not None}
        return {"method": self.method, **self.parameters, "rows": len(self.scores), **known}

    def plot(self, path: str | os.PathLike[str], *, title: str = "") -> Path:
        """Draw scores, threshold and, with both labels, the curves, as a PNG file; needs matplotlib."""
        from iotml.train import plot

        return plot.draw(self, Path(path), title)

    def __str__(self) -> str:
        """One line for a person."""
        figures = (f"{name} {value:.4f}" for name, value in self.to_dict().items() if isinstance(value, float))
        return f"threshold {self.value:.6g} by {self.method} of {len(self.scores)} scores: {', '.join(figures)}"


def calibrate(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    *,
    method: Method = "quantile",
    quantile: float = 0.999,
    rate: float = 0.001,
    criterion: Criterion = "f1",
) -> Calibration:
    """Find the threshold of scores `[n]`, higher being more anomalous.

    Rows whose score is NaN (no window yet) do not count.

    A row is an anomaly if its score, a float32, is at least the threshold.

    - `quantile`: that quantile (0 to 1, interpolated) of the scores of the healthy rows; without labels all rows are
      taken for healthy. For data that is clean or nearly so.
    - `false_alarm_rate`: the lowest threshold at which at most the share `rate` of the healthy rows is taken for
      anomalies.
    - `labels`: the threshold that is best on these labels, by `f1` (best balance of precision and recall; the one to
      take when anomalies are few) or by `youden` (recall minus false alarm rate; does not depend on how many anomalies
      there are). It is put halfway between the lowest score that is to be found and the next one below.

    Args:
        scores: `[n]`, as `Scorer.score` gives them.
        labels: `[n]`, true for anomalies: booleans, 0 and 1, or the texts `true` and `false`.
        method: see above.
        quantile: for method `quantile`.
        rate: for method `false_alarm_rate`.
        criterion: for method `labels`.

    Raises:
        ConfigError: an argument does not fit; nothing can be calibrated.

    >>> found = calibrate([0.1, 0.2, 0.3, 0.9], [False, False, False, True], method="labels")
    >>> round(found.value, 3), found.roc_auc, found.recall, found.false_alarm_rate
    (0.6, 1.0, 1.0, 0.0)

    """
    used, truth = _clean(scores, labels)
    healthy = used if truth is None else used[~truth]
    both = truth is not None and truth.any() and not truth.all()
    found = curves(used, truth) if truth is not None and both else None
    if method != "labels" and not len(healthy):
        raise ConfigError(f"method {method!r} needs scores of healthy rows, but all {len(used)} are labelled as anomalies")
    match method:
        case "quantile":
            if not 0 <= quantile <= 1:
                raise ConfigError(f"quantile is {quantile}, but must be between 0 and 1")
            value = float(np.quantile(healthy.astype(np.float64), quantile))
            threshold = Threshold(value, "quantile", quantile)
            parameters: dict[str, Any] = {"quantile": quantile}
        case "false_alarm_rate":
            if not 0 <= rate < 1:
                raise ConfigError(f"rate is {rate}, but must be at least 0 and below 1")
            value = _below_rate(healthy, rate)
            threshold = Threshold(value, "quantile", 1 - rate)
            parameters = {"rate": rate}
        case "labels":
            if found is None:
                raise ConfigError("method 'labels' needs labels of both kinds, healthy rows and anomalies")
            value = _best(found, criterion)
            threshold = Threshold(value)
            parameters = {"criterion": criterion}
        case _:
            raise ConfigError(f"method is {method!r}, but must be 'quantile', 'false_alarm_rate' or 'labels'")
    return Calibration(threshold, value, method, parameters, used, truth, found)


def _clean(scores: npt.ArrayLike, labels: npt.ArrayLike | None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
    """Give the finite scores, in the engine's precision, and their labels."""
    try:
        all_scores = np.asarray(scores, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"scores are not numbers: {error}") from error
    if all_scores.ndim != 1:
        raise ConfigError(f"scores have the shape {list(all_scores.shape)}, but one number a row, [n], is needed")
    if np.isinf(all_scores).any():
        raise ConfigError(f"score {int(np.argmax(np.isinf(all_scores)))} is infinite")
    known = ~np.isnan(all_scores)
    if not known.any():
        raise ConfigError("there is no score to calibrate on")
    if labels is None:
        return all_scores[known], None
    truth = _truth(np.asarray(labels))
    if truth.shape != all_scores.shape:
        raise ConfigError(f"labels have the shape {list(truth.shape)}, but scores {list(all_scores.shape)}")
    return all_scores[known], truth[known]


def _truth(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if labels.dtype == bool:
        truth: npt.NDArray[np.bool_] = labels
        return truth
    forms: tuple[tuple[Any, Any], ...] = ((0, 1), ("false", "true"), (b"false", b"true"), (False, True))
    for healthy, anomaly in forms:
        is_healthy, is_anomaly = np.equal(labels, healthy, dtype=object), np.equal(labels, anomaly, dtype=object)
        if np.all(is_healthy | is_anomaly):
            return np.array(is_anomaly, dtype=np.bool_)
    raise ConfigError(f"labels are neither booleans nor 0 and 1 nor 'true' and 'false': {list(np.unique(labels.astype(str))[:5])}")


def _below_rate(healthy: npt.NDArray[np.float32], rate: float) -> float:
    """Find the lowest threshold that at most this share of the scores reaches."""
    descending = np.sort(healthy)[::-1]
    n_allowed = int(np.floor(rate * len(descending) + 1e-9))
    # Just above the highest score that must not reach it, whatever the number of equal ones.
    return float(np.nextafter(descending[n_allowed], np.float32(np.inf)))


def _best(found: Curves, criterion: Criterion) -> float:
    if criterion not in ("f1", "youden"):
        raise ConfigError(f"criterion is {criterion!r}, but must be 'f1' or 'youden'")
    quality = found.f1 if criterion == "f1" else found.recall - found.false_alarm_rate
    at = int(np.argmax(quality))
    reached = found.threshold[at]
    if at + 1 == len(found.threshold):
        return float(reached)
    middle = (reached + found.threshold[at + 1]) / 2
    # Two neighbouring float32 numbers have no float32 between them.
    return float(middle if np.float32(middle) > np.float32(found.threshold[at + 1]) else reached)
