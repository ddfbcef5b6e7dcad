"""Documents of pipelines: read, built, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import iotml
import numpy as np
import pytest

WRONG = """
[pipeline]
name = "p"
"tasks.maxx" = 2

[source]
type = "kafkaa"

[[route]]
name = "r"
when = "score >"
sink = { type = "stdout", pretty = true }
"""


def test_every_mistake_of_a_document_is_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(iotml.ConfigError) as raised:
        iotml.Pipeline.from_toml(text=WRONG)
    assert isinstance(raised.value, ValueError)
    places = [mistake.split(": ")[:2] for mistake in raised.value.mistakes]
    assert places == [
        ["line 4", 'pipeline."tasks.maxx"'],
        ["line 7", "source.type"],
        ["line 11", "route[0].when"],
        ["line 12", "route[0].sink.pretty"],
    ]
    text = str(raised.value)
    assert text.startswith("pipeline.toml has 4 mistakes:\n")
    assert all(line in text for line in raised.value.mistakes)
    file = tmp_path / "cars.toml"
    file.write_text(WRONG)
    with pytest.raises(iotml.ConfigError, match=r"cars\.toml has 4 mistakes"):
        iotml.Pipeline.from_toml(file)


def test_documents_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(iotml.ConfigError, match=r"absent\.toml: cannot be read"):
        iotml.Pipeline.from_toml(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(iotml.ConfigError, match=r"latin\.toml: cannot be read"):
        iotml.Pipeline.from_toml(str(tmp_path / "latin.toml"))
    neither_nor_both: list[dict[str, Any]] = [{}, {"path": "a", "text": "b"}]
    for arguments in neither_nor_both:
        with pytest.raises(iotml.ConfigError, match="either the path of a file or a text"):
            iotml.Pipeline.from_toml(**arguments)
    with pytest.raises(iotml.ConfigError, match="line 1: not valid TOML"):
        iotml.Pipeline.from_toml(text="[pipeline")


def test_a_builder_only_writes_the_document() -> None:
    builder = (
        iotml.Pipeline.builder("p", tasks_max=2, errors_tolerance="all", errors_retry_delay_max="1s", instance="a b")
        .source("mqtt", server="mqtt://127.0.0.1:1", topics=[{"filter": "cars/#", "qos": np.int64(1)}], group=None)
        .decode("json")
        .preprocess("select", columns=("speed",))
        .preprocess("clamp", name="again", columns={"speed": {"min": 0, "max": 8.5}})
        .score("threshold", column="speed", threshold={"value": 3})
        .route("all", sink="stdout", encode={"type": "json", "columns": ["score"]})
        .route("alerts", when="anomaly", required=False, sink={"type": "stdout"})
        .dead_letter("stdout")
        .state(Path("/tmp/state"), interval="5s")
        .http("127.0.0.1:0")
        .log("warn", format="json")
    )
    text = builder.toml()
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        "[pipeline]",
        "[source]",
        "[[source.topics]]",
        "[decode]",
        "[[preprocess]]",
        "[[preprocess]]",
        "[preprocess.columns.speed]",
        "[score]",
        "[score.threshold]",
        "[[route]]",
        "[route.encode]",
        "[route.sink]",
        "[[route]]",
        "[route.sink]",
        "[dead_letter]",
        "[state]",
        "[http]",
        "[log]",
    ]
    assert '"tasks.max" = 2' in text
    assert '"errors.retry.delay.max" = "1s"' in text
    assert "group" not in text
    pipeline, parsed = builder.build(), iotml.Pipeline.from_toml(text=text)
    assert json.loads(pipeline.config) == json.loads(parsed.config)
    assert json.loads(parsed.config)["preprocess"][1]["columns"] == {"speed": {"min": 0, "max": 8.5}}
    assert repr(builder).startswith("PipelineBuilder('p': pipeline, source, ")


def test_what_a_builder_refuses() -> None:
    builder = iotml.Pipeline.builder("p").source("mqtt", server="x")
    with pytest.raises(iotml.ConfigError, match=r"\[source\] is given twice"):
        builder.source("kafka")
    for value, message in [(float("nan"), "cannot be written as TOML"), (object(), "has no place in a document")]:
        with pytest.raises(iotml.ConfigError, match=message):
            iotml.Pipeline.builder("p").source("mqtt", server=value).toml()
    with pytest.raises(iotml.ConfigError) as raised:
        builder.build()
    assert any(mistake.endswith("route: is missing") for mistake in raised.value.mistakes)


def test_texts_of_any_kind_survive_the_builder(unique: str) -> None:
    name = "a\"b\\c\n\té\u2028\U0001f697\x7f'''"
    pipeline = iotml.Pipeline.builder(name).source("mqtt", server="mqtt://h", topics=[{"filter": "t"}])
    built = pipeline.route("r", sink="stdout").build()
    assert built.name == name
