"""How well faults are told from health, beside PCA reconstruction and an isolation forest on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

import cars

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """Figures of one file: by method and kind of fault, and of the threshold."""

    name: str
    n_rows: dict[str, int]
    n_healthy: int
    #: ROC AUC against rows of cars that never fall ill, by method and kind.
    auc: dict[str, dict[str, float]]
    recall: dict[str, float]
    false_alarms: float

    def table(self) -> str:
        """Write the figures as a Markdown table."""
        methods = list(self.auc)
        lines = [
            f"{self.name}: {self.n_healthy} healthy rows, false alarms at the threshold {self.false_alarms:.3%}",
            "",
            "| fault | rows | " + " | ".join(methods) + " | recall at the threshold |",
            "| --- " * (len(methods) + 3) + "|",
        ]
        for kind, n in self.n_rows.items():
            auc = " | ".join(f"{self.auc[method][kind]:.4f}" for method in methods)
            lines.append(f"| {kind} | {n} | {auc} | {self.recall[kind]:.1%} |")
        return "\n".join(lines)


def evaluate(
    path: Path, score: Callable[[FloatArray], FloatArray], threshold: float, *, fitted_to: FloatArray, seed: int
) -> Result:
    """Score the rows of a file with every method; the peers are fitted to the raw rows `fitted_to`, `[n, 18]`."""
    truth = cars.read(path)
    mean, deviation = fitted_to.mean(axis=0, dtype=np.float64), fitted_to.std(axis=0, dtype=np.float64)
    standard, rows = (fitted_to - mean) / deviation, (truth.values - mean) / deviation
    scores = {"autoencoder": score(truth.values)}

    # PCA gets the number of components that suits it best on these very rows, which is more than fair.
    by_size = {f"PCA, {n} components": _pca_score(standard, rows, n) for n in range(4, 15)}
    best = max(by_size, key=lambda name: np.mean(list(cars.roc_auc_by_fault(by_size[name], truth).values())))
    scores[best] = by_size[best]
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(standard)
    scores["IsolationForest"] = (-forest.score_samples(rows)).astype(np.float32)

    found = scores["autoencoder"] >= np.float32(threshold)
    return Result(
        name=path.name,
        n_rows={kind: int(np.sum(truth.fault == kind)) for kind in truth.kinds},
        n_healthy=int(truth.is_untouched.sum()),
        auc={method: cars.roc_auc_by_fault(score, truth) for method, score in scores.items()},
        recall={kind: float(np.mean(found[truth.fault == kind])) for kind in truth.kinds},
        false_alarms=float(np.mean(found[truth.is_untouched])),
    )


def _pca_score(standard: npt.NDArray[np.float64], rows: npt.NDArray[np.float64], n_components: int) -> FloatArray:
    """Give the mean squared reconstruction error of standardised rows."""
    pca = PCA(n_components).fit(standard)
    errors = (pca.inverse_transform(pca.transform(rows)) - rows) ** 2
    score: FloatArray = errors.mean(axis=1).astype(np.float32)
    return score
