"""A log as an `IterableDataset` of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from iotml._iotml import FileRange, LogRange
from iotml.log.base import Log
from iotml.log.blocks import arrays, drawn
from iotml.log.shuffle import rebatched


class LogDataset(IterableDataset):  # type: ignore[misc]
    """Batches of a log as tensors; the workers of a `DataLoader` share its partitions or files.

    Nothing is opened before it is iterated, in the process that iterates it, so that a worker may be forked or spawned.
    """

    def __init__(
        self,
        log: Log[Any],
        range_: LogRange | FileRange,
        batch_size: int,
        shuffle_buffer: int | None,
        windows: int | None,
        seed: int | None,
        progress: bool | None,
    ) -> None:
        """See `Log.to_torch`."""
        super().__init__()
        self.range = range_
        self._log, self._batch_size, self._windows = log, batch_size, windows
        self._shuffle_buffer, self._seed, self._progress = shuffle_buffer, seed, progress
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch, where there is a seed; without workers it goes up by itself."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        """Read the worker's part of the range."""
        worker = get_worker_info()
        number, n_workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        part = self.range.only(shares(self.range, n_workers)[number])
        # A worker's seed is its own, and another one in every epoch.
        seed = (self._seed, self._epoch, number) if self._seed is not None else (torch.initial_seed(), number)
        self._epoch += 1
        read = arrays(self._log, part, self._batch_size, self._windows, progress=self._progress)
        for batch in rebatched(drawn(read, self._shuffle_buffer, seed), self._batch_size):
            tensors = tuple(torch.from_numpy(array) for array in batch)
            yield tensors[0] if len(tensors) == 1 else tensors


def shares(range_: LogRange | FileRange, n_workers: int) -> list[list[int]]:
    """Split the partitions or files into parts of nearly the same number of rows, one a worker."""
    if isinstance(range_, LogRange):
        sizes = {number: end - start for number, (start, end) in range_.partitions.items()}
    else:
        sizes = {number: end - start for number, (_, start, end, _) in enumerate(range_.files)}
    parts: list[list[int]] = [[] for _ in range(n_workers)]
    loads = [0] * n_workers
    # Largest first, each to whoever has least.
    for number in sorted(sizes, key=lambda number: (-sizes[number], number)):
        least = loads.index(min(loads))
        parts[least].append(number)
        loads[least] += sizes[number]
    return parts
