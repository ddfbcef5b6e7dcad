"""Small repairs of an ONNX graph, an `onnx.ModelProto`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iotml.exceptions import ExportError
from iotml.train.optional import needed


def rename(model: Any, names: Mapping[str, str]) -> None:
    """Rename values of the graph, wherever they are made and read; what has a wanted name already gets another."""
    changed = {old: new for old, new in names.items() if old != new}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in model.graph.initializer}
    taken |= {value.name for value in (*model.graph.input, *model.graph.output)}
    for new in set(changed.values()) & taken - set(changed):
        changed[new] = next(name for at in range(len(taken) + 1) if (name := f"{new}_{at}") not in taken)
    for node in model.graph.node:
        node.input[:] = [changed.get(name, name) for name in node.input]
        node.output[:] = [changed.get(name, name) for name in node.output]
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = changed.get(value.name, value.name)


def open_batch(model: Any) -> None:
    """Leave the first axis of every input and output open, under the name `n`; raises `ExportError` if it was fixed."""
    # Shapes inside may name the axis otherwise, and none of them is needed.
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        if len(axes) == 0 or axes[0].dim_value > 0:
            size = axes[0].dim_value if len(axes) else "no"
            raise ExportError(f"{value.name!r} has {size} rows fixed in the exported graph; the model must take any number of rows")
        axes[0].dim_param = "n"


def keep_output(model: Any, name: str) -> None:
    """Make `name` the only output, and drop the nodes and weights that only the others needed."""
    graph = model.graph
    kept = [value for value in graph.output if value.name == name]
    if not kept:
        available = ", ".join(value.name for value in graph.output)
        raise ExportError(f"the exported graph has no output {name!r}, only {available}")
    del graph.output[:]
    graph.output.extend(kept)
    read, nodes = {name}, []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            nodes.append(node)
            read.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def negate_output(model: Any, name: str) -> None:
    """Put a minus sign in front of the only output and call it `name`."""
    helper = needed("onnx.helper", purpose="the export of a scikit-learn model", install="iotml[sklearn]")
    output = model.graph.output[0]
    model.graph.node.append(helper.make_node("Neg", [output.name], [name], name="negate"))
    output.name = name
