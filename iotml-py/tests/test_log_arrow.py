"""A log as Arrow: whatever reads the PyCapsule interface reads it."""

from __future__ import annotations

import iotml
import logs
import numpy as np
import pytest
from log_fixtures import Topic

pa = pytest.importorskip("pyarrow")


def test_a_batch_is_read_by_pyarrow_polars_and_pandas(topic: Topic) -> None:
    import pandas as pd
    import polars as pl

    topic.write(logs.pumps(900))
    log = topic.log(label="failure_occurred", filter="stage >= 0", columns=["motor.temp"])
    kept = [record for record in topic.rows() if record["stage"] >= 0]
    batches = list(log.batches(250))
    tables = [pa.record_batch(batch) for batch in batches]
    names = ["pressure", "flow", "stage", "failure_occurred", "motor.temp", "_key", "_partition", "_offset", "_time"]
    assert all(table.schema.names == names for table in tables)
    table = pa.Table.from_batches(tables)
    assert table.column("pressure").to_pylist() == [record["pressure"] for record in kept]
    assert table.column("motor.temp").to_pylist() == [record["motor"]["temp"] for record in kept]
    assert table.column("failure_occurred").to_pylist() == [record["failure_occurred"] for record in kept]
    for name, of in (("_key", "keys"), ("_partition", "partitions"), ("_offset", "offsets")):
        assert table.column(name).to_pylist() == [one for batch in batches for one in list(getattr(batch, of))], name
    assert batches[0].to_arrow().equals(tables[0])
    assert pl.DataFrame(batches[0])["flow"].to_list() == tables[0].column("flow").to_pylist()
    assert pd.DataFrame.from_arrow(batches[0])["stage"].tolist() == tables[0].column("stage").to_pylist()


def test_a_whole_log_is_read_as_a_stream(topic: Topic) -> None:
    import polars as pl

    topic.write(logs.pumps(5000))
    log = topic.log(features=["flow"])
    table = pa.table(log.to_arrow(batch_rows=1000))
    assert table.column("flow").to_pylist() == [record["flow"] for record in topic.rows()]
    assert log.last_read is not None
    assert (log.last_read.stats.rows, log.last_read.stats.complete) == (5000, True)
    frame = pl.DataFrame(log.to_arrow(range=log.range(last=30)))
    assert frame.shape == (30, 5)
    stream = log.to_arrow()
    pa.table(stream)
    with pytest.raises(iotml.SourceError, match="read already"):
        pa.table(stream)
    empty = pa.table(log.to_arrow(range=log.range(last=0)))
    assert empty.num_rows == 0


def test_without_features_all_columns_come(embedded: Topic) -> None:
    embedded.write(logs.pumps(30), logs.V1)
    embedded.write(logs.pumps(30, seed=1), logs.V2)
    log = embedded.log(features=None)
    batch = next(log.batches(100))
    assert batch.x.shape == (len(batch), 0)
    assert batch.y is None
    table = pa.record_batch(batch)
    # Those of the first schema, then those that only later ones have: null where they were not.
    assert table.schema.names[:3] == ["pressure", "flow", "stage"]
    notes = [record.get("note") for record in embedded.rows()]
    expected = [None if at % 20 < 10 else note for at, note in enumerate(notes)]
    assert table.column("note").to_pylist() == expected
    everything = embedded.log(features=None, label="stage", filter="stage > 0")
    labels = np.concatenate([part.y for part in everything.batches(7)])
    assert labels.tolist() == [record["stage"] for record in embedded.rows() if record["stage"] > 0]


def test_an_error_in_the_middle_of_a_stream_reaches_its_reader(embedded: Topic) -> None:
    embedded.write(logs.pumps(9000), logs.V1)
    embedded.add([logs.Message(b"junk", 2)])
    with pytest.raises(Exception, match="partition 2 offset 3000: wrong_magic_byte"):
        pa.table(embedded.log().to_arrow(batch_rows=1000))
    with pytest.raises(iotml.SourceError, match="does not exist"):
        pa.table(
            iotml.KafkaLog(embedded.bootstrap, "not-there", format="json").to_arrow(
                range=iotml.LogRange("not-there", {})
            )
        )
