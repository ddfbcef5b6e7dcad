"""What is announced of models, and what workers made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from iotml.times import utc


@dataclass(frozen=True)
class Rollout:
    """Which rows a version scores.

    - `"full"`: all that no canary takes;
    - `"canary"`: those of `percent` of the keys, above 0 and at most 100; a larger share holds all keys of a smaller one;
    - `"weighted"`: a part of the rest, in proportion to the `weight`s, which are above 0;
    - `"shadow"`: all as well, for shadow routes and for nobody else.
    """

    kind: Literal["full", "canary", "weighted", "shadow"] = "full"
    percent: float | None = None
    weight: float | None = None

    def to_json(self) -> str:
        """Give the form that stands in announcements."""
        numbers = {"percent": self.percent, "weight": self.weight}
        return json.dumps({"kind": self.kind} | {name: value for name, value in numbers.items() if value is not None})

    def __str__(self) -> str:
        """Say it in words."""
        match self.kind:
            case "full":
                return "all rows"
            case "canary":
                return f"{self.percent:g} % of the keys"
            case "weighted":
                return f"weight {self.weight:g}"
            case "shadow":
                return "shadow"


@dataclass(frozen=True)
class AnnouncedVersion:
    """A version that is announced.

    Its ONNX file is at `uri`, or came along and has `inline_bytes`; `sha256` is the digest that it must have. `state` is
    `"READY"`, or `"UNAVAILABLE"` for one that was retired, such as the way back.
    """

    version: str
    uri: str | None
    inline_bytes: int | None
    sha256: str
    state: Literal["READY", "UNAVAILABLE"]
    rollout: Rollout

    @property
    def is_ready(self) -> bool:
        """Whether it scores."""
        return self.state == "READY"


@dataclass(frozen=True)
class ModelSet:
    """All that is in force of one model. What cannot be read has no versions, and `trouble` says why."""

    model: str
    versions: tuple[AnnouncedVersion, ...] = ()
    trouble: str | None = None

    def __getitem__(self, version: str) -> AnnouncedVersion:
        """Give a version by its name; raises `KeyError` naming those that are there."""
        for announced in self.versions:
            if announced.version == version:
                return announced
        known = ", ".join(announced.version for announced in self.versions) or "none"
        raise KeyError(f"no version {version!r} of {self.model!r} is announced; there are {known}")

    def __str__(self) -> str:
        """One line a version."""
        lines = [f"announced of {self.model}:", *([f"  {self.trouble}"] if self.trouble else [])]
        for announced in self.versions:
            rows = str(announced.rollout) if announced.is_ready else "retired"
            place = announced.uri or f"inline, {announced.inline_bytes} bytes"
            lines.append(f"  {announced.version}  {rows}  {place}")
        return "\n".join(lines if len(lines) > 1 else [*lines, "  nothing"])

    @classmethod
    def from_json(cls, text: str) -> ModelSet:
        """Read what the native module gives."""
        document = json.loads(text)
        versions = tuple(
            AnnouncedVersion(**{**version, "rollout": Rollout(**version["rollout"])}) for version in document["versions"]
        )
        return cls(document["model"], versions)


@dataclass(frozen=True)
class ModelStatus:
    """What a worker said of a version.

    `state` is `"LOADING"`, `"READY"` (from the task's next batch on), `"UNAVAILABLE"` with its `cause`, or
    `"UNLOADING"`. `task` is None where it is said of all tasks; `time` is in UTC.
    """

    model: str
    version: str
    state: Literal["LOADING", "READY", "UNAVAILABLE", "UNLOADING"]
    cause: str | None
    pipeline: str
    instance: str
    task: int | None
    time: datetime

    @classmethod
    def from_json(cls, text: str) -> ModelStatus:
        """Read a report."""
        report: Mapping[str, Any] = {"cause": None, "task": None, **json.loads(text)}
        return cls(**{**report, "time": utc(report["time"])})
