"""Windows of one key's rows."""

from __future__ import annotations

import numpy as np
import pytest
from iotml import ConfigError
from iotml.train import persistence_loss, windows


@pytest.mark.parametrize("look_back", [1, 2, 7])
def test_windows_are_those_of_a_plain_loop(look_back: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 3)).astype(np.float32)
    keys = rng.choice(["a", "b", "c", "rare"], size=300, p=[0.5, 0.3, 0.18, 0.02])
    expected = []
    seen: dict[str, list[int]] = {}
    for at, key in enumerate(keys):
        before = seen.setdefault(str(key), [])
        if len(before) >= look_back:
            expected.append((before[-look_back:], at))
        before.append(at)
    x, y, at_rows = windows(rows, look_back, keys)
    assert at_rows.tolist() == [at for _, at in expected]
    np.testing.assert_array_equal(x, [rows[before] for before, _ in expected])
    np.testing.assert_array_equal(y, rows[at_rows])


def test_no_key_has_enough_rows() -> None:
    x, y, at = windows(np.zeros((3, 2), np.float32), 2, ["a", "b", "c"])
    assert (x.shape, y.shape, at.shape) == ((0, 2, 2), (0, 2), (0,))
    assert windows(np.zeros((1, 2), np.float32), 5)[0].shape == (0, 5, 2)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="look_back is 0"):
        windows(np.zeros((3, 2), np.float32), 0)
    with pytest.raises(ConfigError, match="2 keys for 3 rows"):
        windows(np.zeros((3, 2), np.float32), 1, ["a", "b"])


def test_persistence_is_the_last_row_again() -> None:
    x, y, _ = windows(np.array([[0.0], [1.0], [3.0]], np.float32), 1)
    assert persistence_loss(x, y) == 2.5
