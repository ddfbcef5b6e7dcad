"""Train on device telemetry straight from the Kafka log, export to ONNX, score with the Rust engine."""

from __future__ import annotations

from iotml._iotml import __version__
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
    "PreprocessError",
    "ScoreError",
    "SinkError",
    "SourceError",
    "__version__",
]
