"""Train on device telemetry straight from the Kafka log, export to ONNX, score with the Rust engine."""

from __future__ import annotations

from iotml._iotml import Batch, Prediction, Scorer, Stats, Task, __version__, check_model, embed_manifest
from iotml.exceptions import (
    ConfigError,
    DecodeError,
    EncodeError,
    ExportError,
    ForkedError,
    IotmlError,
    MissingPackageError,
    ModelError,
    PipelineError,
    PreprocessError,
    RetryableError,
    ScoreError,
    SinkError,
    SourceError,
    UnknownColumnError,
)
from iotml.log import FileLog, FileRange, KafkaLog, LogBatch, LogRange, LogStats, Rejection
from iotml.manifest import Manifest
from iotml.pipeline import Pipeline, PipelineBuilder
from iotml.plugins import Plugins, Result
from iotml.train import calibrate, export_onnx

__all__ = [
    "Batch",
    "ConfigError",
    "DecodeError",
    "EncodeError",
    "ExportError",
    "FileLog",
    "FileRange",
    "ForkedError",
    "IotmlError",
    "KafkaLog",
    "LogBatch",
    "LogRange",
    "LogStats",
    "Manifest",
    "MissingPackageError",
    "ModelError",
    "Pipeline",
    "PipelineBuilder",
    "PipelineError",
    "Plugins",
    "Prediction",
    "PreprocessError",
    "Rejection",
    "Result",
    "RetryableError",
    "ScoreError",
    "Scorer",
    "SinkError",
    "SourceError",
    "Stats",
    "Task",
    "UnknownColumnError",
    "__version__",
    "calibrate",
    "check_model",
    "embed_manifest",
    "export_onnx",
]
