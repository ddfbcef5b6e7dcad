"""PyTorch modules to ONNX, by torch.onnx."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from iotml.exceptions import ExportError
from iotml.train.export.original import FloatArray, Wanted
from iotml.train.export.quiet import quiet
from iotml.train.optional import needed

_BATCH = 4096


def is_torch(model: object) -> bool:
    """Whether `model` is a PyTorch module."""
    return any(base.__module__.startswith("torch.") and base.__name__ == "Module" for base in type(model).__mro__)


class TorchModule:
    """A module whose `forward` takes one tensor `[n, *axes]` and gives one; it is run in evaluation mode."""

    packages = ("torch", "onnxscript")

    def __init__(self, model: Any, wanted: Wanted) -> None:
        """Raise `ExportError` if the module takes another number of tensors than one."""
        self._torch = needed("torch", purpose="the export of a PyTorch model", install="iotml[torch]")
        if isinstance(model, self._torch.jit.ScriptModule):
            raise ExportError("a TorchScript module cannot be exported any more; pass the nn.Module that it was scripted from")
        self.framework = f"torch {self._torch.__version__}"
        self._model = model
        self.axes = wanted.input_axes(None)
        parameters = inspect.signature(model.forward).parameters.values()
        required = [item.name for item in parameters if item.default is inspect.Parameter.empty]
        if len(required) > 1:
            raise ExportError(
                f"forward takes {', '.join(required)}, but a scorer feeds exactly one tensor; wrap the module in one that takes it"
            )
        self._input = next(iter(inspect.signature(model.forward).parameters))
        # PyTorch has no name for what forward returns.
        self.names: Mapping[str, str] = {self._input: self._input, "forward()": wanted.manifest.role}
        weight = next(iter(model.parameters()), None)
        self._device = "cpu" if weight is None else weight.device

    def predict(self, x: FloatArray) -> FloatArray:
        """Run the module in evaluation mode, a few thousand rows at a time."""
        torch = self._torch
        with _evaluating(self._model), torch.no_grad():
            parts = []
            for at in range(0, len(x), _BATCH):
                given = self._model(torch.from_numpy(np.ascontiguousarray(x[at : at + _BATCH])).to(self._device))
                if not isinstance(given, torch.Tensor):
                    raise ExportError(
                        f"forward gives a {type(given).__name__}, but one tensor is needed; "
                        "wrap the module in one that returns the tensor to score"
                    )
                parts.append(given.float().cpu().numpy())
        return np.concatenate(parts)

    def convert(self, opset: int | None) -> Any:
        """Export by torch.export, with the batch axis left open."""
        torch = self._torch
        needed("onnxscript", purpose="the export of a PyTorch model", install="iotml[torch]")
        # Two rows, since an axis of one is taken for a constant.
        sample = torch.zeros((2, *self.axes), device=self._device)
        try:
            with _evaluating(self._model), quiet("torch.onnx"):
                program = torch.onnx.export(
                    self._model,
                    (sample,),
                    dynamo=True,
                    input_names=[self._input],
                    output_names=[self.names["forward()"]],
                    dynamic_shapes=({0: torch.export.Dim("n")},),
                    opset_version=opset,
                    external_data=False,
                    verbose=False,
                )
        except Exception as error:  # the exporter raises whatever the traced code raised
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ExportError(
                f"torch.onnx cannot export the module: {reason}; branches and loops over values have to become tensor operations"
            ) from error
        return program.model_proto


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Switch to evaluation mode, and back to what every submodule was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
