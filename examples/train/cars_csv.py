"""Readings of cars from the simulator's CSV: `time,car`, the eighteen sensors, `failure_occurred,fault`."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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


@dataclass(frozen=True)
class Readings:
    """Rows of many cars: `values` is float32 `[n, 18]` in the order of FEATURES, `car` and `fault` are text `[n]`."""

    values: np.ndarray
    car: np.ndarray
    fault: np.ndarray

    @property
    def n_cars(self) -> int:
        """How many cars the rows come from."""
        return len(np.unique(self.car))

    @property
    def kinds(self) -> list[str]:
        """The fault kinds that occur, sorted."""
        return sorted(str(kind) for kind in np.unique(self.fault) if kind)

    @property
    def is_untouched(self) -> np.ndarray:
        """Which rows are of cars that never show a fault, and so are in no fault's ramp either: bool `[n]`."""
        return ~np.isin(self.car, np.unique(self.car[self.fault != ""]))

    def healthy(self) -> Readings:
        """Keep the rows of cars that never show a fault."""
        return self._where(self.is_untouched)

    def split_by_car(self, share: float, seed: int) -> tuple[Readings, Readings]:
        """Two disjoint sets of cars, the first with this share of them."""
        cars = np.random.default_rng(seed).permutation(np.unique(self.car))
        chosen = np.isin(self.car, cars[: int(len(cars) * share)])
        return self._where(chosen), self._where(~chosen)

    def _where(self, rows: np.ndarray) -> Readings:
        return Readings(self.values[rows], self.car[rows], self.fault[rows])


def load(path: Path) -> Readings:
    """Read a CSV of the simulator; a missing column or a value that is no number ends the program with its place."""
    with path.open(newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        missing = [name for name in ["car", *FEATURES, "fault"] if name not in header]
        if missing:
            raise SystemExit(f"{path}: no column {', '.join(missing)}")
        at = [header.index(name) for name in FEATURES]
        car_at, fault_at = header.index("car"), header.index("fault")
        values, car, fault = [], [], []
        for row in reader:
            try:
                values.append([float(row[column]) for column in at])
            except (ValueError, IndexError) as error:
                raise SystemExit(f"{path}, line {reader.line_num}: {error}") from error
            car.append(row[car_at])
            fault.append(row[fault_at])
    if not values:
        raise SystemExit(f"{path}: no rows")
    return Readings(np.array(values, dtype=np.float32), np.array(car), np.array(fault))


def digest(path: Path) -> str:
    """SHA-256 of the file, as the manifest writes it."""
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
