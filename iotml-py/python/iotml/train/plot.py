"""The picture of a calibration, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iotml.train.optional import needed

if TYPE_CHECKING:
    from iotml.train.calibrate import Calibration

_HEALTHY, _ANOMALY, _THRESHOLD = "#2b6cb0", "#c05621", "#1a202c"


def draw(calibration: Calibration, path: Path, title: str) -> Path:
    """Write the PNG file; three panels with both labels, the scores alone without."""
    figure_module = needed("matplotlib.figure", purpose="plotting a calibration", install="iotml[plot]")
    n_panels = 1 if calibration.curves is None else 3
    # No pyplot: it would keep the figure, and want a display in some settings.
    figure = figure_module.Figure(figsize=(5.2 * n_panels, 4.2), layout="constrained")
    panels = figure.subplots(1, n_panels, squeeze=False)[0]
    _draw_scores(panels[0], calibration)
    if calibration.curves is not None:
        _draw_roc(panels[1], calibration)
        _draw_precision(panels[2], calibration)
    if title:
        figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)
    return path


def _draw_scores(panel: Any, calibration: Calibration) -> None:
    scores, labels = calibration.scores.astype(np.float64), calibration.labels
    positive = scores[scores > 0]
    # Reconstruction errors span decades; scores that may be negative do not.
    is_logarithmic = len(positive) == len(scores) and positive.max() / positive.min() > 100
    low, high = min(scores.min(), calibration.value), max(scores.max(), calibration.value)
    bins = np.geomspace(low, high, 60) if is_logarithmic and low > 0 else np.linspace(low, high, 60)
    groups = (
        [(scores, _HEALTHY, "rows")]
        if labels is None
        else [
            (scores[~labels], _HEALTHY, "healthy"),
            (scores[labels], _ANOMALY, "anomalies"),
        ]
    )
    for values, colour, name in groups:
        if len(values):
            panel.hist(values, bins=bins, color=colour, alpha=0.6, label=f"{name} ({len(values)})")
    panel.axvline(calibration.value, color=_THRESHOLD, linestyle="--", label=f"threshold {calibration.value:.4g}")
    if is_logarithmic and low > 0:
        panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set(xlabel="score", ylabel="rows", title="Scores")
    panel.legend(fontsize="small")


def _draw_roc(panel: Any, calibration: Calibration) -> None:
    found = calibration.curves
    assert found is not None
    panel.plot(np.r_[0.0, found.false_alarm_rate], np.r_[0.0, found.recall], color=_HEALTHY)
    panel.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    panel.plot(calibration.false_alarm_rate, calibration.recall, "o", color=_THRESHOLD, label="threshold")
    panel.set(xlabel="false alarm rate", ylabel="recall", title=f"ROC, area {found.roc_auc:.4f}")
    panel.legend(loc="lower right", fontsize="small")


def _draw_precision(panel: Any, calibration: Calibration) -> None:
    found = calibration.curves
    assert found is not None
    panel.plot(found.recall, found.precision, color=_HEALTHY)
    panel.axhline(found.n_anomalies / (found.n_anomalies + found.n_healthy), color="0.8", linewidth=1, label="guessing")
    if calibration.precision is not None:
        panel.plot(calibration.recall, calibration.precision, "o", color=_THRESHOLD, label="threshold")
    panel.set(xlabel="recall", ylabel="precision", ylim=(0, 1.05), title=f"Precision and recall, area {found.pr_auc:.4f}")
    panel.legend(loc="center left", fontsize="small")
