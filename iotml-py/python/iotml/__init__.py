"""Train on device telemetry straight from the Kafka log, export to ONNX, score with the Rust engine."""

from __future__ import annotations

from iotml._iotml import Prediction, Scorer, __version__, check_model, embed_manifest
from iotml.exceptions import (
    ConfigError,
    DecodeError,
    EncodeError,
    ExportError,
    ForkedError,
    IotmlError,
    ModelError,
    PipelineError,
    PreprocessError,
    ScoreError,
    SinkError,
    SourceError,
)

__all__ = [
    "ConfigError",
    "DecodeError",
    "EncodeError",
    "ExportError",
    "ForkedError",
    "IotmlError",
    "ModelError",
    "PipelineError",
    "Prediction",
    "PreprocessError",
    "ScoreError",
    "Scorer",
    "SinkError",
    "SourceError",
    "__version__",
    "check_model",
    "embed_manifest",
]
