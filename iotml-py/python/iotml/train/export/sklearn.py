"""scikit-learn estimators and pipelines to ONNX, by skl2onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from iotml.exceptions import ExportError
from iotml.train.export import graph
from iotml.train.export.original import FloatArray, Wanted
from iotml.train.optional import needed

_INPUT = "X"
#: What every engine that iotml loads knows.
_OPSET, _ML_OPSET = 18, 3


def is_sklearn(model: object) -> bool:
    """Whether `model` is an estimator of scikit-learn, or of a library that builds on it."""
    return any(base.__module__ == "sklearn.base" and base.__name__ == "BaseEstimator" for base in type(model).__mro__)


class Estimator:
    """A fitted estimator.

    | estimator | kind | what it gives |
    | --- | --- | --- |
    | outlier detector | `score` | minus `decision_function`: above 0 is what the estimator itself calls an outlier |
    | classifier | `classifier` | `predict_proba` |
    | regressor | `reconstruction`, `next_event` or `score` | `predict` |
    """

    packages = ("scikit-learn", "skl2onnx")

    def __init__(self, model: Any, wanted: Wanted) -> None:
        """Raise `ExportError` if the estimator is not fitted or cannot be what the manifest says."""
        sklearn = needed("sklearn", purpose="the export of a scikit-learn model", install="iotml[sklearn]")
        base = needed("sklearn.base", purpose="the export of a scikit-learn model", install="iotml[sklearn]")
        validation = needed("sklearn.utils.validation", purpose="the export of a scikit-learn model", install="iotml[sklearn]")
        self.framework = f"scikit-learn {sklearn.__version__}"
        self._model = model
        kind, name = wanted.manifest.kind, type(model).__name__
        try:
            validation.check_is_fitted(model)
        except Exception as error:  # NotFittedError, or TypeError for what cannot be fitted
            raise ExportError(f"{name} is not fitted: call fit first") from error
        self.axes = wanted.input_axes((getattr(model, "n_features_in_", None),))
        fitting: tuple[str, ...]
        if base.is_outlier_detector(model):
            self._method, fitting = "decision_function", ("score",)
        elif base.is_classifier(model):
            self._method, fitting = "predict_proba", ("classifier",)
        elif base.is_regressor(model):
            self._method, fitting = "predict", ("reconstruction", "next_event", "score")
        else:
            raise ExportError(
                f"{name} is no outlier detector, classifier or regressor, so it gives no score; "
                "a regressor such as MLPRegressor, fitted with y = X, can be of kind reconstruction"
            )
        if kind not in fitting:
            raise ExportError(f"{name} can be of kind {' or '.join(fitting)}, but the manifest says {kind}")
        if not hasattr(model, self._method):
            raise ExportError(
                f"{name} has no {self._method}; SVC needs probability=True, others CalibratedClassifierCV around them"
            )
        if self._method == "predict_proba":
            _check_classes(model, wanted)
        output = f"{self._method}_negated" if self._method == "decision_function" else self._method
        self.names: Mapping[str, str] = {_INPUT: _INPUT, self._method: output}

    def predict(self, x: FloatArray) -> FloatArray:
        """Run the method that the kind needs."""
        y = np.asarray(getattr(self._model, self._method)(x))
        return (-y if self._method == "decision_function" else y).astype(np.float32)

    def convert(self, opset: int | None) -> Any:
        """Convert, keep the one output that is scored, and turn an outlier detector's sign."""
        skl2onnx = needed("skl2onnx", purpose="the export of a scikit-learn model", install="iotml[sklearn]")
        types = needed("skl2onnx.common.data_types", purpose="the export of a scikit-learn model", install="iotml[sklearn]")
        last = self._model.steps[-1][1] if hasattr(self._model, "steps") else self._model
        # A ZipMap would give a list of dictionaries in the place of an array.
        options = {id(last): {"zipmap": False}} if self._method == "predict_proba" else None
        try:
            model = skl2onnx.to_onnx(
                self._model,
                initial_types=[(_INPUT, types.FloatTensorType([None, *self.axes]))],
                options=options,
                target_opset={"": opset or _OPSET, "ai.onnx.ml": _ML_OPSET},
            )
        except Exception as error:  # skl2onnx has exceptions of its own and raises others
            raise ExportError(f"skl2onnx cannot convert {type(self._model).__name__}: {str(error).splitlines()[0]}") from error
        found = {"decision_function": "scores", "predict_proba": "probabilities", "predict": "variable"}[self._method]
        graph.keep_output(model, found)
        if self._method == "decision_function":
            graph.negate_output(model, self.names[self._method])
        else:
            graph.rename(model, {found: self.names[self._method]})
        return model


def _check_classes(model: Any, wanted: Wanted) -> None:
    fitted, named = [str(label) for label in model.classes_], list(wanted.manifest.classes)
    if len(fitted) != len(named) or (set(fitted) == set(named) and fitted != named):
        raise ExportError(f"the manifest's classes are {named}, but the estimator's probabilities are in the order {fitted}")
