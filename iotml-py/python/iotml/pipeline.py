"""Pipelines: MQTT or Kafka in, decoded, preprocessed, scored, encoded, and out again, by the Rust engine."""

from __future__ import annotations

import atexit
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from iotml import _iotml
from iotml.exceptions import ConfigError, IotmlError
from iotml.watching import Watching

if TYPE_CHECKING:
    from typing_extensions import Self

    from iotml.plugins import Plugins

# Kafka Connect's words, which no Python name can have.
_DOTTED = {
    "tasks_max": "tasks.max",
    "errors_tolerance": "errors.tolerance",
    "errors_retry_timeout": "errors.retry.timeout",
    "errors_retry_delay_max": "errors.retry.delay.max",
}

# While plug-ins in Python can still be called, and before threads are torn down.
atexit.register(_iotml.stop_pipelines)


class Pipeline(_iotml.Pipeline):
    """A pipeline from a document in TOML, the same that `iotml run` takes.

    As a context manager it is started, and stopped and drained at the end of the block:

        with iotml.Pipeline.from_toml("pipeline.toml") as pipeline:
            pipeline.watch()

    Rows are delivered at least once: a message is acknowledged to its source only when every required route has made it
    durable. Where the document has a `[log]` table, Rust logs to stderr; the first pipeline of a process decides how.
    """

    @classmethod
    def from_toml(
        cls, path: str | os.PathLike[str] | None = None, *, text: str | None = None, plugins: Plugins | None = None
    ) -> Self:
        """Read the document of a file, or a text; `plugins` has the stages that are written in Python.

        Everything is checked, and every stage is made, but nothing is opened. Raises `ConfigError` with all mistakes
        of the document, each with its place and line.
        """
        if (path is None) == (text is None):
            raise ConfigError("give either the path of a file or a text")
        if path is None:
            return cls(text or "", plugins=plugins)
        return cls(read_document(path), file=os.fspath(path), plugins=plugins)

    @classmethod
    def builder(cls, name: str, *, plugins: Plugins | None = None, **options: Any) -> PipelineBuilder:
        """Begin a document that is put together in Python.

        `options` are keys of `[pipeline]`; Kafka Connect's words are written with `_` for `.`: `tasks_max=2`,
        `errors_tolerance="all"`.
        """
        return PipelineBuilder(cls, name, plugins, options)

    def start(self) -> Self:
        """Start all tasks and return once every one of them receives.

        Raises `PipelineError` where a stage cannot be opened; nothing is left half-started then.
        """
        super().start()
        return self

    def watch(self, interval: float = 1.0) -> None:
        """Show how the pipeline is doing every `interval` seconds, until it has ended.

        As a line in a terminal, as a table in a notebook. Ctrl-C stops and drains the pipeline.

        Raises `PipelineError` if it fails.
        """
        with Watching(self.name) as watching:
            while not self.wait(interval):
                watching.show(self.stats())
            watching.show(self.stats())

    def __enter__(self) -> Self:
        """Start it, unless it runs."""
        if self.stats().state not in ("starting", "running"):
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop and drain it. Raises `PipelineError` if it failed, unless the block itself raised something."""
        try:
            self.stop()
        except IotmlError as failure:
            if error is None:
                raise
            if error is not failure and str(error) != str(failure):
                logging.getLogger("iotml").error("%s", failure)

    def __repr__(self) -> str:
        """Name and balance."""
        return f"Pipeline({self.name!r}, {self.stats()!r})"


class PipelineBuilder:
    """Puts a document together; `build()` makes a pipeline of it, `toml()` shows it.

        pipeline = (
            iotml.Pipeline.builder("score-cars", errors_tolerance="all")
            .source("kafka", topics=["sensor-data"], kafka={"bootstrap.servers": "127.0.0.1:9092"})
            .decode("confluent_avro", registry={"url": "http://127.0.0.1:8081"})
            .score("onnx", model="cars.onnx")
            .route("predictions", encode="json", sink={"type": "kafka", "topic": "predictions", "kafka": {...}})
            .build()
        )

    The first argument is the `type` of the plug-in, keyword arguments are its keys; a key that is None is left out.
    """

    def __init__(
        self, pipeline: type[Pipeline], name: str, plugins: Plugins | None, options: Mapping[str, Any]
    ) -> None:
        """Begins with the `[pipeline]` table."""
        self._pipeline = pipeline
        self._plugins = plugins
        self._document: dict[str, Any] = {
            "pipeline": {"name": name, **{_DOTTED.get(key, key): value for key, value in options.items()}}
        }

    def source(self, kind: str, /, **config: Any) -> Self:
        """Where messages come from."""
        return self._once("source", {"type": kind, **config})

    def decode(self, kind: str, /, **config: Any) -> Self:
        """Bytes to columns; without it bytes pass through."""
        return self._once("decode", {"type": kind, **config})

    def preprocess(self, kind: str, /, **config: Any) -> Self:
        """Reshape rows; several are applied in this order. `name` tells two of one type apart."""
        self._document.setdefault("preprocess", []).append({"type": kind, **config})
        return self

    def score(self, kind: str, /, **config: Any) -> Self:
        """Append scores."""
        return self._once("score", {"type": kind, **config})

    def route(
        self,
        name: str,
        /,
        *,
        sink: str | Mapping[str, Any],
        encode: str | Mapping[str, Any] | None = None,
        when: str | None = None,
        required: bool | None = None,
    ) -> Self:
        """Where rows go; at least one. `sink` and `encode` are tables with a `type`, or only the type.

        `when` picks rows: a boolean column (`"anomaly"`), or a comparison (`"score > 0.5"`). A route that is not
        `required` holds back no acknowledgement.
        """
        tables = {"encode": _table(encode), "sink": _table(sink)}
        self._document.setdefault("route", []).append({"name": name, "when": when, "required": required, **tables})
        return self

    def dead_letter(self, kind: str, /, **config: Any) -> Self:
        """Where rows go that fail for good, with `errors_tolerance="all"`."""
        return self._once("dead_letter", {"type": kind, **config})

    def state(self, folder: str | os.PathLike[str], /, *, interval: str | None = None) -> Self:
        """Where stages with state keep their snapshots."""
        return self._once("state", {"folder": os.fspath(folder), "interval": interval})

    def http(self, listen: str, /) -> Self:
        """Where metrics and health are served: `127.0.0.1:9464`; port 0 takes a free one."""
        return self._once("http", {"listen": listen})

    def log(self, level: str = "info", /, *, format: str | None = None) -> Self:  # noqa: A002 - the key's name
        """Log to stderr: a level, or levels by module; `format` is `text` or `json`."""
        return self._once("log", {"level": level, "format": format})

    def toml(self) -> str:
        """Write the document as `Pipeline.from_toml` and `iotml run` take it, with the secrets it was given."""
        try:
            return _iotml.toml_text(json.dumps(_without_none(self._document), allow_nan=False, default=_plain))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the document cannot be written as TOML: {error}") from error

    def build(self) -> Pipeline:
        """Make the pipeline. Raises `ConfigError` with all mistakes of the document."""
        return self._pipeline.from_toml(text=self.toml(), plugins=self._plugins)

    def __repr__(self) -> str:
        """Name and tables; their values may be secrets."""
        return f"PipelineBuilder({self._document['pipeline']['name']!r}: {', '.join(self._document)})"

    def _once(self, table: str, value: dict[str, Any]) -> Self:
        if table in self._document:
            raise ConfigError(f"[{table}] is given twice")
        self._document[table] = value
        return self


def read_document(path: str | os.PathLike[str]) -> str:
    """Read the TOML of a pipeline. Raises `ConfigError` if that cannot be."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{os.fspath(path)}: cannot be read: {error}") from error


def _table(value: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return {"type": value} if isinstance(value, str) else value


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def _plain(value: object) -> object:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    item = getattr(value, "item", None)
    if callable(item):
        # A number of NumPy's.
        return item()
    raise TypeError(f"{value!r} has no place in a document")
