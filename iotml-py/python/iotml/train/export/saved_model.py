"""TensorFlow SavedModels: what `model.export(folder)` of Keras and `tf.saved_model.save` write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from iotml.exceptions import ExportError
from iotml.train.export import tensorflow
from iotml.train.export.original import FloatArray, Wanted
from iotml.train.optional import needed

_SIGNATURE = "serving_default"
_BATCH = 4096


def is_saved_model(model: object) -> bool:
    """Whether `model` is what `tf.saved_model.load` gives."""
    return hasattr(model, "signatures") and hasattr(model, "graph_debug_info")


class SavedModel:
    """The signature `serving_default` of a SavedModel."""

    packages = ("tensorflow", "tf2onnx")

    def __init__(self, model: Any, wanted: Wanted) -> None:
        """Raise `ExportError` if it has no such signature, or one that does not fit the manifest."""
        self._tf = needed("tensorflow", purpose="the export of a SavedModel", install="iotml[tensorflow]")
        self.framework = f"tensorflow {self._tf.__version__}"
        # Kept, since a signature does not keep the variables of its model alive.
        self._model = model
        if _SIGNATURE not in model.signatures:
            available = ", ".join(model.signatures) or "none"
            raise ExportError(
                f"the SavedModel has no signature {_SIGNATURE!r}, only {available}; save it with model.export(folder)"
            )
        self._signature = model.signatures[_SIGNATURE]
        inputs: Mapping[str, Any] = self._signature.structured_input_signature[1]
        if len(inputs) != 1:
            raise ExportError(f"the SavedModel has the inputs {', '.join(inputs)}, but a scorer feeds exactly one")
        self._input, spec = next(iter(inputs.items()))
        if spec.dtype != self._tf.float32:
            raise ExportError(f"the SavedModel reads {spec.dtype.name}, but float32 is needed; save it with a float32 input")
        if spec.shape.rank is not None and spec.shape[0] is not None:
            raise ExportError(f"the SavedModel reads exactly {spec.shape[0]} rows at once; save it with the batch axis left open")
        self.axes = wanted.input_axes(None if spec.shape.rank is None else tuple(spec.shape[1:]))
        self._picked = self._pick(wanted)
        self.names: Mapping[str, str] = {self._input: self._input, self._picked: self._picked}

    def predict(self, x: FloatArray) -> FloatArray:
        """Run the signature, a few thousand rows at a time."""
        parts = [self._call(self._tf.constant(x[at : at + _BATCH])).numpy() for at in range(0, len(x), _BATCH)]
        return np.concatenate(parts).astype(np.float32)

    def convert(self, opset: int | None) -> Any:
        """Trace and convert the signature."""
        return tensorflow.convert(self._call, self.axes, self.names, opset)

    def _call(self, x: Any) -> Any:
        return self._signature(**{self._input: x})[self._picked]

    def _pick(self, wanted: Wanted) -> str:
        outputs = sorted(map(str, self._signature.structured_outputs))
        if len(outputs) == 1:
            return outputs[0]
        if wanted.output_name is not None and wanted.output_name in outputs:
            return wanted.output_name
        raise ExportError(
            f"the SavedModel has the outputs {', '.join(outputs)}; name the one to score in the manifest: "
            f"outputs=[Output(name, {wanted.manifest.role!r})]"
        )


def load(folder: Path) -> Any:
    """Load the SavedModel in a folder; raises `ExportError` if there is none."""
    tf = needed("tensorflow", purpose="the export of a SavedModel", install="iotml[tensorflow]")
    try:
        return tf.saved_model.load(str(folder))
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder} holds no SavedModel that TensorFlow can load: {error}") from error
