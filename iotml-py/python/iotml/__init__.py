"""Train on device telemetry straight from the Kafka log, export to ONNX, score with the Rust engine."""

from __future__ import annotations

from iotml._iotml import Batch, Prediction, Scorer, Stats, Task, __version__, check_model, embed_manifest
from iotml.drift import AnomalyRate, FeatureDrift, ModelDrift
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
    RolloutError,
    ScoreError,
    SinkError,
    SourceError,
    StoreError,
    UnknownColumnError,
)
from iotml.log import FileLog, FileRange, KafkaLog, LogBatch, LogRange, LogStats, Rejection
from iotml.manifest import Manifest
from iotml.model_topic import ModelTopic
from iotml.pipeline import Pipeline, PipelineBuilder
from iotml.plugins import Plugins, Result
from iotml.rollout import AnnouncedVersion, ModelSet, ModelStatus, Rollout
from iotml.store import FetchedModel, ListedModel, ModelStore, StoredModel
from iotml.train import calibrate, export_onnx

__all__ = [
    "AnnouncedVersion",
    "AnomalyRate",
    "Batch",
    "ConfigError",
    "DecodeError",
    "EncodeError",
    "ExportError",
    "FeatureDrift",
    "FetchedModel",
    "FileLog",
    "FileRange",
    "ForkedError",
    "IotmlError",
    "KafkaLog",
    "ListedModel",
    "LogBatch",
    "LogRange",
    "LogStats",
    "Manifest",
    "MissingPackageError",
    "ModelDrift",
    "ModelError",
    "ModelSet",
    "ModelStatus",
    "ModelStore",
    "ModelTopic",
    "Pipeline",
    "PipelineBuilder",
    "PipelineError",
    "Plugins",
    "Prediction",
    "PreprocessError",
    "Rejection",
    "Result",
    "RetryableError",
    "Rollout",
    "RolloutError",
    "ScoreError",
    "Scorer",
    "SinkError",
    "SourceError",
    "Stats",
    "StoreError",
    "StoredModel",
    "Task",
    "UnknownColumnError",
    "__version__",
    "calibrate",
    "check_model",
    "embed_manifest",
    "export_onnx",
]
