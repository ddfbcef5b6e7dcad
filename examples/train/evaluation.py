"""How well faults are told from health, beside PCA reconstruction and an isolation forest on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from autoencoder import Network
from cars_csv import Readings


@dataclass(frozen=True)
class Result:
    """Figures of one file: by method and fault kind, and of the threshold."""

    name: str
    n_rows: dict[str, int]
    n_healthy: int
    # ROC AUC against rows of cars that never fall ill, by method and kind.
    auc: dict[str, dict[str, float]]
    # The same against every row labelled healthy, so with rows in which the fault is still growing, autoencoder only.
    auc_with_ramp: dict[str, float]
    recall: dict[str, float]
    false_alarms: float

    def passes(self, min_auc: float) -> bool:
        """Whether the autoencoder reaches this ROC AUC for every kind."""
        return min(self.auc["autoencoder"].values()) >= min_auc

    def table(self) -> str:
        """Write the figures as a Markdown table."""
        methods = list(self.auc)
        lines = [
            f"{self.name}: {self.n_healthy} healthy rows, false alarms at the threshold {self.false_alarms:.3%}",
            "",
            "| fault | rows | " + " | ".join(methods) + " | autoencoder, ramp rows as healthy | recall at threshold |",
            "| --- " * (len(methods) + 4) + "|",
        ]
        for kind, n in self.n_rows.items():
            auc = " | ".join(f"{self.auc[method][kind]:.4f}" for method in methods)
            lines.append(f"| {kind} | {n} | {auc} | {self.auc_with_ramp[kind]:.4f} | {self.recall[kind]:.1%} |")
        return "\n".join(lines)


def evaluate(path: Path, readings: Readings, train: np.ndarray, network: Network, threshold: float, seed: int) -> Result:
    """Score the readings with every method; the peers are fitted to the same raw training rows."""
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    fitted, rows = (train - mean) / deviation, (readings.values - mean) / deviation
    scores = {"autoencoder": network.score(readings.values)}

    # PCA gets the number of components that suits it best on these very rows, which is more than fair.
    by_size = {f"PCA ({n})": pca_score(fitted, rows, n) for n in range(4, 15)}
    best = max(by_size, key=lambda name: np.mean(list(auc_by_kind(by_size[name], readings, readings.is_untouched).values())))
    scores[best] = by_size[best]
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(fitted)
    scores["IsolationForest"] = -forest.score_samples(rows)

    untouched = readings.is_untouched
    found = scores["autoencoder"] >= threshold
    return Result(
        name=path.name,
        n_rows={kind: int(np.sum(readings.fault == kind)) for kind in readings.kinds},
        n_healthy=int(untouched.sum()),
        auc={method: auc_by_kind(score, readings, untouched) for method, score in scores.items()},
        auc_with_ramp=auc_by_kind(scores["autoencoder"], readings, readings.fault == ""),
        recall={kind: float(np.mean(found[readings.fault == kind])) for kind in readings.kinds},
        false_alarms=float(np.mean(found[untouched])),
    )


def pca_score(fitted: np.ndarray, rows: np.ndarray, n_components: int) -> np.ndarray:
    """Mean squared reconstruction error of standardised rows."""
    pca = PCA(n_components).fit(fitted)
    errors: np.ndarray = (pca.inverse_transform(pca.transform(rows)) - rows) ** 2
    score: np.ndarray = errors.mean(axis=1)
    return score


def auc_by_kind(score: np.ndarray, readings: Readings, healthy: np.ndarray) -> dict[str, float]:
    """ROC AUC of each fault kind's rows against the healthy ones."""
    found = {}
    for kind in readings.kinds:
        ill = readings.fault == kind
        truth = np.r_[np.ones(ill.sum()), np.zeros(healthy.sum())]
        found[kind] = round(float(roc_auc_score(truth, np.r_[score[ill], score[healthy]])), 4)
    return found
