"""Read rows for training straight from a Kafka log, or from Parquet and Avro files."""

from __future__ import annotations

from iotml._iotml import FileRange, LogBatch, LogRange, LogStats, LogStream, Rejection
from iotml.log.base import Log
from iotml.log.files import FileLog
from iotml.log.kafka import KafkaLog
from iotml.log.reading import Reading

__all__ = [
    "FileLog",
    "FileRange",
    "KafkaLog",
    "Log",
    "LogBatch",
    "LogRange",
    "LogStats",
    "LogStream",
    "Reading",
    "Rejection",
]
