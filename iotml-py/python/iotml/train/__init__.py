"""Training: presets, the threshold, and the export to ONNX with its manifest."""

from __future__ import annotations

from iotml.distribution import Distribution, describe
from iotml.manifest import (
    Feature,
    Golden,
    Manifest,
    Output,
    RangeScale,
    StandardScale,
    Threshold,
)
from iotml.train import presets
from iotml.train.calibrate import Calibration, calibrate
from iotml.train.curves import Curves
from iotml.train.export import Export, export_onnx
from iotml.train.windows import persistence_loss, windows

__all__ = [
    "Calibration",
    "Curves",
    "Distribution",
    "Export",
    "Feature",
    "Golden",
    "Manifest",
    "Output",
    "RangeScale",
    "StandardScale",
    "Threshold",
    "calibrate",
    "describe",
    "export_onnx",
    "persistence_loss",
    "presets",
    "windows",
]
