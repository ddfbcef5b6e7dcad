"""What the tests of the export share: rows, and a manifest for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from iotml.manifest import Feature, Kind, Manifest, RangeScale, StandardScale

FEATURES = (
    Feature("speed", RangeScale(0.0, 50.0)),
    Feature("voltage", StandardScale(230.0, 15.0)),
    Feature("throttle"),
    Feature("coolant", RangeScale(-20.0, 120.0)),
)


def rows(n: int = 200) -> npt.NDArray[np.float32]:
    """Raw rows `[n, 4]` within the features' ranges."""
    unit = np.random.default_rng(3).uniform(size=(n, 4))
    return (unit * [50, 60, 1, 140] + [0, 200, 0, -20]).astype(np.float32)


def manifest(kind: Kind = "reconstruction", **fields: Any) -> Manifest:
    """The least that an export needs."""
    return Manifest(kind, "cars", FEATURES, **fields)
