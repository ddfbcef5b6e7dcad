"""`iotml model` as a process of its own, on a store in a folder and announcements on a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import iotml
from conftest import server
from stores import model
from test_cli import cli
from test_model_topic import pipeline


def test_a_version_is_published_listed_described_rolled_out_and_retired(tmp_path: Path, unique: str) -> None:
    feed = {"type": "kafka", "topic": f"{unique}-models", "status_topic": f"{unique}-status"}
    feed["kafka"] = {"bootstrap.servers": server("IOTML_KAFKA")}  # type: ignore[assignment]
    config = pipeline(tmp_path / "follows.toml", feed, store=str(tmp_path / "store"))
    on_store = ["--store", str(tmp_path / "store")]

    def tells(*words: object) -> str:
        done = cli("model", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = json.loads(tells("publish", model(tmp_path), "--config", config, "--format", "json"))
    assert (told["name"], told["version"], told["new"]) == ("cars", "1", True)
    told = tells("publish", model(tmp_path, 0.25), "--version", "2", "--rollout", "canary=10", "--config", config)
    assert "  2  canary, 10 % of the keys  file:///" in told
    listed = [json.loads(line) for line in tells("list", "--format", "json", *on_store).splitlines()]
    assert [(line["name"], line["version"]) for line in listed] == [("cars", "1"), ("cars", "2")]
    assert "kind       reconstruction" in tells("describe", "cars", "2", "--verify", *on_store)
    promoted = tells("promote", "cars", "2", "--config", config)
    assert [words in promoted for words in ("  2  all rows", "  1  retired")] == [True, True], promoted
    assert "  1  all rows" in tells("rollback", "cars", "--config", config)
    assert "  1  retired" in tells("retire", "cars", "1", "--config", config)

    # Python sees the same.
    topic, store = iotml.ModelTopic.from_toml(config), iotml.ModelStore.from_toml(config)
    announced = topic.announced("cars")
    assert [(it.version, it.state) for it in announced.versions] == [("1", "UNAVAILABLE")]
    assert [it.uri for it in store.list()] == [line["uri"] for line in listed]
    # And the command line sees what Python does.
    topic.announce(store.publish(model(tmp_path, 0.75, "3")))
    status = tells("status", "cars", "--config", config)
    assert [words in status for words in ("  3  all rows", "  1  retired")] == [True, True], status
    refused = cli("model", "promote", "cars", "9", "--config", config)
    assert (refused.returncode, 'there is no version "9"' in refused.stderr) == (1, True), refused.stderr
