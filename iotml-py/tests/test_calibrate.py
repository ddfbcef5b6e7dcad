"""Thresholds and the figures beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from iotml import ConfigError
from iotml.train import calibrate

RNG = np.random.default_rng(5)
HEALTHY = RNG.exponential(size=5_000).astype(np.float32)
ILL = (RNG.exponential(size=200) + 3).astype(np.float32)
SCORES = np.r_[HEALTHY, ILL]
LABELS = np.r_[np.zeros(5_000, bool), np.ones(200, bool)]


def test_quantile_is_of_the_healthy_scores() -> None:
    found = calibrate(SCORES, LABELS, quantile=0.99)
    assert found.value == pytest.approx(np.quantile(HEALTHY.astype(np.float64), 0.99))
    assert found.threshold.to_dict() == {"method": "quantile", "quantile": 0.99, "value": found.value}
    assert calibrate(HEALTHY, quantile=0.99).value == found.value


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.0123, 0.5])
def test_false_alarm_rate_is_kept_and_used_up(rate: float) -> None:
    found = calibrate(SCORES, LABELS, method="false_alarm_rate", rate=rate)
    n_allowed = int(rate * len(HEALTHY))
    assert np.sum(np.float32(found.value) <= HEALTHY) == n_allowed
    assert found.false_alarm_rate == n_allowed / len(HEALTHY)
    assert found.threshold.quantile == 1 - rate


def test_false_alarm_rate_is_kept_among_equal_scores() -> None:
    found = calibrate([1.0] * 9 + [2.0], method="false_alarm_rate", rate=0.5)
    assert found.value > 1.0
    assert found.false_alarm_rate == 0.1


@pytest.mark.parametrize("criterion", ["f1", "youden"])
def test_labels_give_the_best_threshold(criterion: Any) -> None:
    found = calibrate(SCORES, LABELS, method="labels", criterion=criterion)

    def quality(threshold: float) -> float:
        reached = np.float32(threshold) <= SCORES
        n_found, n_false = np.sum(reached & LABELS), np.sum(reached & ~LABELS)
        f1 = 2 * n_found / (n_found + n_false + 200)
        return float(f1 if criterion == "f1" else n_found / 200 - n_false / 5_000)

    assert quality(found.value) == pytest.approx(max(quality(score) for score in np.unique(SCORES)))
    assert found.threshold.to_dict() == {"method": "fixed", "value": found.value}


@pytest.mark.parametrize(
    "labels", [LABELS, LABELS.astype(int), LABELS.astype(float), np.where(LABELS, "true", "false"), LABELS.tolist()]
)
def test_labels_in_every_form(labels: Any) -> None:
    assert calibrate(SCORES, labels).roc_auc == calibrate(SCORES, LABELS).roc_auc


def test_rows_without_a_score_do_not_count() -> None:
    found = calibrate(np.r_[np.nan, SCORES], np.r_[True, LABELS])
    assert found.value == calibrate(SCORES, LABELS).value
    assert found.to_dict()["rows"] == len(SCORES)


@pytest.mark.parametrize(
    ("scores", "labels", "options", "reason"),
    [
        ([], None, {}, "no score"),
        ([np.nan], None, {}, "no score"),
        ([1.0, np.inf], None, {}, "score 1 is infinite"),
        ([[1.0]], None, {}, r"\[n\]"),
        (["high"], None, {}, "not numbers"),
        ([1.0, 2.0], [True], {}, "labels have the shape"),
        ([1.0, 2.0], [0, 2], {}, "neither booleans nor 0 and 1"),
        ([1.0, 2.0], [True, True], {}, "needs scores of healthy rows"),
        ([1.0, 2.0], None, {"method": "labels"}, "needs labels of both kinds"),
        ([1.0, 2.0], None, {"quantile": 99}, "quantile is 99"),
        ([1.0, 2.0], None, {"method": "false_alarm_rate", "rate": 1.0}, "rate is 1.0"),
        ([1.0, 2.0], [0, 1], {"method": "labels", "criterion": "f2"}, "criterion is 'f2'"),
        ([1.0, 2.0], None, {"method": "best"}, "method is 'best'"),
    ],
)
def test_what_cannot_be_calibrated_says_why(scores: Any, labels: Any, options: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        calibrate(scores, labels, **options)
