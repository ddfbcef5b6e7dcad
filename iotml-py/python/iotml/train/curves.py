"""ROC and precision-recall curves of scores against labels, and their areas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """What every possible threshold would give; one entry a distinct score, from the highest down.

    A row is taken for an anomaly if its score is at least `threshold`. `recall` is the share of the anomalies found
    (the true positive rate), `false_alarm_rate` the share of the healthy rows that is taken for one (the false positive
    rate), `precision` the share of the found that are anomalies.
    """

    threshold: FloatArray
    recall: FloatArray
    false_alarm_rate: FloatArray
    precision: FloatArray
    n_anomalies: int
    n_healthy: int

    @property
    def roc_auc(self) -> float:
        """The share of pairs (anomaly, healthy row) that the score orders rightly, ties half."""
        recall = np.r_[0.0, self.recall]
        return float(np.sum(np.diff(self.false_alarm_rate, prepend=0.0) * (recall[1:] + recall[:-1]) / 2))

    @property
    def pr_auc(self) -> float:
        """Average precision: the precision at every threshold, weighed by the recall it adds."""
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))

    @property
    def f1(self) -> FloatArray:
        """The harmonic mean of precision and recall at every threshold."""
        n_found = self.recall * self.n_anomalies
        n_false = self.false_alarm_rate * self.n_healthy
        return 2 * n_found / (n_found + n_false + self.n_anomalies)


def curves(scores: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> Curves:
    """Compute the curves of finite scores `[n]` and labels `[n]` (true is an anomaly), which must have both.

    >>> found = curves(np.float32([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    >>> found.roc_auc, round(found.pr_auc, 4)
    (0.75, 0.8333)
    """
    order = np.argsort(-scores, kind="stable")
    sorted_scores, is_anomaly = scores[order].astype(np.float64), labels[order]
    # Rows of one score are found together.
    last = np.flatnonzero(np.r_[np.diff(sorted_scores) != 0, True])
    n_found = np.cumsum(is_anomaly)[last]
    n_rows = last + 1
    n_anomalies, n_healthy = int(is_anomaly.sum()), int((~is_anomaly).sum())
    return Curves(
        threshold=sorted_scores[last],
        recall=n_found / n_anomalies,
        false_alarm_rate=(n_rows - n_found) / n_healthy,
        precision=n_found / n_rows,
        n_anomalies=n_anomalies,
        n_healthy=n_healthy,
    )
