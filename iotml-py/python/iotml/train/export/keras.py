"""Keras 3 and Keras 2 (tf_keras) models, run by TensorFlow."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from iotml.exceptions import ExportError
from iotml.train.export import tensorflow
from iotml.train.export.original import FloatArray, Wanted
from iotml.train.optional import needed

#: Rows that are run at once.
_BATCH = 4096


def is_keras(model: object) -> bool:
    """Whether `model` is a model or layer of Keras 3 or tf_keras."""
    return _package(model) is not None


class KerasModel:
    """A model or layer; one that was never called is called once, on zeros, which makes its weights."""

    packages: tuple[str, ...]

    def __init__(self, model: Any, wanted: Wanted) -> None:
        """Raise `ExportError` if the model cannot be what the manifest says."""
        package = _package(model)
        tf = needed("tensorflow", purpose="the export of a Keras model", install="iotml[tensorflow]")
        if package == "keras":
            keras = needed("keras", purpose="the export of a Keras model", install="iotml[tensorflow]")
            backend = keras.backend.backend()
            if backend != "tensorflow":
                raise ExportError(
                    f"Keras runs on {backend} here, but the export needs TensorFlow: save the model with "
                    "model.save('model.keras') and export that file in a process with KERAS_BACKEND=tensorflow"
                )
        self.framework = f"tensorflow {tf.__version__}"
        self.packages = ("tensorflow", package or "keras", "tf2onnx")
        self._model, self._tf = model, tf
        self.axes = wanted.input_axes(_input_axes(model))
        outputs = self._outputs(tf.zeros((2, *self.axes)))
        self._picked = _pick(outputs, wanted)
        name = _input_name(model)
        self.names: Mapping[str, str] = {name: name, self._picked: self._picked}

    def predict(self, x: FloatArray) -> FloatArray:
        """Run the model in inference mode, a few thousand rows at a time."""
        parts = [self._call(self._tf.constant(x[at : at + _BATCH])).numpy() for at in range(0, len(x), _BATCH)]
        return np.concatenate(parts).astype(np.float32)

    def convert(self, opset: int | None) -> Any:
        """Trace and convert the model, without what only training needs."""
        # Their loss terms are in the traced graph, and TensorFlow's optimizer of graphs fails on them.
        with without_activity_regularizers(self._model):
            return tensorflow.convert(self._call, self.axes, self.names, opset)

    def _call(self, x: Any) -> Any:
        return self._outputs(x)[self._picked]

    def _outputs(self, x: Any) -> dict[str, Any]:
        """Every output by the name that Keras has for it."""
        try:
            given = self._model(x, **_inference(self._model))
        except Exception as error:  # a model's own code may raise anything
            shape = ", ".join(["n", *map(str, self.axes)])
            raise ExportError(f"the model fails on rows of shape [{shape}]: {error}") from error
        if isinstance(given, Mapping):
            return dict(given)
        if isinstance(given, list | tuple):
            names = getattr(self._model, "output_names", None) or [f"output_{at}" for at in range(len(given))]
            return dict(zip(names, given, strict=True))
        return {_output_name(self._model): given}


@contextmanager
def without_activity_regularizers(model: Any) -> Iterator[None]:
    """Take the activity regularizers off all layers of a Keras model, and put them back."""
    layers = [layer for layer in model._flatten_layers() if getattr(layer, "activity_regularizer", None) is not None]
    regularizers = [layer.activity_regularizer for layer in layers]
    for layer in layers:
        layer.activity_regularizer = None
    try:
        yield
    finally:
        for layer, regularizer in zip(layers, regularizers, strict=True):
            layer.activity_regularizer = regularizer


def _package(model: object) -> str | None:
    """`keras` or `tf_keras`, from the layer class that the model descends from."""
    for base in type(model).__mro__:
        package = base.__module__.partition(".")[0]
        if base.__name__ == "Layer" and package in ("keras", "tf_keras"):
            return package
    return None


def _input_axes(model: Any) -> tuple[int | None, ...] | None:
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return None
    if len(inputs) > 1:
        names = ", ".join(tensor.name for tensor in inputs)
        raise ExportError(f"the model has {len(inputs)} inputs ({names}), but a scorer feeds exactly one; join them in the model")
    return tuple(inputs[0].shape[1:])


def _input_name(model: Any) -> str:
    names = getattr(model, "input_names", None)
    if names:
        return str(names[0])
    inputs = getattr(model, "inputs", None)
    if inputs:
        return str(inputs[0].name)
    # A subclassed model has no input of its own; the argument of its `call` is what its author calls it.
    return next(iter(inspect.signature(model.call).parameters))


def _output_name(model: Any) -> str:
    names = getattr(model, "output_names", None)
    if names:
        return str(names[0])
    layers = getattr(model, "layers", None)
    is_sequential = any(base.__name__ == "Sequential" for base in type(model).__mro__)
    return str(layers[-1].name if layers and is_sequential else model.name)


def _inference(model: Any) -> dict[str, bool]:
    parameters = inspect.signature(model.call).parameters.values()
    takes = any(item.name == "training" or item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters)
    return {"training": False} if takes else {}


def _pick(outputs: Mapping[str, Any], wanted: Wanted) -> str:
    """Find the name of the output that the score is computed from."""
    if len(outputs) == 1:
        return next(iter(outputs))
    available = ", ".join(outputs)
    if wanted.output_name is None:
        raise ExportError(
            f"the model has several outputs ({available}); name the one to score in the manifest: "
            f"outputs=[Output(name, {wanted.manifest.role!r})]"
        )
    if wanted.output_name not in outputs:
        raise ExportError(f"the model has no output {wanted.output_name!r}, which the manifest names; it has {available}")
    return wanted.output_name
