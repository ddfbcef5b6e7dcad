"""What a pipeline says of itself, and what it keeps to itself."""

from __future__ import annotations

import sys
import urllib.request
from types import ModuleType
from typing import Any, ClassVar

import iotml
import pytest
import topics
from streams import SPEEDS, Kept, free_port, kafka_builder, mqtt_builder, publish, settle


def test_inv_10_secrets_are_in_no_text(unique: str) -> None:
    secret = "hunter2-" + unique
    pipeline = (
        iotml.Pipeline.builder(unique)
        .source(
            "kafka",
            topics=["t"],
            connect_timeout="300ms",
            kafka={"bootstrap.servers": f"127.0.0.1:{free_port()}", "sasl.password": secret, "sasl.mechanism": "PLAIN"},
        )
        .route("r", sink="stdout")
        .build()
    )
    with pytest.raises(iotml.PipelineError) as raised:
        pipeline.start()
    texts = [pipeline.config, pipeline.graph(), repr(pipeline), pipeline.stats().detail, pipeline.metrics()]
    error: BaseException | None = raised.value
    while error is not None:
        texts.append(repr(error))
        error = error.__cause__
    assert not [text for text in texts if secret in text]


def test_what_a_pipeline_says_of_itself(broker: str, unique: str) -> None:
    builder = mqtt_builder(broker, unique, errors_tolerance="all").route("r", sink="stdout").http("127.0.0.1:0")
    pipeline = builder.build()
    assert pipeline.name == unique
    (warning,) = pipeline.warnings
    assert warning.startswith('line 2: pipeline."errors.tolerance": rows that fail for good are skipped')
    assert pipeline.graph().startswith(f"{unique} (1 task)\n  source      mqtt")
    assert pipeline.graph("mermaid").startswith("flowchart LR\n")
    with pytest.raises(ValueError, match='"text" and "mermaid"'):
        pipeline.graph("dot")
    assert pipeline.http is None
    with pipeline:
        publish(broker, f"{unique}/data/a", SPEEDS)
        settle(pipeline, len(SPEEDS))
        with urllib.request.urlopen(f"http://{pipeline.http}/metrics") as answer:
            assert "iotml_pipeline_received_rows_total" in answer.read().decode()
        with urllib.request.urlopen(f"http://{pipeline.http}/readyz") as answer:
            assert answer.status == 200


def test_watching_shows_the_balance(kafka: str, unique: str, capfd: pytest.CaptureFixture[str]) -> None:
    plugins = iotml.Plugins()
    Kept(plugins)
    topics.fill(kafka, unique, SPEEDS)
    with kafka_builder(kafka, unique, plugins).route("r", sink="keep").build() as pipeline:
        pipeline.watch(0.1)
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"{unique}: stopped, 20 received")
    assert "20 delivered" in last
    assert "0 in flight" in last


def test_watching_in_a_notebook_writes_one_table_over(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Shell:
        config: ClassVar[dict[str, Any]] = {"IPKernelApp": {}}

    class Handle:
        update = staticmethod(shown.append)

    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    monkeypatch.setattr(ipython, "get_ipython", Shell, raising=False)
    monkeypatch.setattr(display, "HTML", str, raising=False)
    monkeypatch.setattr(display, "display", lambda html, display_id: Handle(), raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    pipeline = mqtt_builder(broker, "a<b").route("r", sink="stdout").build()
    pipeline.start().stop(wait=False)
    pipeline.watch(0.05)
    assert "<caption>a&lt;b</caption>" in shown[-1]
    assert "<th>state</th><td>stopped</td>" in shown[-1]
