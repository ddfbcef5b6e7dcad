"""A log as a `tf.data.Dataset`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from iotml.log.base import Log
from iotml.log.blocks import arrays, drawn
from iotml.train.optional import needed


def dataset(
    log: Log[Any],
    range_: Any,
    batch_size: int,
    shuffle_buffer: int | None,
    windows: int | None,
    seed: int | None,
    progress: bool | None,
) -> Any:
    """See `Log.to_tf`. Blocks go over whole, and TensorFlow cuts them into batches."""
    tf = needed("tensorflow", purpose="to_tf", install="iotml[tensorflow]")
    width = len(log.features)
    x = tf.TensorSpec((None, width) if windows is None else (None, windows, width), tf.float32)
    if windows is not None:
        element: Any = (x, tf.TensorSpec((None, width), tf.float32))
    elif log.label is not None:
        element = (x, tf.TensorSpec((None,), tf.float32))
    else:
        element = x
    epochs = itertools.count()

    def blocks() -> Iterator[Any]:
        # Another order in every epoch, and the same ones for the same seed.
        epoch_seed = None if seed is None else (seed, next(epochs))
        read = arrays(log, range_, batch_size, windows, progress=progress)
        for block in drawn(read, shuffle_buffer, epoch_seed):
            yield block[0] if len(block) == 1 else block

    return tf.data.Dataset.from_generator(blocks, output_signature=element).rebatch(batch_size).prefetch(2)
