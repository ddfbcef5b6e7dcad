"""The arrays of a log in large blocks, for the datasets of frameworks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from iotml.log.base import Log
from iotml.log.shuffle import Arrays, shuffled

#: Rows handed over at once: fewer cost a framework more than the rows themselves.
_BLOCK_ROWS = 16_384


def arrays(
    log: Log[Any], range_: Any, batch_size: int, windows: int | None, *, progress: bool | None
) -> Iterator[Arrays]:
    """Give `(x,)`, with a label `(x, y)`, with windows `(x, target)`, in whole numbers of batches."""
    n_batches = max(_BLOCK_ROWS // (batch_size * (windows or 1)), 1)
    with log.batches(batch_size * n_batches, range=range_, windows=windows, digest=False, progress=progress) as reading:
        for batch in reading:
            beside = batch.y if windows is None else batch.target
            yield (batch.x,) if beside is None else (batch.x, beside)


def drawn(blocks: Iterator[Arrays], shuffle_buffer: int | None, seed: Any) -> Iterator[Arrays]:
    """Give the blocks in order, or their rows from a pool of `shuffle_buffer`."""
    if not shuffle_buffer:
        return blocks
    return shuffled(blocks, shuffle_buffer, np.random.default_rng(seed))
