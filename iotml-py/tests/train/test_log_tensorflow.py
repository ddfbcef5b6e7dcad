"""A log as a `tf.data.Dataset`."""

from __future__ import annotations

import logs
import numpy as np
import pytest
from log_fixtures import Topic

tf = pytest.importorskip("tensorflow")

NAMES = ("pressure", "flow", "stage")


def test_batches_of_one_size_in_order_in_every_epoch(topic: Topic) -> None:
    topic.write(logs.pumps(2500))
    log = topic.log()
    dataset = log.to_tf(64)
    topic.write(logs.pumps(10, seed=4))
    assert dataset.element_spec.shape.as_list() == [None, 3]
    expected = topic.x(*NAMES)
    # What came after it was made is no part of it.
    expected = np.concatenate([expected[:834], expected[838 : 838 + 833], expected[838 + 836 : 838 + 836 + 833]])
    for _ in range(2):
        batches = list(dataset.as_numpy_iterator())
        assert [len(batch) for batch in batches] == [64] * 39 + [4]
        assert np.array_equal(np.concatenate(batches), expected)


def test_labels_and_windows_come_beside(embedded: Topic) -> None:
    embedded.write(logs.pumps(2000))
    log = embedded.log(label="failure_occurred")
    x, y = log.numpy()
    pairs = list(log.to_tf(100).as_numpy_iterator())
    assert np.array_equal(np.concatenate([pair[0] for pair in pairs]), x)
    assert y is not None
    assert np.array_equal(np.concatenate([pair[1] for pair in pairs]), y)
    x, target = log.numpy(windows=4)
    dataset = log.to_tf(30, windows=4)
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [[None, 4, 3], [None, 3]]
    pairs = list(dataset.as_numpy_iterator())
    assert {len(pair[0]) for pair in pairs[:-1]} == {30}
    assert np.array_equal(np.concatenate([pair[0] for pair in pairs]), x)
    assert target is not None
    assert np.array_equal(np.concatenate([pair[1] for pair in pairs]), target)


def test_shuffled_epochs_hold_the_same_rows_in_other_orders(embedded: Topic) -> None:
    embedded.write(logs.pumps(3000))
    log = embedded.log(label="stage")

    def epochs(seed: int | None) -> list[tuple[np.ndarray, ...]]:
        dataset = log.to_tf(100, shuffle_buffer=500, seed=seed)
        found = []
        for _ in range(2):
            batches = list(dataset.as_numpy_iterator())
            assert {len(batch[0]) for batch in batches} == {100}
            found.append(tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))
        return found

    x, _ = log.numpy()
    first, second = epochs(7)
    for shuffled_x, shuffled_y in (first, second):
        assert np.array_equal(np.sort(shuffled_x[:, 0]), np.sort(x[:, 0]))
        assert np.array_equal(shuffled_x[:, 2], shuffled_y)
        assert not np.array_equal(shuffled_x, x)
    assert not np.array_equal(first[0], second[0])
    assert np.array_equal(epochs(7)[1][0], second[0])
    assert not np.array_equal(epochs(None)[0][0], first[0])


def test_keras_fits_on_a_log_and_an_early_break_leaves_nothing_behind(embedded: Topic) -> None:
    embedded.write(logs.pumps(2000))
    dataset = embedded.log().to_tf(100).map(lambda x: (x, x))
    model = tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(3)])
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(dataset, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    for _ in dataset.take(1):
        pass


def test_an_error_of_the_read_reaches_the_training(embedded: Topic) -> None:
    embedded.write(logs.pumps(100))
    embedded.add([logs.Message(b"junk", 2)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="partition 2 offset 33: wrong_magic_byte"):
        for _ in embedded.log().to_tf(10):
            pass
