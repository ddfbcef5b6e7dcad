"""What workers say when rows are no longer like those that a model was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from iotml._iotml import LogRange
from iotml.times import utc


@dataclass(frozen=True)
class FeatureDrift:
    """How far a feature is from its training rows.

    `psi` is the population stability index, from 0 without a bound; `ks` the Kolmogorov-Smirnov distance, 0 to 1;
    `missing` the share of rows without a value.
    """

    name: str
    psi: float
    ks: float
    missing: float


@dataclass(frozen=True)
class AnomalyRate:
    """Anomalies per row: as `found`, and as `expected` by the manifest."""

    found: float
    expected: float


@dataclass(frozen=True)
class ModelDrift:
    """A worker's report that the rows of a version have been unlike its training rows for some windows in a row.

    `rows` were looked at in `windows` windows, with event times from `begun` until `ended` and at the offsets `log`;
    both may be unknown. `features` are those above a limit in the last window, the farthest first; `anomaly_rate` is
    there if it was beyond its own. Times are in UTC.
    """

    model: str
    version: str
    pipeline: str
    instance: str
    time: datetime
    windows: int
    rows: int
    begun: datetime | None
    ended: datetime | None
    log: tuple[LogRange, ...]
    features: tuple[FeatureDrift, ...]
    anomaly_rate: AnomalyRate | None

    @classmethod
    def from_json(cls, text: str) -> ModelDrift:
        """Read a report."""
        report: Mapping[str, Any] = json.loads(text)
        rate = report.get("anomaly_rate")
        return cls(
            **{name: report[name] for name in ("model", "version", "pipeline", "instance", "windows", "rows")},
            time=utc(report["time"]),
            begun=None if "from" not in report else utc(report["from"]),
            ended=None if "until" not in report else utc(report["until"]),
            log=tuple(map(LogRange.from_dict, report.get("log", ()))),
            features=tuple(FeatureDrift(**feature) for feature in report["features"]),
            anomaly_rate=None if rate is None else AnomalyRate(**rate),
        )
