"""Files of rows as a log, for work without a broker."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from iotml._iotml import FileRange, FileReader, LogRead
from iotml.exceptions import ConfigError
from iotml.log.base import Log
from iotml.log.rows import Features, Missing, OnBad


class FileLog(Log[FileRange]):
    """Parquet files and Avro container files, read as a topic is: file by file, each in the order of its rows.

    - `paths`: a file or several; what each is, its first bytes say;
    - `key`: the column that says which rows belong together, for windows;
    - everything else as for `iotml.KafkaLog`. The number of the file takes the place of the partition, the number of
      the row in it that of the offset.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        key: str | None = None,
        features: Features | None = None,
        label: str | None = None,
        filter: str | Sequence[str] | None = None,  # noqa: A002
        columns: Sequence[str] = (),
        missing: Missing = "reject",
        on_bad: OnBad = "raise",
        progress: bool | None = None,
    ) -> None:
        """Check the arguments; raises `ConfigError`. No file is opened yet."""
        super().__init__(
            features=features,
            label=label,
            filter=filter,
            columns=columns,
            missing=missing,
            on_bad=on_bad,
            progress=progress,
        )
        several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not several:
            raise ConfigError("no file is named")
        self._paths = [os.fspath(path) for path in several]
        self._options = json.dumps({"paths": self._paths, "key": key})

    def range(self, *, last: int | None = None, offsets: Mapping[int, tuple[int, int]] | None = None) -> FileRange:
        """Ask which rows are meant: all, or the `last` so many, or `offsets={file: (start, end)}`, `end` not included.

        Raises `SourceError` if a file cannot be read.
        """
        if last is not None and offsets is not None:
            raise ConfigError("give last or offsets, not both")
        rows = None if offsets is None else {int(key): (int(a), int(b)) for key, (a, b) in offsets.items()}
        return FileReader(self._options).range(last=last, offsets=rows)

    def _all(self) -> FileRange:
        return self.range()

    def _read(self, range_: FileRange, rows: str) -> LogRead:
        return FileReader(self._options).read(range_, rows)

    def _title(self) -> str:
        first = os.path.basename(self._paths[0])
        return first if len(self._paths) == 1 else f"{first} and {len(self._paths) - 1} more"

    def __repr__(self) -> str:
        """Say what is read."""
        return f"FileLog({self._paths!r}, {len(self.features)} features, label={self.label!r})"
