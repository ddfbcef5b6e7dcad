"""The cars of the simulator: their sensors, and a CSV file that tells which fault each row has."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import iotml

FEATURES = [
    "coolant_temp",
    "intake_air_temp",
    "intake_air_flow_speed",
    "battery_percentage",
    "battery_voltage",
    "current_draw",
    "speed",
    "engine_vibration_amplitude",
    "throttle_pos",
    "tire_pressure_1_1",
    "tire_pressure_1_2",
    "tire_pressure_2_1",
    "tire_pressure_2_2",
    "accelerometer_1_1_value",
    "accelerometer_1_2_value",
    "accelerometer_2_1_value",
    "accelerometer_2_2_value",
    "control_unit_firmware",
]
LABEL = "failure_occurred"
HEALTHY = f'{LABEL} == "false"'


@dataclass(frozen=True)
class Truth:
    """Rows with known faults: `values` float32 `[n, 18]` in the order of FEATURES, `car` and `fault` text `[n]`."""

    values: npt.NDArray[np.float32]
    car: npt.NDArray[Any]
    fault: npt.NDArray[Any]

    @property
    def kinds(self) -> list[str]:
        """The kinds of fault that occur, sorted."""
        return sorted(str(kind) for kind in np.unique(self.fault) if kind)

    @property
    def is_untouched(self) -> npt.NDArray[np.bool_]:
        """Which rows are of cars that never show a fault, and so are not in a growing one either: `[n]`."""
        ill = np.unique(self.car[self.fault != ""])
        return ~np.isin(self.car, ill)


def read(path: Path) -> Truth:
    """Read a file of `iotml simulate csv`; a missing column or a value that is no number ends the program."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in ("car", *FEATURES, "fault") if name not in (reader.fieldnames or ())]
        if missing:
            raise SystemExit(f"{path}: no column {', '.join(missing)}")
        rows = list(reader)
    try:
        values = np.array([[float(row[name]) for name in FEATURES] for row in rows], np.float32)
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from error
    return Truth(values, np.array([row["car"] for row in rows]), np.array([row["fault"] for row in rows]))


def roc_auc_by_fault(score: npt.NDArray[np.float32], truth: Truth) -> dict[str, float]:
    """ROC AUC of each fault's rows against cars that never fall ill, by kind; rows without a score are left out."""
    found = {}
    for kind in truth.kinds:
        rows = (truth.fault == kind) | truth.is_untouched
        auc = iotml.calibrate(score[rows], truth.fault[rows] == kind).roc_auc
        assert auc is not None
        found[kind] = round(auc, 4)
    return found
