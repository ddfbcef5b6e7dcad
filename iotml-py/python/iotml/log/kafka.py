"""A topic of Kafka as a log of rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from iotml._iotml import LogRange, LogRead, LogReader
from iotml.exceptions import ConfigError
from iotml.log.base import BATCH_ROWS, Log
from iotml.log.reading import Reading
from iotml.log.rows import Features, Missing, OnBad
from iotml.times import milliseconds

#: A moment: with a time zone, or NumPy's, which is in UTC, or milliseconds since 1970.
Time: TypeAlias = datetime | np.datetime64 | int

Format: TypeAlias = Literal["confluent_avro", "avro", "json", "csv"]


class KafkaLog(Log[LogRange]):
    """A topic of Kafka, read by exact ranges and outside any consumer group, as often as wanted.

    - `bootstrap`: brokers, `host:port`, several separated by commas;
    - `topic`: the topic, which must exist;
    - `registry`: the address of a schema registry with the Confluent API, path included, or a mapping with `url` and,
      where needed, `username` and `password`, or `token`, `tls` (a mapping with `ca`), `timeout`;
    - `format`: `"confluent_avro"` (the default; needs a registry), `"avro"` (needs a `schema`), `"json"`, `"csv"`, or a
      mapping with the `type` and the options of that decoder, such as `{"type": "csv", "fields": ["time", "speed"]}`;
    - `schema`: of bare Avro: JSON text, or the path of an `.avsc` file;
    - `features`: the columns of `x`: names, for raw values; or `iotml.manifest.Feature`s, an `iotml.Manifest` or the
      path of one, which scale them as the model will see them. A dot leads into a nested record;
    - `label`: the column of `y`: numbers stay what they are, true and false become 1 and 0, also as text;
    - `filter`: a condition, or several that must all hold: `'failure_occurred == "false"'`, `"speed > 3"`, `"is_new"`;
    - `columns`: more columns, for Arrow. Without features and columns, Arrow gives all there are;
    - `missing`: a row whose feature is null, NaN or infinite is bad (`"reject"`), or the value is that of the feature's
      `impute` or the centre of its scale (`"impute"`);
    - `on_bad`: a row that cannot be used ends the read with a `DecodeError` (`"raise"`), or is left out, counted and
      listed (`"skip"`): cut short, of an unknown schema, without a needed column, a feature or label missing;
    - `on_gap`: messages of the range that retention has removed end the read with a `SourceError` (`"raise"`), or are
      jumped over and listed (`"skip"`);
    - `timeout`: seconds without any message after which a read that has more to come fails with a `SourceError`;
    - `progress`: whether a bar is shown; `None` shows it in a terminal and in a notebook if tqdm is installed;
    - `kafka`: properties of librdkafka, such as `{"security.protocol": "SASL_SSL"}`.

    Rows come by partition, then offset. Only committed messages are read. Offsets without a message, as compaction
    leaves them, are counted; messages without a payload are counted as tombstones and give no row.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        registry: str | Mapping[str, Any] | None = None,
        format: Format | Mapping[str, Any] | None = None,  # noqa: A002
        schema: str | os.PathLike[str] | None = None,
        features: Features | None = None,
        label: str | None = None,
        filter: str | Sequence[str] | None = None,  # noqa: A002
        columns: Sequence[str] = (),
        missing: Missing = "reject",
        on_bad: OnBad = "raise",
        on_gap: OnBad = "raise",
        timeout: float = 30.0,
        progress: bool | None = None,
        kafka: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        """Check the arguments; raises `ConfigError`. Nothing is connected yet."""
        super().__init__(
            features=features,
            label=label,
            filter=filter,
            columns=columns,
            missing=missing,
            on_bad=on_bad,
            progress=progress,
        )
        if on_gap not in ("raise", "skip"):
            raise ConfigError(f"on_gap is {on_gap!r}: choose 'raise' or 'skip'")
        self._bootstrap, self._topic = bootstrap, topic
        self._options = json.dumps(
            {
                "log": {
                    "topic": topic,
                    "on_gap": "error" if on_gap == "raise" else "skip",
                    "connect_timeout": milliseconds("a timeout of", min(timeout, 10)),
                    "stall_timeout": milliseconds("a timeout of", timeout),
                    "kafka": {**(kafka or {}), "bootstrap.servers": bootstrap},
                },
                "format": _format(format, registry, schema),
            }
        )
        LogReader(self._options)

    @property
    def topic(self) -> str:
        """The topic."""
        return self._topic

    def range(
        self,
        *,
        last: int | None = None,
        start: Time | None = None,
        end: Time | None = None,
        offsets: Mapping[int, tuple[int, int]] | None = None,
    ) -> LogRange:
        """Ask which offsets are meant, as of now.

        From the oldest message that is there to the end, or one of

        - `last=n`: the newest n offsets: of each partition the same number, as far as it has so many; what a short one
          lacks, the others give;
        - `start` and `end`: from the first message of each partition that is not older than `start` up to the first
          that is not older than `end`; either may be left out;
        - `offsets={partition: (start, end)}`: these, `end` not included.

        Raises `SourceError` if the topic cannot be asked.
        """
        return LogReader(self._options).range(
            last=last,
            start=_milliseconds("start", start),
            end=_milliseconds("end", end),
            offsets=None if offsets is None else {int(key): (int(a), int(b)) for key, (a, b) in offsets.items()},
        )

    def follow(
        self,
        batch_rows: int = BATCH_ROWS,
        *,
        start: Literal["end", "start"] | LogRange = "end",
        windows: int | None = None,
        max_delay: float = 0.1,
        progress: bool | None = None,
    ) -> Reading:
        """Read on without an end: from now on, from the oldest message on (`start="start"`), or from a range's start.

        Batches come as soon as they are full, or `max_delay` seconds after their first row. Rows are in order within
        each partition; partitions that are added later are read too, if all were asked for. Close it, or break out of
        it.
        """
        if isinstance(start, LogRange):
            wanted = start
        elif start in ("start", "end"):
            wanted = self.range() if start == "start" else self.range(last=0)
        else:
            raise ConfigError(f"start is {start!r}: choose 'end', 'start' or a LogRange")
        rows = self._rows.to_json(batch_rows, windows, max_delay, digest=False)
        return self._reading(LogReader(self._options).read(wanted, rows, follow=True), wanted, progress)

    def _all(self) -> LogRange:
        return self.range()

    def _read(self, range_: LogRange, rows: str) -> LogRead:
        return LogReader(self._options).read(range_, rows)

    def _title(self) -> str:
        return self._topic

    def __repr__(self) -> str:
        """Say what is read; no secret is among it."""
        return f"KafkaLog({self._bootstrap!r}, {self._topic!r}, {len(self.features)} features, label={self.label!r})"


def _format(
    format: Format | Mapping[str, Any] | None,  # noqa: A002
    registry: str | Mapping[str, Any] | None,
    schema: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    options: dict[str, Any] = dict(format) if isinstance(format, Mapping) else {"type": format or "confluent_avro"}
    kind = options.get("type")
    if kind not in ("confluent_avro", "avro", "json", "csv"):
        raise ConfigError(f"there is no format {kind!r}: choose 'confluent_avro', 'avro', 'json' or 'csv'")
    if kind == "confluent_avro":
        if registry is None:
            raise ConfigError("confluent_avro needs the address of a schema registry: registry='http://host:8081'")
        options["registry"] = {"url": registry} if isinstance(registry, str) else dict(registry)
    elif registry is not None:
        raise ConfigError(f"a schema registry is of no use for the format {kind!r}")
    if schema is not None:
        if kind != "avro":
            raise ConfigError(f"a schema is of no use for the format {kind!r}")
        is_json = isinstance(schema, str) and schema.lstrip().startswith(("{", "[", '"'))
        options["schema"] = schema if is_json else _text(schema)
    elif kind == "avro" and not {"schema", "schema_file"} & options.keys():
        raise ConfigError("bare Avro says nothing of its schema: give it as schema='...' or the path of an .avsc file")
    return options


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the schema {os.fspath(path)} cannot be read: {error}") from error


def _milliseconds(name: str, time: Time | None) -> int | None:
    if time is None:
        return None
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ConfigError(f"{name} has no time zone: datetime(..., tzinfo=timezone.utc) is a moment")
        return int(time.timestamp() * 1000)
    if isinstance(time, np.datetime64):
        return int(time.astype("datetime64[ms]").astype(np.int64))
    return int(time)
