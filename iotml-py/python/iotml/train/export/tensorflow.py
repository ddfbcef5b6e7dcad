"""TensorFlow functions to ONNX, by tf2onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from iotml.exceptions import ExportError
from iotml.train.export import graph
from iotml.train.export.quiet import quiet
from iotml.train.optional import needed

# What TensorFlow allows as a name; the framework's own come in afterwards.
_INPUT, _OUTPUT = "x", "y"


def convert(call: Callable[[Any], Any], axes: tuple[int, ...], names: Mapping[str, str], opset: int | None) -> Any:
    """Trace `call`, which maps a float32 tensor `[n, *axes]` to a tensor, and convert it.

    `names` are those of `Original`. Gives an `onnx.ModelProto`; raises `ExportError` if TensorFlow or tf2onnx fail.
    """
    purpose = "the export of a TensorFlow model"
    tf = needed("tensorflow", purpose=purpose, install="iotml[tensorflow]")
    tf2onnx = needed("tf2onnx", purpose=purpose, install="iotml[tensorflow]")
    signature = [tf.TensorSpec([None, *axes], tf.float32, name=_INPUT)]
    # The cast is nothing for a float32 model, and makes one of another precision readable for the engine.
    traced = tf.function(lambda x: {_OUTPUT: tf.cast(call(x), tf.float32)}, input_signature=signature)
    with quiet("tf2onnx"):
        try:
            model, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=opset)
        except Exception as error:  # tf2onnx raises whatever TensorFlow or NumPy raised below it
            raise ExportError(
                f"tf2onnx cannot convert the model: {_first_line(error)}; write what ONNX does not know with simpler layers"
            ) from error
    _fill_in_captures(model, traced.get_concrete_function())
    graph.rename(model, dict(zip((_INPUT, _OUTPUT), names.values(), strict=True)))
    return model


def _fill_in_captures(model: Any, traced: Any) -> None:
    """Put in the constants that a SavedModel passes to its function, which tf2onnx takes for further inputs."""
    numpy_helper = needed("onnx.numpy_helper", purpose="the export of a TensorFlow model", install="iotml[tensorflow]")
    values = {inside.name: outside for outside, inside in traced.graph.captures}
    for value in [value for value in model.graph.input if value.name != _INPUT]:
        model.graph.input.remove(value)
        if any(value.name in node.input for node in model.graph.node):
            model.graph.initializer.append(numpy_helper.from_array(values[value.name].numpy(), value.name))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
