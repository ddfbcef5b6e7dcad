"""Dividing rows by device, never within one: a device's rows are too alike to test on what was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ConfigError


def split_by_key(
    keys: Sequence[object] | npt.NDArray[Any], share: float, *, seed: int = 1
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Divide rows by key into two masks `[n]`, the first with about the share (0 to 1) of the keys.

    Raises `ConfigError` if one of them would get no key.

    >>> first, second = split_by_key(["a", "a", "b", "c", "b"], 0.7)
    >>> bool(np.any(first & second)), bool(np.all(first | second))
    (False, True)
    """
    distinct, numbers = np.unique(np.asarray(keys), return_inverse=True)
    n_first = round(share * len(distinct))
    if not 0 < n_first < len(distinct):
        raise ConfigError(f"{len(distinct)} keys cannot be split so that {share:g} of them are on one side; each needs one")
    chosen = np.zeros(len(distinct), dtype=np.bool_)
    chosen[np.random.default_rng(seed).permutation(len(distinct))[:n_first]] = True
    first: npt.NDArray[np.bool_] = chosen[numbers]
    return first, ~first
