"""Stages of a pipeline written in Python: preprocessors, scorers and sinks, with a `type` that TOML can name.

A stage works on whole batches, with NumPy or Arrow:

    plugins = iotml.Plugins()

    @plugins.preprocessor("faster_than")
    def faster_than(batch, *, limit: float = 0.0):
        return batch["speed"] > limit          # a mask: which rows are kept

    @plugins.scorer("braking")
    class Braking:
        threshold = 4.0                        # from this score on a row is an anomaly

        def __init__(self, axle: str = "front"):
            ...                                # keys of the table; called to validate as well, so it opens nothing

        def score(self, batch):
            return abs(batch["accelerometer_1_1_value"])

    with iotml.Pipeline.from_toml("pipeline.toml", plugins=plugins) as pipeline:
        pipeline.wait()

Rules that all stages share:

- Every task has instances of its own. The GIL is taken once a batch; while Python works, the source goes on receiving.
- The keys of the stage's table are the keyword arguments of the factory. They are checked before anything starts,
  against `config_schema` or else against the factory's signature.
- `open(task)` is called once before the first batch, `close()` once at the end, where there are such methods.
- A stage keeps no row from one call to the next: what it was given may come again.
- A preprocessor or scorer may remember something by partition. It then has three more methods: `snapshot(partition)`
  gives its state as bytes, or None where it has none; `restore(partition, state)` takes it back; `forget(partition)`
  drops it. `batch.partition_names` says which partition each row is of. With a `[state]` table snapshots survive a
  restart, and they move with their partition. No row is shown to such a stage twice, so an exception cannot be put
  down to a row and ends the pipeline: bad rows are for `Result.reject`. To ask for another try, it raises
  `RetryableError` before it changes its state.
- An exception is put down to a row: the batch is tried again in halves until the rows at fault are found. Such a row
  goes the way of `errors.tolerance`: with `none` the pipeline fails with a `PipelineError` whose cause is the
  exception, with `all` the row is dead-lettered with the exception's text, and its neighbours go on. Three kinds of
  exceptions are put down to no row: `RetryableError`, and in a sink any `OSError`, have the same rows tried again
  within `errors.retry.timeout`; `PipelineError` (of which `UnknownColumnError` is one) ends the pipeline.
- What a stage must not give back (rows too few, a mask that is not boolean, a column with two dimensions) ends the
  pipeline with a `PipelineError` that says what was given back, whatever `errors.tolerance` says: it is a defect of
  the stage.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

from iotml.exceptions import ConfigError
from iotml.signature import config_schema as schema_of
from iotml.signature import takes_batch

_NAME = re.compile(r"[a-z][a-z0-9_]*")

Stage = TypeVar("Stage", bound=Callable[..., Any])

Reason = str | tuple[str, str]
"""Why a row failed: a text, or a word to count by in snake case, such as `out_of_range`, and a text."""


class ArrowTable(Protocol):
    """Columns by Arrow's PyCapsule interface: of pyarrow, polars, pandas, or a `Batch`."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """Give the capsules of the schema and of the columns."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """What became of every row of a batch, where a mask or columns alone do not say it.

    A row in `reject` has failed, whatever `keep` says of it; a row that `keep` leaves out is filtered; all others go
    on.
    """

    keep: Any | None = None
    """Booleans, one a row: which rows go on. Left out, all do."""
    reject: Mapping[int, Reason] | None = None
    """Rows that failed for good, each with its reason."""
    columns: Mapping[str, Any] | ArrowTable | None = None
    """Columns of all rows, also of those that do not go on: a dict adds columns or takes their place, an Arrow table
    takes the place of all. NumPy arrays, lists or Arrow arrays of one dimension; a masked array has missing values,
    and a NaN is none."""
    retry: Mapping[int, Reason] | None = None
    """From a sink: rows that may succeed when they are written again."""


class Plugins:
    """Stages written in Python, by `type`."""

    def __init__(self) -> None:
        """Make an empty collection."""
        self._registered: dict[tuple[str, str], tuple[str, str, Callable[[dict[str, Any]], Any]]] = {}

    @overload
    def preprocessor(
        self, name: str, /, *, config_schema: Mapping[str, Any] | None = None, about: str | None = None
    ) -> Callable[[Stage], Stage]: ...

    @overload
    def preprocessor(
        self, name: str, factory: Stage, /, *, config_schema: Mapping[str, Any] | None = None, about: str | None = None
    ) -> Stage: ...

    def preprocessor(
        self,
        name: str,
        factory: Stage | None = None,
        /,
        *,
        config_schema: Mapping[str, Any] | None = None,
        about: str | None = None,
    ) -> Stage | Callable[[Stage], Stage]:
        """Register a preprocessor, `type = "NAME"` in a `[[preprocess]]` table. Without `factory`, decorate one.

        A class is a factory: `factory(**config)` makes an instance, whose `apply(batch)` is called. A function whose
        first parameter is the batch is the stage itself, and its other parameters are the configuration.
        `apply(batch)` says what becomes of every row; it returns one of

        - the batch itself: nothing changes;
        - a boolean mask, one value a row: where it is false, the row is filtered;
        - a dict of columns with a value for every row: added, or put in the place of columns of those names;
        - an Arrow table (pyarrow, polars, pandas) with as many rows as the batch: in the place of all columns;
        - a `Result`, for all of this together, and for rows that are rejected.

        `config_schema` is the JSON Schema of the configuration, by default made of the factory's signature; `about`
        says in one line what the stage does, by default the first line of its docstring.

        Raises `ConfigError` for a name that is taken or not in snake case.
        """
        return self._add("preprocess", name, factory, config_schema, about)

    @overload
    def scorer(
        self, name: str, /, *, config_schema: Mapping[str, Any] | None = None, about: str | None = None
    ) -> Callable[[Stage], Stage]: ...

    @overload
    def scorer(
        self, name: str, factory: Stage, /, *, config_schema: Mapping[str, Any] | None = None, about: str | None = None
    ) -> Stage: ...

    def scorer(
        self,
        name: str,
        factory: Stage | None = None,
        /,
        *,
        config_schema: Mapping[str, Any] | None = None,
        about: str | None = None,
    ) -> Stage | Callable[[Stage], Stage]:
        """Register a scorer, `type = "NAME"` in the `[score]` table; see `preprocessor` for the arguments.

        `score(batch)` returns one number a row, higher is more anomalous, or a pair: the scores, and a boolean a row.
        A score that is missing (a masked array) is no opinion; one that is NaN or infinite rejects its row.
        Attributes of the instance, asked for once a batch: `threshold`, the score from which on a row is an anomaly
        where no booleans are returned; `name` and `version`, which stand in the columns `model` and `model_version`.
        """
        return self._add("score", name, factory, config_schema, about)

    @overload
    def sink(
        self, name: str, /, *, config_schema: Mapping[str, Any] | None = None, about: str | None = None
    ) -> Callable[[Stage], Stage]: ...

    @overload
    def sink(
        self, name: str, factory: Stage, /, *, config_schema: Mapping[str, Any] | None = None, about: str | None = None
    ) -> Stage: ...

    def sink(
        self,
        name: str,
        factory: Stage | None = None,
        /,
        *,
        config_schema: Mapping[str, Any] | None = None,
        about: str | None = None,
    ) -> Stage | Callable[[Stage], Stage]:
        """Register a sink, `type = "NAME"` in `[route.sink]` or `[dead_letter]`; see `preprocessor` for the arguments.

        `write(batch)` returns None once every row is durable, or a dict `{row: reason}` of the rows that were refused
        for good, all others being durable, or a `Result` with `reject` and `retry`. `batch.payloads` is what the
        route's encoder made of the rows. `open`, `write` and `close` are called in one thread of the sink's own.
        Delivery is at least once: after a failure the same rows may be written again.
        """
        return self._add("sink", name, factory, config_schema, about)

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command line `iotml` with these plug-ins, by default with the arguments of the process.

        Returns the exit code. A whole worker with stages of its own is `sys.exit(plugins.main())`.
        """
        from iotml import cli

        return cli.main(arguments, plugins=self)

    @property
    def registered(self) -> list[tuple[str, str, str, str, Callable[[dict[str, Any]], Any]]]:
        """What was registered: stage, type, what it does, JSON Schema as text, what makes an instance of a config."""
        return [(stage, name, *registered) for (stage, name), registered in self._registered.items()]

    def __repr__(self) -> str:
        """Stages and types."""
        return f"Plugins({', '.join(f'{stage} {name}' for stage, name in self._registered)})"

    def _add(
        self,
        stage: str,
        name: str,
        factory: Stage | None,
        config_schema: Mapping[str, Any] | None,
        about: str | None,
    ) -> Stage | Callable[[Stage], Stage]:
        if factory is None:
            return lambda factory: self._register(stage, name, factory, config_schema, about)
        return self._register(stage, name, factory, config_schema, about)

    def _register(
        self, stage: str, name: str, factory: Stage, config_schema: Mapping[str, Any] | None, about: str | None
    ) -> Stage:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no type of a plug-in: write it in snake case, such as 'tyre_spread'")
        if (stage, name) in self._registered:
            raise ConfigError(f"a plug-in of type {name!r} for the stage {stage} is already registered")
        if not callable(factory):
            raise ConfigError(f"plug-in {name!r}: {factory!r} is neither a class nor a function")
        if inspect.iscoroutinefunction(factory):
            raise ConfigError(f"plug-in {name!r} is async; a stage is an ordinary function or class")
        is_stage = takes_batch(factory)
        schema = dict(config_schema) if config_schema is not None else schema_of(factory, skip_first=is_stage)
        try:
            text = json.dumps(schema)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"plug-in {name!r}: its config_schema is no JSON: {error}") from error
        lines = (about or inspect.getdoc(factory) or "").strip().splitlines()
        make = functools.partial(_bind if is_stage else _make, factory)
        self._registered[stage, name] = (lines[0] if lines else f"{name}, written in Python", text, make)
        return factory


def _bind(function: Callable[..., Any], config: dict[str, Any]) -> Callable[..., Any]:
    return functools.partial(function, **config)


def _make(factory: Callable[..., Any], config: dict[str, Any]) -> object:
    return factory(**config)
