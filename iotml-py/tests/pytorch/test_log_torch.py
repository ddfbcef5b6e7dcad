"""A log as an `IterableDataset` of PyTorch."""

from __future__ import annotations

import logs
import numpy as np
import pytest
from iotml import LogRange
from log_fixtures import Topic

torch = pytest.importorskip("torch")


def read(loader: object) -> tuple[np.ndarray, np.ndarray]:
    batches = [tuple(tensor.numpy() for tensor in batch) for batch in loader]  # type: ignore[attr-defined]
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return x, y


def test_a_loader_without_workers_gives_the_rows_in_order(embedded: Topic) -> None:
    embedded.write(logs.pumps(2500))
    log = embedded.log(label="stage")
    expected, labels = log.numpy()
    dataset = log.to_torch(64)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None)
    sizes = [len(x) for x, _ in loader]
    assert sizes == [64] * 39 + [4]
    x, y = read(loader)
    assert np.array_equal(x, expected)
    assert labels is not None
    assert np.array_equal(y, labels)
    (only,) = [x.shape for x in embedded.log(features=["flow"]).to_torch(10_000)]
    assert only == (2500, 1)


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_share_the_partitions(embedded: Topic, start: str) -> None:
    embedded.write(logs.pumps(3000))
    log = embedded.log(label="stage")
    # A read of this process is no matter to those that are forked off.
    expected, _ = log.numpy()
    loader = torch.utils.data.DataLoader(
        log.to_torch(50), batch_size=None, num_workers=2, multiprocessing_context=start
    )
    for _ in range(2):
        x, y = read(loader)
        assert np.array_equal(np.sort(x[:, 0]), np.sort(expected[:, 0]))
        assert np.array_equal(x[:, 2], y)


def test_partitions_go_to_whoever_has_least() -> None:
    from iotml.log.pytorch import shares

    range_ = LogRange("t", {0: (0, 10), 1: (0, 100), 2: (50, 90), 3: (0, 60)})
    assert shares(range_, 2) == [[1, 0], [3, 2]]
    assert shares(range_, 5) == [[1], [3], [2], [0], []]
    assert shares(range_, 1) == [[1, 3, 2, 0]]


def test_orders_follow_the_seed_and_the_epoch(embedded: Topic) -> None:
    embedded.write(logs.pumps(1000))
    log = embedded.log(label="stage")

    def epochs() -> list[np.ndarray]:
        loader = torch.utils.data.DataLoader(log.to_torch(100, shuffle_buffer=300, seed=5), batch_size=None)
        return [read(loader)[0] for _ in range(2)]

    first, second = epochs()
    assert not np.array_equal(first, second)
    assert np.array_equal(epochs()[1], second)
    assert np.array_equal(np.sort(first[:, 0]), np.sort(log.numpy()[0][:, 0]))


def test_windows_and_the_rows_after_them(embedded: Topic) -> None:
    embedded.write(logs.pumps(500))
    log = embedded.log()
    expected = log.numpy(windows=3)
    found = read(torch.utils.data.DataLoader(log.to_torch(32, windows=3), batch_size=None))
    assert np.array_equal(found[0], expected[0])
    assert expected[1] is not None
    assert np.array_equal(found[1], expected[1])
