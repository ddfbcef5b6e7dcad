"""Windows of consecutive rows, as a `next_event` model reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ConfigError

FloatArray = npt.NDArray[np.float32]


def windows(
    rows: FloatArray, look_back: int, keys: Sequence[object] | npt.NDArray[np.generic] | None = None
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
    """Every full window of `look_back` rows of one key, with the row that came after it.

    `rows` is `[n, n_features]` in the order of arrival, `keys` one key a row (`None`: all rows are of one). Gives
    `x [m, look_back, n_features]`, `y [m, n_features]` and `at [m]`, the place in `rows` of each `y`, in rising order.

    >>> x, y, at = windows(np.arange(6, dtype=np.float32).reshape(6, 1), 2, keys=["a", "b", "a", "a", "b", "a"])
    >>> x[:, :, 0].tolist(), y[:, 0].tolist(), at.tolist()
    ([[0.0, 2.0], [2.0, 3.0]], [3.0, 5.0], [3, 5])
    """
    if look_back < 1:
        raise ConfigError(f"look_back is {look_back}, but a window has at least one row")
    if keys is not None and len(keys) != len(rows):
        raise ConfigError(f"there are {len(keys)} keys for {len(rows)} rows")
    numbers = np.zeros(len(rows), np.intp) if keys is None else np.unique(np.asarray(keys), return_inverse=True)[1]
    # Rows of one key side by side, in the order of arrival.
    order = np.argsort(numbers, kind="stable")
    sorted_keys = numbers[order]
    ends = np.arange(look_back, len(rows))
    ends = ends[sorted_keys[ends] == sorted_keys[ends - look_back]]
    at = order[ends]
    rising = np.argsort(at, kind="stable")
    at, ends = at[rising], ends[rising]
    places = order[ends[:, None] + np.arange(-look_back, 0)]
    return rows[places], rows[at], at


def persistence_loss(x: FloatArray, y: FloatArray) -> float:
    """Give the mean squared error of the forecast that nothing changes: what a network has to beat.

    `x` is `[m, look_back, n_features]`, `y` `[m, n_features]`, scaled as the network sees them.
    """
    return float(np.mean((x[:, -1] - y) ** 2, dtype=np.float64))
