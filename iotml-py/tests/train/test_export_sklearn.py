"""scikit-learn estimators, from fit to the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import manifest, rows
from iotml import ExportError, Scorer
from iotml.train import export_onnx

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

RAW = rows(500)
SCALED = manifest().scale(RAW)
IS_FAST = RAW[:, 0] > 40


@pytest.mark.parametrize("is_pipeline", [False, True])
def test_isolation_forest_scores_higher_what_is_more_anomalous(is_pipeline: bool, tmp_path: Path) -> None:
    forest: Any = IsolationForest(n_estimators=50, random_state=1)
    if is_pipeline:
        forest = make_pipeline(StandardScaler(), forest)
    forest.fit(SCALED)
    export = export_onnx(forest, tmp_path / "model.onnx", manifest=manifest("score"), samples=RAW)
    assert export.names == {"X": "X", "decision_function": "decision_function_negated"}
    assert export.manifest.trained["names"] == export.names
    score = Scorer(str(export.path)).score(RAW)
    np.testing.assert_allclose(score, -forest.decision_function(SCALED), atol=1e-5)
    np.testing.assert_array_equal(score > 1e-5, (forest.predict(SCALED) == -1) & (score > 1e-5))


def test_classifier_gives_the_positive_class(tmp_path: Path) -> None:
    forest = RandomForestClassifier(n_estimators=20, random_state=1).fit(SCALED, IS_FAST)
    named = manifest("classifier", classes=("slow", "fast"), positive="fast")
    export = export_onnx(forest, tmp_path / "model.onnx", manifest=named, samples=RAW)
    np.testing.assert_allclose(Scorer(str(export.path)).score(RAW), forest.predict_proba(SCALED)[:, 1], atol=1e-5)


def test_regressor_of_its_own_input_is_an_autoencoder(tmp_path: Path) -> None:
    linear = LinearRegression().fit(SCALED, SCALED * 0.5)
    export = export_onnx(linear, tmp_path / "model.onnx", manifest=manifest(), samples=RAW)
    np.testing.assert_allclose(Scorer(str(export.path)).score(RAW), np.mean((SCALED / 2) ** 2, axis=1), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "kind", "reason"),
    [
        (lambda: IsolationForest(), "score", "IsolationForest is not fitted: call fit first"),
        (lambda: IsolationForest().fit(SCALED), "reconstruction", "can be of kind score, but the manifest says"),
        (lambda: IsolationForest().fit(SCALED[:, :3]), "score", "rows of 3 numbers, but the manifest names 4"),
        (lambda: PCA(2).fit(SCALED), "score", "no outlier detector, classifier or regressor"),
        (lambda: SVC().fit(SCALED, IS_FAST), "classifier", "no predict_proba; SVC needs probability=True"),
        (lambda: LocalOutlierFactor(novelty=True).fit(SCALED), "score", "does not take the exported model"),
    ],
    ids=["not fitted", "kind", "width", "transformer", "no probabilities", "scan"],
)
def test_what_cannot_be_exported_says_why(make: Any, kind: Any, reason: str, tmp_path: Path) -> None:
    classes = ("slow", "fast") if kind == "classifier" else ()
    with pytest.raises(ExportError, match=reason):
        export_onnx(make(), tmp_path / "model.onnx", manifest=manifest(kind, classes=classes))
    assert list(tmp_path.iterdir()) == []


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    labels = np.where(IS_FAST, "fast", "slow")
    forest = RandomForestClassifier(n_estimators=5, random_state=1).fit(SCALED, labels)
    with pytest.raises(ExportError, match=r"probabilities are in the order \['fast', 'slow'\]"):
        export_onnx(forest, tmp_path / "m.onnx", manifest=manifest("classifier", classes=("slow", "fast")))
