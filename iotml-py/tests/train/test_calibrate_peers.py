"""The figures of a calibration beside those of scikit-learn, and their picture by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from iotml.train import calibrate
from iotml.train.curves import curves
from test_calibrate import LABELS, SCORES


def test_figures_equal_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    coarse = np.asarray(np.round(SCORES, 1), np.float32)
    for scores in (SCORES, coarse):
        found = curves(scores, LABELS)
        assert found.roc_auc == pytest.approx(metrics.roc_auc_score(LABELS, scores))
        assert found.pr_auc == pytest.approx(metrics.average_precision_score(LABELS, scores))


@pytest.mark.parametrize("labels", [None, LABELS])
def test_plot_is_a_picture(labels: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    found = calibrate(SCORES, labels).plot(tmp_path / "calibration.png", title="cars")
    pixels = image.imread(found)
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > (600 if labels is None else 1_500)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50
