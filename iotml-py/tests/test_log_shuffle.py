"""Rows in another order, and batches of one size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from iotml.log.shuffle import Arrays, rebatched, shuffled


def blocks(sizes: list[int]) -> Iterator[Arrays]:
    at = 0
    for size in sizes:
        numbers = np.arange(at, at + size, dtype=np.float32)
        yield np.stack([numbers, -numbers], axis=1), numbers * 10
        at += size


@pytest.mark.parametrize(
    ("sizes", "pool"), [([10] * 20, 35), ([10] * 20, 1), ([10, 10, 3], 500), ([7], 7), ([], 10), ([10] * 9 + [4], 20)]
)
def test_shuffled_rows_are_the_same_rows_and_stay_together(sizes: list[int], pool: int) -> None:
    found = list(shuffled(blocks(sizes), pool, np.random.default_rng(3)))
    n_rows = sum(sizes)
    if not n_rows:
        assert found == []
        return
    x = np.concatenate([block[0] for block in found])
    y = np.concatenate([block[1] for block in found])
    assert sorted(x[:, 0].tolist()) == list(range(n_rows))
    assert np.array_equal(y, x[:, 0] * 10)
    assert np.array_equal(x[:, 1], -x[:, 0])
    again = np.concatenate([block[1] for block in shuffled(blocks(sizes), pool, np.random.default_rng(3))])
    assert np.array_equal(again, y)


def test_a_large_pool_mixes_well() -> None:
    found = [block[1] for block in shuffled(blocks([100] * 100), 10_000, np.random.default_rng(0))]
    order = np.concatenate(found) / 10
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05


@pytest.mark.parametrize("sizes", [[10, 10, 10], [3, 3, 3, 3, 1], [25], [8, 8, 8, 2], [1], []])
def test_batches_have_one_size_and_keep_the_order(sizes: list[int]) -> None:
    found = list(rebatched(blocks(sizes), 4))
    n_rows = sum(sizes)
    assert [len(batch[0]) for batch in found] == [4] * (n_rows // 4) + ([n_rows % 4] if n_rows % 4 else [])
    if found:
        assert np.array_equal(np.concatenate([batch[1] for batch in found]), np.arange(n_rows) * 10)


def test_whole_batches_are_views() -> None:
    block = next(blocks([8]))
    assert all(np.shares_memory(batch[0], block[0]) for batch in rebatched(iter([block]), 4))
