"""
What is compiled; users import `iotml`, which re-exports it.
"""

from collections.abc import Hashable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Final, SupportsFloat, SupportsIndex, final

from _typeshed import SupportsGetItem
from iotml.arrow import ArrowData
from iotml.store import ModelStore
from numpy import bool_, datetime64, float32, float64, int32, int64
from numpy.typing import NDArray
from typing_extensions import CapsuleType, disjoint_base

__all__ = [
    "__version__",
    "Batch",
    "EmbeddedKafka",
    "EmbeddedMqtt",
    "FileRange",
    "FileReader",
    "LogBatch",
    "LogRange",
    "LogRead",
    "LogReader",
    "LogStats",
    "LogStream",
    "Pipeline",
    "Prediction",
    "Rejection",
    "Scorer",
    "Stats",
    "StoreClient",
    "Task",
    "TopicClient",
    "check_model",
    "embed_manifest",
    "run_command",
    "stop_pipelines",
    "toml_text",
]

__version__: Final[str]
"""
The version of the package.
"""

@final
class Batch:
    """
    Rows on their way through a pipeline, as a plug-in is given them: columns, and beside each row the message it came from.

    `batch["speed"]` is a NumPy array, `batch.to_arrow()` a `pyarrow.RecordBatch`, and whatever reads Arrow (polars, pandas,
    DuckDB) reads the batch itself. Nothing is copied where NumPy has the column's type and no value is missing; the arrays
    are read-only, because other stages look at the same memory. `len(batch)` is the number of rows.

    A batch keeps the messages that its rows came from in memory: a plug-in that keeps rows should copy what it needs.
    """
    def __arrow_c_array__(self, /, requested_schema: Any | None = None) -> tuple[CapsuleType, CapsuleType]:
        """
        The columns by Arrow's PyCapsule interface. A requested schema is not looked at, as the interface allows.
        """
    def __arrow_c_schema__(self, /) -> CapsuleType:
        """
        The types of the columns by Arrow's PyCapsule interface.
        """
    def __contains__(self, name: str, /) -> bool:
        """
        Whether there is a column of this name.
        """
    def __getitem__(self, name: Any, /) -> NDArray[Any]:
        """
        The column called `name`, one value a row, read-only. Missing numbers are NaN, missing times NaT, missing texts and
        booleans `None`.

        Raises `UnknownColumnError`, a `KeyError`, which names the columns there are.
        """
    def __len__(self, /) -> int:
        """
        Number of rows.
        """
    def __repr__(self, /) -> str: ...
    @property
    def columns(self, /) -> list[str]:
        """
        Names of the columns.
        """
    def headers(self, /, row: SupportsIndex) -> list[tuple[str, bytes | None]]:
        """
        Headers of the message that `row` came from, in order; names may repeat.
        """
    @property
    def keys(self, /) -> list[bytes | None]:
        """
        Key of each row, `None` where it has none.
        """
    @property
    def offsets(self, /) -> NDArray[int64]:
        """
        Kafka offset or MQTT packet id of each row, `int64`; -1 where there is none.
        """
    @property
    def partition_names(self, /) -> list[str | None]:
        """
        Name of the partition that the state of each row belongs to, as a stage's `snapshot`, `restore` and `forget` are given
        it; `None` where the source has no partitions that could move, and in sinks.
        """
    @property
    def partitions(self, /) -> NDArray[int32]:
        """
        Kafka partition or MQTT connection of each row, `int32`; -1 where there is none.
        """
    @property
    def payloads(self, /) -> list[bytes | None]:
        """
        Bytes of each row, `None` for a tombstone: in a sink what the route's encoder made of the row, elsewhere what was
        received.
        """
    @property
    def timestamps(self, /) -> NDArray[datetime64]:
        """
        Event time of each row, `datetime64[ms]` in UTC; NaT where it has none.
        """
    def to_arrow(self, /) -> Any:
        """
        The columns as a `pyarrow.RecordBatch`, without a copy. Needs pyarrow: `pip install 'iotml[arrow]'`.
        """
    @property
    def topics(self, /) -> list[str | None]:
        """
        Topic that each row was received from, `None` where its source has no topics.
        """

@final
class EmbeddedKafka:
    """
    An in-memory Kafka cluster in this process, on loopback and a free port, until `stop` or the end of a `with` block.

    A partition keeps the newest 5 MiB and at most 100,000 messages, and drops older ones without a word; topics cannot be
    created through the protocol, and nothing is compacted. Who joins a group again soon after its last member left waits for
    nearly the time of a session (`session.timeout.ms`, 45 seconds unless set). It is for tests and demos.
    """
    def __enter__(self, /) -> EmbeddedKafka: ...
    def __exit__(self, /, *_error: object) -> None: ...
    def __new__(cls, /, topics: "dict[str, int]" = ...) -> EmbeddedKafka:
        """
        `topics` are created, each with so many partitions.
        """
    def __repr__(self, /) -> str: ...
    @property
    def bootstrap(self, /) -> str:
        """
        What to set `bootstrap.servers` to.
        """
    def stop(self, /) -> None:
        """
        Ends the cluster; what it kept is gone.
        """

@final
class EmbeddedMqtt:
    """
    An MQTT 5 broker in this process, on loopback and a free port, until `stop` or the end of a `with` block. It keeps
    everything in memory and drops nothing; it is for tests and demos.
    """
    def __enter__(self, /) -> EmbeddedMqtt: ...
    def __exit__(self, /, *_error: object) -> None: ...
    def __new__(cls, /) -> EmbeddedMqtt: ...
    def __repr__(self, /) -> str: ...
    @property
    def address(self, /) -> str:
        """
        `host:port`.
        """
    def stop(self, /) -> None:
        """
        Ends the broker; what it kept is gone.
        """

@final
class FileRange:
    """
    Rows of files: a value that is printed, stored and read again. A file that has changed since is refused.

    Each file is given as ``(path, start, end, size)``: rows from ``start`` up to, but not including, ``end``, and the file's
    size in bytes.
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, files: SupportsGetItem[int, tuple[str | PathLike[str], SupportsIndex, SupportsIndex, SupportsIndex]]
    ) -> FileRange: ...
    def __reduce__(self, /) -> tuple[type, tuple[list[tuple[Path, int, int, int]]]]: ...
    def __repr__(self, /) -> str: ...
    @property
    def files(self, /) -> list[tuple[Path, int, int, int]]:
        """
        ``(path, start, end, size)`` of each file.
        """
    @classmethod
    def from_dict(cls, /, document: "dict[str, Any]") -> FileRange:
        """
        The range that `to_dict` gave. Raises `ConfigError` naming what is wrong with it.
        """
    @property
    def n_offsets(self, /) -> int:
        """
        Number of rows.
        """
    def only(self, /, numbers: SupportsGetItem[int, SupportsIndex]) -> FileRange:
        """
        The same range with these files only, by their numbers; the others stay, without rows.
        """
    def to_dict(self, /) -> "dict[str, Any]":
        """
        What `from_dict` takes; it is fit for JSON.
        """

@final
class FileReader:
    """
    Parquet and Avro container files, as `iotml.FileLog` describes them in JSON.
    """
    def __new__(cls, /, options: str) -> FileReader:
        """
        Raises `ConfigError` naming what is wrong with the options.
        """
    def range(self, /, *, last: SupportsIndex | None = None, offsets: "dict[int, tuple[int, int]] | None" = None) -> FileRange:
        """
        The rows that are meant: all, the ``last`` so many, or ``(start, end)`` of each file by its number.

        Raises `SourceError` if a file cannot be read.
        """
    def read(self, /, range: FileRange, rows: str) -> LogRead:
        """
        Begins to read; ``rows`` says in JSON what to make of the rows. What goes wrong is raised by the first batch.
        """

@final
class LogBatch:
    """
    Rows read from a log, in order: by partition, then offset.

    `len(batch)` is the number of rows. Whatever reads Arrow (pyarrow, polars, pandas, DuckDB) reads the batch itself: the
    columns as they were decoded, not scaled, and the columns `_key`, `_partition`, `_offset` and `_time`.
    """
    def __arrow_c_array__(self, /, requested_schema: Any | None = None) -> tuple[CapsuleType, CapsuleType]:
        """
        The columns by Arrow's PyCapsule interface. A requested schema is not looked at, as the interface allows.
        """
    def __getitem__(self, name: str, /) -> NDArray[Any]:
        """
        The column called ``name`` as it was decoded and not scaled, one value a row, read-only. Missing numbers are NaN, missing
        times NaT, missing texts and booleans ``None``.

        Raises `UnknownColumnError`, a ``KeyError``, which names the columns there are, and ``TypeError`` for a type that NumPy
        has none for, such as a list.
        """
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    @property
    def columns(self, /) -> list[str]:
        """
        Names of the columns that were decoded.
        """
    @property
    def keys(self, /) -> list[bytes | None]:
        """
        Key of each row, ``None`` where it has none.
        """
    @property
    def offsets(self, /) -> NDArray[int64]:
        """
        ``(n,)`` int64: the offset of each row, or its number in its file.
        """
    @property
    def partitions(self, /) -> NDArray[int32]:
        """
        ``(n,)`` int32: the Kafka partition of each row, or the number of its file.
        """
    @property
    def target(self, /) -> NDArray[float32] | None:
        """
        ``(n, n_features)`` float32: the row that came after each window. ``None`` without windows.
        """
    @property
    def timestamps(self, /) -> NDArray[datetime64]:
        """
        ``(n,)`` datetime64[ms]: the time of each message in UTC; NaT where it has none.
        """
    def to_arrow(self, /) -> Any:
        """
        The batch as a `pyarrow.RecordBatch`. Needs pyarrow: ``pip install 'iotml[arrow]'``.
        """
    @property
    def x(self, /) -> NDArray[float32]:
        """
        ``(n, n_features)`` float32, scaled as the features say; where windows were asked for ``(n, look_back, n_features)``,
        the oldest row first.
        """
    @property
    def y(self, /) -> NDArray[float32] | None:
        """
        ``(n,)`` float32: the labels, of the rows after the windows where there are windows. ``None`` without a label.
        """

@final
class LogRange:
    """
    Offsets of partitions of one topic: a value that is printed, stored and read again. Reading it again gives the same rows,
    as long as neither retention nor compaction removes any; where they do, the read says so.

    - ``topic``: the topic's name;
    - ``partitions``: the offsets ``(start, end)`` of each partition, ``end`` not included;
    - ``topic_id``: what the broker calls the topic; one that was deleted and created anew has another id, and is not read.

    >>> from iotml import LogRange
    >>> part = LogRange("sensor-data", {0: (0, 1500), 1: (20, 1480)})
    >>> part.n_offsets, LogRange.from_dict(part.to_dict()) == part
    (2960, True)
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, topic: str, partitions: "dict[int, tuple[int, int]]", topic_id: str | None = None) -> LogRange: ...
    def __reduce__(self, /) -> tuple[type, tuple[str, dict[int, tuple[int, int]], str | None]]: ...
    def __repr__(self, /) -> str: ...
    def __str__(self, /) -> str: ...
    @classmethod
    def from_dict(cls, /, document: "dict[str, Any]") -> LogRange:
        """
        The range that `to_dict` gave. Raises `ConfigError` naming what is wrong with it.
        """
    @property
    def n_offsets(self, /) -> int:
        """
        Number of offsets; messages are as many or, where offsets are without one, fewer.
        """
    def only(self, /, partitions: SupportsGetItem[int, SupportsIndex]) -> LogRange:
        """
        The same range with these partitions only.
        """
    @property
    def partitions(self, /) -> dict[int, tuple[int, int]]:
        """
        The offsets ``(start, end)`` of each partition.
        """
    def to_dict(self, /) -> "dict[str, Any]":
        """
        What `from_dict` takes; it is fit for JSON.
        """
    @property
    def topic(self, /) -> str:
        """
        The topic's name.
        """
    @property
    def topic_id(self, /) -> str | None:
        """
        The topic's id, if the broker told one.
        """

@final
class LogRead:
    """
    A read that goes on: an iterator of batches, filled ahead by a thread of its own.

    It ends, and its thread with it, when everything was read, on an error, when it is closed, and when nobody holds it any
    more. A process that was forked off must begin a read of its own.
    """
    def __iter__(self, /) -> LogRead: ...
    def __next__(self, /) -> LogBatch:
        """
        The next batch. Ctrl-C is honoured while it is waited for.
        """
    def __repr__(self, /) -> str: ...
    def close(self, /) -> None:
        """
        Ends the read; nothing more comes.
        """
    @property
    def follows(self, /) -> bool:
        """
        Whether it goes on without an end.
        """
    def stats(self, /) -> LogStats:
        """
        What became of the rows, as of the batches that were handed out.
        """

@final
class LogReader:
    """
    A topic of Kafka and the encoding of its messages, as `iotml.KafkaLog` describes it in JSON. Nothing is connected before a
    range is asked for or a read begins, and every read has a connection of its own.
    """
    def __new__(cls, /, options: str) -> LogReader:
        """
        Raises `ConfigError` naming what is wrong with the options.
        """
    def range(
        self,
        /,
        *,
        last: SupportsIndex | None = None,
        start: SupportsIndex | None = None,
        end: SupportsIndex | None = None,
        offsets: "dict[int, tuple[int, int]] | None" = None,
    ) -> LogRange:
        """
        The offsets that are meant, as of now; see `iotml.KafkaLog.range`. Times are milliseconds since 1970.

        Raises `SourceError` if the topic cannot be asked.
        """
    def read(self, /, range: LogRange, rows: str, *, follow: bool = False) -> LogRead:
        """
        Begins to read a range; with ``follow`` from its start on, without an end. ``rows`` says in JSON what to make of the
        rows. What goes wrong is raised by the first batch.
        """

@final
class LogStats:
    """
    What became of the rows of a read, as of the batch that was handed out last.

    `messages == rows + filtered + rejected + tombstones`, where `rows` are those that were used: each is a row of `x`, or
    belongs to the windows.
    """
    def __repr__(self, /) -> str: ...
    @property
    def complete(self, /) -> bool:
        """
        Whether everything was read.
        """
    @property
    def digest(self, /) -> str | None:
        """
        `sha256:...` of the rows of `x` in order, as float32 in little-endian bytes, once everything was read.
        """
    @property
    def filtered(self, /) -> int:
        """
        Rows that the filter left out.
        """
    @property
    def gaps(self, /) -> list[tuple[int, int, int]]:
        """
        Offsets `(partition, first, end)` that retention had removed, skipped as asked for.
        """
    @property
    def holes(self, /) -> int:
        """
        Offsets without a message: compaction, transaction markers.
        """
    @property
    def lag(self, /) -> int:
        """
        Offsets between the read and the end of the range or, where it is followed, of the log.
        """
    @property
    def messages(self, /) -> int:
        """
        Messages, or rows of files, that were read.
        """
    @property
    def offsets(self, /) -> int:
        """
        Offsets that are behind the read.
        """
    @property
    def offsets_total(self, /) -> int | None:
        """
        Offsets of the range; `None` where the log is followed.
        """
    @property
    def reasons(self, /) -> dict[str, int]:
        """
        How many of them by reason.
        """
    @property
    def rejected(self, /) -> int:
        """
        Rows that cannot be used: undecodable, or a feature or label missing.
        """
    @property
    def rejections(self, /) -> list[Rejection]:
        """
        The first thousand of them, in order.
        """
    @property
    def rows(self, /) -> int:
        """
        Rows that were used.
        """
    @property
    def tombstones(self, /) -> int:
        """
        Messages without a payload, as compacted topics have them.
        """

@final
class LogStream:
    """
    Rows of a log as a stream of Arrow batches, read while its consumer asks: ``pyarrow.table(stream)``,
    ``polars.DataFrame(stream)``, and whatever else reads Arrow. It can be read once.

    The columns are those of the first rows; a column that only later rows have is left out, one that later rows do not have is
    null there. An error in the middle reaches the consumer as an error of Arrow.
    """
    def __arrow_c_stream__(self, /, requested_schema: Any | None = None) -> CapsuleType:
        """
        The stream by Arrow's PyCapsule interface. A requested schema is not looked at, as the interface allows.
        """
    def __new__(cls, /, read: LogRead) -> LogStream: ...
    def __repr__(self, /) -> str: ...

@disjoint_base
class Pipeline:
    """
    A pipeline from a document in TOML, checked as a whole before anything is started.

    `file` stands in messages. `plugins` is an `iotml.Plugins` with stages written in Python.

    Raises `ConfigError` with everything that is wrong with the document, each with its place and line.
    """
    def __new__(cls, /, text: str, *, file: str = "pipeline.toml", plugins: Any | None = None) -> Pipeline: ...
    @property
    def config(self, /) -> str:
        """
        The document as JSON, with stars in place of secrets and of everything that came from outside of it.
        """
    def graph(self, /, format: str = "text") -> str:
        """
        The pipeline as a drawing, without secrets: `text` for a terminal, or `mermaid`.
        """
    @property
    def http(self, /) -> str | None:
        """
        `host:port` where metrics and health are served, where the document asks for that and the pipeline was started.
        """
    def metrics(self, /) -> str:
        """
        The metrics of this run, in the OpenMetrics text format; empty before the start.
        """
    @property
    def name(self, /) -> str:
        """
        Name of the pipeline.
        """
    def start(self, /) -> Pipeline:
        """
        Starts all tasks and returns once every one of them receives.

        Raises `PipelineError` where a stage cannot be opened; nothing is left half-started then.
        """
    def stats(self, /) -> Stats:
        """
        What became of the rows, and how the pipeline is doing.
        """
    def stop(self, /, *, wait: bool = True) -> None:
        """
        Asks the pipeline to stop receiving, to drain what is in flight, and to close; waits for that unless `wait` is false.
        Does nothing if it does not run.

        Raises `PipelineError` if it failed.
        """
    def wait(self, /, timeout: SupportsFloat | SupportsIndex | None = None) -> bool:
        """
        Waits until the pipeline has ended, by itself or by `stop`, and returns true; or for at most `timeout` seconds, and
        returns whether it has ended. Ctrl-C stops and drains it first; a second one does not wait for that.

        Raises `PipelineError` if it failed; where a plug-in in Python raised something, that is its `__cause__`.
        """
    @property
    def warnings(self, /) -> list[str]:
        """
        What a person should look at in the document; none of it stops the pipeline.
        """

@final
class Prediction:
    """
    Scores with what they come from, one entry a row of the input. Arrays are NumPy's.

    Fields that the model's kind does not have are ``None``.
    """
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    @property
    def anomaly(self, /) -> NDArray[bool_] | None:
        """
        ``(n,)`` bool: whether the score, or the error of a feature, has reached the manifest's threshold. ``None`` if the
        manifest has none.
        """
    @property
    def errors(self, /) -> NDArray[float32] | None:
        """
        ``(n, n_features)`` float32: the squared error of every feature, in scaled units; their mean is the score. ``None`` as
        for ``reconstruction``.
        """
    @property
    def labels(self, /) -> list[str] | None:
        """
        The most likely class of each row, of a classifier.
        """
    @property
    def probabilities(self, /) -> NDArray[float32] | None:
        """
        ``(n, n_classes)`` float32, of a classifier; ``(n, 1)`` if its model gives only that of the second of two classes.
        """
    @property
    def reconstruction(self, /) -> NDArray[float32] | None:
        """
        ``(n, n_features)`` float32, in scaled units: the rows as the model gives them back, or as it expected them from the
        rows before. ``None`` for the kinds ``score`` and ``classifier``.
        """
    @property
    def score(self, /) -> NDArray[float32]:
        """
        ``(n,)`` float32: the higher, the more anomalous. NaN for a row of a ``next_event`` model that has too few rows of its
        key before it.
        """

@final
class Rejection:
    """
    A row that cannot be used.
    """
    def __repr__(self, /) -> str: ...
    @property
    def detail(self, /) -> str:
        """
        What a person needs to know.
        """
    @property
    def offset(self, /) -> int:
        """
        Offset, or number of the row in its file.
        """
    @property
    def partition(self, /) -> int:
        """
        Kafka partition, or number of the file.
        """
    @property
    def reason(self, /) -> str:
        """
        One word, to count by.
        """

@final
class Scorer:
    """
    Scores rows with an ONNX model: raw rows in, scores out, by the code that also serves in a pipeline.

    Scaling, threshold and the kind of the score come from the model's manifest: the one in the ONNX file, or the JSON file
    beside it, or ``manifest`` (JSON text), which wins over both. The model's golden rows are run when it is opened.

    - ``path``: the ONNX file, or a ``file:`` URI of it; or the URI of a version in a model store, such as
      ``"s3://models/cars/4"``, ``gs:``, ``az:`` or ``"file:///srv/models/cars/4"``, which is fetched and verified, and whose
      manifest is the store's.
    - ``store``: the `ModelStore` that the version is in, where it is to be asked with other options than the defaults, such as
      ``trusted_keys`` or ``cache``. Without it credentials come from the environment.
    - ``engine``: ``"onnxruntime"``, ``"tract"``, or None for the first of them that is there. ONNX Runtime is found in the
      package ``onnxruntime`` of this Python, which is not imported; tract is always there.
    - ``library``: the libonnxruntime to load, if none is to be looked for.
    - ``golden``: ``"required"`` refuses a model without golden rows, ``"none"`` does not.
    - ``missing``: what becomes of a value that is NaN, infinite or null: ``"error"`` raises `ScoreError`, ``"impute"`` takes
      the manifest's value for it.

    A scorer may be used by many threads at once, which score in parallel; it holds no GIL while it does. It remembers nothing
    from call to call. It can be pickled, which opens the file again where it arrives. A process that was forked off must open
    its own.

    Raises `ModelError` if the model is refused, `StoreError` if the store cannot be asked or has no such version.

    >>> import numpy as np
    >>> import iotml
    >>> scorer = iotml.Scorer("testdata/cars/cars-autoencoder.onnx")
    >>> scorer.name, scorer.n_features, scorer.features[:2]
    ('cars', 18, ['coolant_temp', 'intake_air_temp'])
    >>> scorer.score(np.zeros((3, 18), np.float32)).shape
    (3,)
    """
    def __getnewargs_ex__(self, /) -> "tuple[tuple[str], dict[str, Any]]": ...
    def __new__(
        cls,
        /,
        path: str | PathLike[str],
        *,
        store: ModelStore | None = None,
        engine: str | None = None,
        library: str | PathLike[str] | None = None,
        golden: str = "required",
        manifest: str | None = None,
        missing: str = "error",
    ) -> Scorer: ...
    def __repr__(self, /) -> str: ...
    @property
    def engine(self, /) -> str:
        """
        The engine that runs the model: ``"onnxruntime"`` or ``"tract"``.
        """
    @property
    def features(self, /) -> list[str]:
        """
        The names of the columns, in the model's order. What stands in the column of a constant feature is not read.
        """
    @property
    def input_width(self, /) -> int:
        """
        Numbers of one row that the network sees: `n_features`, times `look_back` where it sees several rows.
        """
    @property
    def kind(self, /) -> str:
        """
        What the model computes: ``"reconstruction"``, ``"next_event"``, ``"score"`` or ``"classifier"``.
        """
    @property
    def look_back(self, /) -> int | None:
        """
        How many rows of a key a ``next_event`` model sees to expect the next one, else None.
        """
    @property
    def manifest(self, /) -> str:
        """
        The manifest, as JSON text.
        """
    @property
    def n_features(self, /) -> int:
        """
        Numbers of one raw row.
        """
    @property
    def name(self, /) -> str:
        """
        The model's name.
        """
    @property
    def output_width(self, /) -> int:
        """
        Numbers of one row that the network gives.
        """
    def predict(
        self, /, x: NDArray[float32] | NDArray[float64] | ArrowData, *, keys: Iterable[Hashable] | str | None = None
    ) -> Prediction:
        """
        Scores with what they come from: verdicts, reconstructions, the error of every feature. Takes what `score` takes; one
        row counts as ``n = 1``.
        """
    def run(self, /, x: NDArray[float32] | NDArray[float64]) -> NDArray[float32]:
        """
        The bare network: ``x`` ``(n, input_width)``, or with more axes behind the first that hold as many numbers, as the
        network sees it, that is scaled. Float32 or float64. Gives ``(n, output_width)`` float32.

        Raises `ConfigError` if ``x`` is of another shape or type, `ScoreError` if the engine fails.
        """
    def score(
        self, /, x: NDArray[float32] | NDArray[float64] | ArrowData, *, keys: Iterable[Hashable] | str | None = None
    ) -> NDArray[float32] | Any:
        """
        The score of every row: the higher, the more anomalous.

        ``x`` holds raw, unscaled rows:

        - a NumPy array ``(n, n_features)`` of float32 or float64, its columns in the order of `features`. One that is float32
          and C-contiguous is read where it lies; do not write to it meanwhile in another thread;
        - one row, ``(n_features,)``, whose score is given as a float;
        - a table of any library that speaks Arrow's PyCapsule interface (pyarrow, polars, pandas, DuckDB), whose columns are
          found by the names in `features`.

        A ``next_event`` model scores a row by the rows of the same device before it, so it also wants ``keys``: a sequence
        with the key of each row, or the name of a column of the table. The rows of one key must be in the order of time. The
        first `look_back` rows of each key have the score NaN: for a score of the newest row alone, pass the rows before it too.
        Other kinds take no notice of ``keys``.

        Gives a NumPy array ``(n,)`` of float32, or a float for one row.

        Raises `ConfigError` if ``x`` is of another shape or type, `ScoreError` if values are missing (its ``rows`` lists the
        rows) or the engine fails.
        """
    @property
    def threshold(self, /) -> float | None:
        """
        The score from which on a row is an anomaly; None if the manifest has no such limit.
        """
    @property
    def version(self, /) -> str:
        """
        The model's version.
        """

@final
class Stats:
    """
    What became of the rows of a pipeline, and how it is doing, on one snapshot.

    `received == delivered + dead_lettered + filtered + skipped + returned + in_flight`, always.
    """
    def __repr__(self, /) -> str: ...
    @property
    def dead_lettered(self, /) -> int:
        """
        Rows of which at least one result went to the dead-letter sink, durably.
        """
    @property
    def delivered(self, /) -> int:
        """
        Rows that every required route made durable.
        """
    @property
    def detail(self, /) -> str:
        """
        Why not, or the balance, in one line.
        """
    @property
    def done_per_second(self, /) -> float:
        """
        Rows that are done, in whatever way, a second; over the same time.
        """
    @property
    def filtered(self, /) -> int:
        """
        Rows left out on purpose.
        """
    @property
    def in_flight(self, /) -> int:
        """
        Rows not yet done; with transactions, not yet committed.
        """
    @property
    def is_healthy(self, /) -> bool:
        """
        No task has failed; idle is healthy.
        """
    @property
    def is_ready(self, /) -> bool:
        """
        Every task receives, and nothing is in flight for too long.
        """
    @property
    def received(self, /) -> int:
        """
        Rows the source yielded, redelivered ones again.
        """
    @property
    def received_per_second(self, /) -> float:
        """
        Rows received a second: over the last ten seconds in which `stats` was asked for, over the whole run once it ended.
        """
    @property
    def returned(self, /) -> int:
        """
        Rows in flight when their task was begun anew or their transaction aborted; the source yields them again, and they are
        received again.
        """
    @property
    def seconds(self, /) -> float:
        """
        How long the pipeline has been running, or ran, in seconds.
        """
    @property
    def skipped(self, /) -> int:
        """
        Rows dropped by `errors.tolerance = "all"` without a dead-letter sink.
        """
    @property
    def state(self, /) -> str:
        """
        `new`, `starting`, `running`, `stopped`, or `failed`.
        """

@final
class StoreClient:
    """
    A model store at a URL, with options in JSON: those of `[score.follow.store_options]`.
    """
    def __new__(cls, /, url: str, options: str) -> StoreClient:
        """
        Opens the store, and asks nothing of it. Raises `ConfigError` if there can be none.
        """
    def fetch(self, /, name: str, version: str, sha256: str | None = None) -> tuple[bytes, str, str]:
        """
        A version, verified: the ONNX file, its digest, and its manifest as JSON.
        """
    def list(self, /, name: str | None = None) -> list[tuple[str, str, str, int, int | None, bool]]:
        """
        The versions that are there, or those of one model: name, version, address, when they were published in milliseconds
        since 1970, bytes (None if the file is missing), and whether they are signed.
        """
    def manifest(self, /, name: str, version: str) -> str:
        """
        The manifest of a version as JSON, verified.
        """
    @staticmethod
    def of_pipeline(text: str, file: str, plugins: Any | None = None) -> StoreClient:
        """
        The store that the scorer of a pipeline takes models from.
        """
    def publish(
        self,
        /,
        onnx: bytes | bytearray | str | PathLike[str],
        *,
        name: str | None = None,
        version: str | None = None,
        manifest: str | None = None,
        check: bool = True,
    ) -> tuple[str, str, str, str, bool]:
        """
        Puts a model into the store; gives its name, version, address and digest, and whether it is new.
        """
    def uri(self, /, name: str, version: str) -> str:
        """
        The address of a version, whether it exists or not.
        """
    @property
    def url(self, /) -> str:
        """
        Where it is, without a slash at the end.
        """

@final
class Task:
    """
    The task that a plug-in runs in, given to its `open`. A pipeline has `n_tasks` of them, each with a thread and plug-in
    instances of its own.
    """
    def __repr__(self, /) -> str: ...
    @property
    def instance(self, /) -> str:
        """
        Name of this instance of the worker, stable over restarts.
        """
    @property
    def n_tasks(self, /) -> int:
        """
        Number of tasks of the pipeline.
        """
    @property
    def number(self, /) -> int:
        """
        Number of the task, from 0.
        """
    @property
    def pipeline(self, /) -> str:
        """
        Name of the pipeline.
        """

@final
class TopicClient:
    """
    A topic of Kafka on which models are announced, with options in JSON: those of `[score.follow.feed]`. Every call has a
    connection of its own.
    """
    def __new__(cls, /, options: str) -> TopicClient:
        """
        Raises `ConfigError` naming what is wrong with the options. Nothing is connected.
        """
    def announce(
        self,
        /,
        model: str,
        version: str,
        rollout: str,
        *,
        uri: str | None = None,
        sha256: str | None = None,
        onnx: bytes | bytearray | str | PathLike[str] | None = None,
        manifest: str | None = None,
        check: bool = True,
    ) -> str:
        """
        Announces a version, which is at ``uri`` with the digest ``sha256``, or comes along as ``onnx``; ``rollout`` is JSON.
        Gives what is in force then, as JSON.
        """
    def announced(self, /) -> list[tuple[str, str | None, str | None]]:
        """
        What is announced, by name: as JSON, or None and why it cannot be read.
        """
    def drifts(self, /) -> list[str]:
        """
        What workers reported of rows that drifted, oldest first: one JSON object each.
        """
    @property
    def name(self, /) -> str:
        """
        The topic.
        """
    @staticmethod
    def of_pipeline(text: str, file: str, plugins: Any | None = None) -> TopicClient:
        """
        The topic that the scorer of a pipeline follows.
        """
    def promote(self, /, model: str, version: str) -> str:
        """
        Lets a version score all rows.
        """
    def reports(self, /) -> list[str]:
        """
        What workers reported, oldest first: one JSON object each.
        """
    def retire(self, /, model: str, version: str) -> str:
        """
        Takes a version out of service.
        """
    def roll_back(self, /, model: str) -> str:
        """
        Lets the version that was retired last score all rows again.
        """

def check_model(
    onnx: bytes, manifest_json: str, *, engine: str | None = None, library: str | PathLike[str] | None = None
) -> "dict[str, Any]":
    """
    Opens a model as a scorer would, without keeping it: the checks of the file, the engine, the golden rows.

    ``onnx`` is the ONNX file's bytes and ``manifest_json`` the manifest as JSON text, which takes the place of one in the
    file. ``engine`` and ``library`` are as for `Scorer`.

    Gives what was found: ``engine``, ``kind``, ``input``, ``output`` (names in the graph), ``input_width``,
    ``output_width`` (numbers a row), ``look_back`` (rows, or None) and ``golden_rows`` (how many came out).

    Raises `ModelError` saying what is wrong.
    """

def embed_manifest(onnx: bytes, manifest_json: str) -> bytes:
    """
    Gives an ONNX file a manifest, in the place of one that it has; all else in it stays as it is.

    ``onnx`` is the file's bytes and ``manifest_json`` the manifest as JSON text. Gives the new file's bytes.

    Raises `ModelError` if the manifest is not valid or the bytes are no ONNX file.
    """

def run_command(
    arguments: SupportsGetItem[int, str], elsewhere: SupportsGetItem[int, tuple[str, str]] = ..., plugins: Any | None = None
) -> int:
    """
    Does what `arguments` say, the first of which is the name of the program, and returns the exit code. `elsewhere` names
    commands that Python does itself, for the help: name and what it does.

    Signals are handled as a worker does: the first SIGINT or SIGTERM drains and stops, the second ends the process.
    """

def stop_pipelines() -> None:
    """
    Stops and drains all pipelines of this process that still run: called when the interpreter ends, while plug-ins in Python
    can still be called. A stage that hangs is left behind, and what was in flight is redelivered at the next start.
    """

def toml_text(json: str) -> str:
    """
    The TOML text of a document in JSON.
    """
