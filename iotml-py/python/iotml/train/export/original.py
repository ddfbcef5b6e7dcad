"""What an export needs from a framework's model: to run it, and to convert it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ExportError
from iotml.manifest import Manifest

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Wanted:
    """What the manifest asks of the model."""

    manifest: Manifest
    #: Rows of a window, if the caller says so; most models know it themselves.
    look_back: int | None

    @property
    def n_features(self) -> int:
        """Numbers of one row."""
        return len(self.manifest.features)

    @property
    def output_name(self) -> str | None:
        """The output that the score is computed from, if the manifest names it."""
        return next((output.name for output in self.manifest.outputs if output.role == self.manifest.role), None)

    def input_axes(self, known: tuple[int | None, ...] | None) -> tuple[int, ...]:
        """Give the axes behind the batch: `(n_features,)` or `(look_back, n_features)`.

        `known` is what the model says, `None` where it leaves an axis, or all of them, open. Raises `ExportError` if
        the two do not fit together.
        """
        if known is None:
            known = (None,) if self.look_back is None else (None, None)
        if len(known) not in ((1, 2) if self.manifest.kind == "next_event" else (1,)):
            shape = ", ".join("?" if size is None else str(size) for size in ("n", *known))
            raise ExportError(
                f"the model reads [{shape}], but a model of kind {self.manifest.kind} reads [n, {self.n_features}]"
                + (f" or [n, look_back, {self.n_features}]" if self.manifest.kind == "next_event" else "")
                + "; put a layer in front that brings the rows into the model's shape"
            )
        width = known[-1]
        if width not in (None, self.n_features):
            raise ExportError(
                f"the model reads rows of {width} numbers, but the manifest names {self.n_features} features; "
                f"name the {width} features that it was trained with, in their order"
            )
        if len(known) == 1:
            return (self.n_features,)
        look_back = known[0] if known[0] is not None else self.look_back
        if look_back is None:
            raise ExportError("the model leaves the length of its window open; say it: export_onnx(..., look_back=10)")
        if self.look_back not in (None, look_back):
            raise ExportError(f"the model reads windows of {look_back} rows, but look_back={self.look_back} was given")
        return (look_back, self.n_features)


class Original(Protocol):
    """A framework's model."""

    @property
    def framework(self) -> str:
        """The framework and its version, as `tensorflow 2.21.0`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages whose versions made the export what it is."""

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the input behind the batch."""

    @property
    def names(self) -> Mapping[str, str]:
        """What the framework calls input and output (two entries, in this order), to their names in the graph."""

    def predict(self, x: FloatArray) -> FloatArray:
        """Run the model as it is used for inference: `[n, *axes]` to `[n, ...]`."""

    def convert(self, opset: int | None) -> Any:
        """Give an `onnx.ModelProto` with one input and one output, named as `names` says."""


def run(original: Original, x: FloatArray) -> FloatArray:
    """Run the framework's model on rows `[n, *axes]`; raises `ExportError` if it fails or gives no numbers."""
    try:
        y = np.asarray(original.predict(x), dtype=np.float32)
    except ExportError:
        raise
    except Exception as error:  # whatever a framework raises
        raise ExportError(f"the model fails on rows of shape {list(x.shape)}: {error}") from error
    if y.ndim == 0 or len(y) != len(x):
        raise ExportError(f"the model gives shape {list(y.shape)} for {len(x)} rows, but one result a row is needed")
    finite = np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    if not finite.all():
        raise ExportError(f"the model gives NaN or infinity for sample row {int(np.argmin(finite))}; was it trained?")
    return y
