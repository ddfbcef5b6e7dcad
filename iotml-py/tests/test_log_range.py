"""Which offsets a range means, and that it is a value."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timezone

import iotml
import logs
import numpy as np
import pytest
from iotml import LogRange
from log_fixtures import Topic


def test_a_range_is_a_value() -> None:
    one = LogRange("cars", {1: (5, 7), 0: (0, 10)}, "id")
    assert repr(one) == 'LogRange("cars", {0: (0, 10), 1: (5, 7)}, "id")'
    assert (one.topic, one.topic_id, one.partitions) == ("cars", "id", {0: (0, 10), 1: (5, 7)})
    assert one.n_offsets == 12
    document = one.to_dict()
    assert json.loads(json.dumps(document)) == {
        "topic": "cars",
        "topic_id": "id",
        "partitions": {"0": [0, 10], "1": [5, 7]},
    }
    for other in (LogRange.from_dict(document), pickle.loads(pickle.dumps(one)), one.only([0, 1])):
        assert other == one
        assert hash(other) == hash(one)
    assert one.only([1]) == LogRange("cars", {1: (5, 7)}, "id") != one
    assert eval(repr(one)) == one


@pytest.mark.parametrize("partitions", [{0: (5, 4)}, {0: (-1, 4)}])
def test_offsets_in_the_wrong_order_are_refused(partitions: dict[int, tuple[int, int]]) -> None:
    with pytest.raises(iotml.ConfigError, match="start <= end"):
        LogRange("cars", partitions)
    with pytest.raises(iotml.ConfigError, match="no range"):
        LogRange.from_dict({"topic": "cars", "partitions": {0: list(partitions[0])}})
    with pytest.raises(iotml.ConfigError, match="unknown field `files`"):
        LogRange.from_dict({"files": []})


def test_ranges_of_a_topic(topic: Topic) -> None:
    topic.write(logs.pumps(100))
    log = topic.log()
    everything = log.range()
    assert everything.partitions == {0: (0, 34), 1: (0, 33), 2: (0, 33)}
    assert everything.topic == topic.name
    assert log.range(last=7).partitions == {0: (31, 34), 1: (31, 33), 2: (31, 33)}
    assert log.range(last=10**9) == everything
    some = log.range(offsets={1: (4, 9)})
    assert some.partitions == {1: (4, 9)}
    x, _ = log.numpy(range=some)
    assert np.array_equal(x, topic.x("pressure", "flow", "stage")[34 + 4 : 34 + 9])
    x, _ = log.numpy(range=log.range(offsets={0: (3, 3)}))
    assert x.shape == (0, 3)
    # What comes later is no part of it.
    topic.write(logs.pumps(30, seed=1))
    assert len(log.numpy(range=everything)[0]) == 100
    assert log.range().n_offsets == 130


def test_ranges_by_time(real: Topic) -> None:
    real.write(logs.pumps(60))
    log = real.log()
    at = [datetime.fromtimestamp(1_700_000_000 + second, tz=timezone.utc) for second in range(60)]
    assert log.range(start=at[10], end=at[20]).partitions == {0: (4, 7), 1: (3, 7), 2: (4 - 1, 6 + 1 - 1)}
    assert log.range(start=at[59]).n_offsets == 1
    assert log.range(end=at[3]).partitions == {0: (0, 1), 1: (0, 1), 2: (0, 1)}
    assert log.range(start=np.datetime64(1_700_000_059_000, "ms")) == log.range(start=1_700_000_059_000)
    with pytest.raises(iotml.ConfigError, match="time zone"):
        log.range(start=datetime(2026, 1, 1))
    with pytest.raises(iotml.ConfigError, match="lies behind"):
        log.range(start=at[9], end=at[3])
    with pytest.raises(iotml.ConfigError, match="not several"):
        log.range(start=at[9], last=3)


def test_the_topic_of_a_range_is_told_from_one_that_was_created_anew(real: Topic) -> None:
    from confluent_kafka.admin import AdminClient

    real.write(logs.pumps(9))
    log = real.log()
    before = log.range()
    assert before.topic_id
    admin = AdminClient({"bootstrap.servers": real.bootstrap})
    admin.delete_topics([real.name])[real.name].result(timeout=30)
    # It takes a while until the name is free.
    for _ in range(100):
        try:
            logs.create(real.bootstrap, real.name, 3)
            break
        except Exception as error:
            if "TOPIC_ALREADY_EXISTS" not in str(error):
                raise
    real.write(logs.pumps(9))
    with pytest.raises(iotml.SourceError, match="created anew since the range was taken"):
        log.numpy(range=before)


def test_ranges_are_compared_by_what_is_in_them() -> None:
    one, same, other = LogRange("cars", {0: (1, 5)}), LogRange("cars", {0: (1, 5)}), LogRange("cars", {0: (1, 6)})
    assert one == same
    assert one != other
    assert (one == 5, one != 5, one == None) == (False, True, False)  # noqa: E711 - what it answers is the point
    assert len({one, same, other}) == 2
    with pytest.raises(TypeError):
        one < other  # type: ignore[operator] # noqa: B015
