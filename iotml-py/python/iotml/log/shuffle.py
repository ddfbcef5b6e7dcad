"""Rows in another order, drawn from a pool, and batches of one size: whole arrays at a time, never row by row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

#: Arrays with the same number of rows each: features, and what belongs to them.
Arrays = tuple[npt.NDArray[np.float32], ...]


def shuffled(blocks: Iterator[Arrays], pool_rows: int, random: np.random.Generator) -> Iterator[Arrays]:
    """Give all rows in another order, each drawn from a pool of at least `pool_rows` rows.

    As many rows leave the pool, chosen with equal chance, as come in; at the end the rest leaves it in any order. The
    pool is a whole number of blocks, so that what leaves it comes in blocks of the same size.
    """
    pool: Arrays | None = None
    size = n_filled = 0
    for block in blocks:
        n_rows = len(block[0])
        if pool is None:
            size = -(-pool_rows // n_rows) * n_rows
            pool = tuple(np.empty((size, *array.shape[1:]), array.dtype) for array in block)
        n_in = min(size - n_filled, n_rows)
        if n_in:
            for kept, array in zip(pool, block, strict=True):
                kept[n_filled : n_filled + n_in] = array[:n_in]
            n_filled += n_in
        if n_in < n_rows:
            places = random.choice(size, n_rows - n_in, replace=False)
            yield tuple(kept[places] for kept in pool)
            for kept, array in zip(pool, block, strict=True):
                kept[places] = array[n_in:]
    if pool is not None:
        order = random.permutation(n_filled)
        yield tuple(kept[order] for kept in pool)


def rebatched(blocks: Iterator[Arrays], batch_rows: int) -> Iterator[Arrays]:
    """Give batches of `batch_rows` rows, the last one smaller: views, except where a batch spans two blocks."""
    rest: Arrays | None = None
    for block in blocks:
        at = 0
        if rest is not None:
            at = min(batch_rows - len(rest[0]), len(block[0]))
            rest = tuple(np.concatenate([old, new[:at]]) for old, new in zip(rest, block, strict=True))
            if len(rest[0]) < batch_rows:
                continue
            yield rest
            rest = None
        n_rows = len(block[0])
        while at + batch_rows <= n_rows:
            yield tuple(array[at : at + batch_rows] for array in block)
            at += batch_rows
        if at < n_rows:
            rest = tuple(array[at:] for array in block)
    if rest is not None:
        yield rest
