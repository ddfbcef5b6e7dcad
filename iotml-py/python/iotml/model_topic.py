"""Where models are announced: a compacted topic of Kafka, and another on which workers report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from iotml._iotml import TopicClient
from iotml.drift import ModelDrift
from iotml.exceptions import ConfigError
from iotml.manifest import Manifest
from iotml.pipeline import read_document
from iotml.rollout import ModelSet, ModelStatus, Rollout
from iotml.store import StoredModel, manifest_text
from iotml.times import milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

    from iotml.plugins import Plugins


class ModelTopic:
    """The topic on which models are announced to the workers that follow it: which version scores which rows.

    - `bootstrap`: brokers, `host:port`, several separated by commas;
    - `topic`: where models are announced; it is compacted, and made if it is not there;
    - `status_topic`: where workers report; `""` if they do not;
    - `drift_topic`: where they report that rows drifted, likewise;
    - `format`: how models are announced: `"json"` or `"confluent_avro"`, which needs a registry; both are read;
    - `registry`: the address of a schema registry, or a mapping, as for `KafkaLog`;
    - `create_topics`, `replication`: whether topics are made, and how many copies they have, the broker's default if None;
    - `timeout`: seconds that a broker is waited for;
    - `kafka`: properties of librdkafka, such as `{"security.protocol": "SASL_SSL"}`.

    Every call has a connection of its own, so a topic may be used by many threads and in forked processes. What a call has
    changed is durable when it returns. Of two who change a model at once neither is lost. After Ctrl-C a change may have
    been made or not.

    Calls raise `RolloutError` for a change that cannot be, `SourceError` or `SinkError` if Kafka cannot be read or
    written; `SourceError`, too, if the schema registry cannot be asked.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str = "models",
        *,
        status_topic: str = "model-status",
        drift_topic: str = "model-drift",
        format: Literal["json", "confluent_avro"] = "json",  # noqa: A002
        registry: str | Mapping[str, Any] | None = None,
        create_topics: bool = True,
        replication: int | None = None,
        timeout: float = 10.0,
        kafka: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        """Check the arguments; raises `ConfigError`. Nothing is connected yet."""
        options = {
            "topic": topic,
            "status_topic": status_topic,
            "drift_topic": drift_topic,
            "format": format,
            "registry": {"url": registry} if isinstance(registry, str) else registry and dict(registry),
            "create_topics": create_topics,
            "replication": replication,
            "connect_timeout": milliseconds("a timeout of", timeout),
            "kafka": {**(kafka or {}), "bootstrap.servers": bootstrap},
        }
        self._client = TopicClient(json.dumps(options))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], *, plugins: Plugins | None = None) -> Self:
        """Take the topic that the scorer of a pipeline follows: the `feed` of its `follow`.

        Raises `ConfigError` if the document is wrong, or its scorer follows no topic of Kafka.
        """
        topic = cls.__new__(cls)
        topic._client = TopicClient.of_pipeline(read_document(path), os.fspath(path), plugins)
        return topic

    @property
    def topic(self) -> str:
        """Where models are announced."""
        return self._client.name

    @overload
    def announce(
        self,
        model: StoredModel,
        *,
        canary: float | None = None,
        weight: float | None = None,
        shadow: bool = False,
    ) -> ModelSet: ...

    @overload
    def announce(
        self,
        model: str,
        version: str,
        *,
        uri: str,
        sha256: str,
        manifest: Manifest | str | os.PathLike[str] | None = None,
        canary: float | None = None,
        weight: float | None = None,
        shadow: bool = False,
    ) -> ModelSet: ...

    @overload
    def announce(
        self,
        model: str,
        version: str,
        *,
        inline: str | os.PathLike[str] | bytes,
        manifest: Manifest | str | os.PathLike[str] | None = None,
        check: bool = True,
        canary: float | None = None,
        weight: float | None = None,
        shadow: bool = False,
    ) -> ModelSet: ...

    def announce(
        self,
        model: str | StoredModel,
        version: str | None = None,
        *,
        uri: str | None = None,
        sha256: str | None = None,
        inline: str | os.PathLike[str] | bytes | None = None,
        manifest: Manifest | str | os.PathLike[str] | None = None,
        check: bool = True,
        canary: float | None = None,
        weight: float | None = None,
        shadow: bool = False,
    ) -> ModelSet:
        """Put a version into force beside what is announced of its model, and give all that is in force then.

        What is announced:

        - `announce(stored)`: a version that `ModelStore.publish` put into the workers' store;
        - `announce("cars", "4", uri=..., sha256=...)`: one at an address that the workers can read;
        - `announce("cars", "4", inline=...)`: an ONNX file, by path or as bytes, that comes along; at most 650 kB
          in JSON, 900 kB in Avro.

        `manifest` takes the place of the one in the file; with `check` a file that comes along is loaded into an engine
        first, to see that its golden rows come out.

        Which rows it scores: all, and what scored them is retired; with `canary=10` those of 10 % of the keys; with
        `weight=1` a part of the rest, in proportion to the weights; with `shadow=True` all as well, for shadow routes.

        Raises `RolloutError` if that contradicts what else is announced, `ModelError` for a file that no worker would
        load.
        """
        rollout = _rollout(canary, weight, shadow).to_json()
        if isinstance(model, StoredModel):
            if version is not None or uri is not None or sha256 is not None or inline is not None or manifest is not None:
                raise ConfigError("a stored model says everything of itself: give nothing but its rollout")
            version, uri, sha256 = model.version, model.uri, model.sha256
            model = model.name
        if version is None:
            raise ConfigError("the version is missing")
        onnx = inline if inline is None or isinstance(inline, bytes) else os.fspath(inline)
        text = manifest_text(manifest)
        client = self._client
        return ModelSet.from_json(
            client.announce(model, version, rollout, uri=uri, sha256=sha256, onnx=onnx, manifest=text, check=check)
        )

    def promote(self, model: str, version: str) -> ModelSet:
        """Let a version score all rows: a canary that has proved itself, or an older one."""
        return ModelSet.from_json(self._client.promote(model, version))

    def rollback(self, model: str) -> ModelSet:
        """Let the version that was retired last score all rows again, and retire those that did."""
        return ModelSet.from_json(self._client.roll_back(model))

    def retire(self, model: str, version: str) -> ModelSet:
        """Take a version out of service: a canary or a shadow that has not proved itself."""
        return ModelSet.from_json(self._client.retire(model, version))

    @overload
    def announced(self) -> dict[str, ModelSet]: ...

    @overload
    def announced(self, model: str) -> ModelSet: ...

    def announced(self, model: str | None = None) -> dict[str, ModelSet] | ModelSet:
        """Read what is announced of all models, by name, or of one of them.

        What cannot be read has a `trouble`; a model of which nothing is announced has no versions.
        """
        sets = {
            name: ModelSet(name, trouble=trouble) if document is None else ModelSet.from_json(document)
            for name, document, trouble in self._client.announced()
        }
        return sets if model is None else sets.get(model, ModelSet(model))

    def statuses(self, model: str | None = None) -> list[ModelStatus]:
        """Read what workers said of all models or of one, oldest first, as far as the topic still has it."""
        reports = map(ModelStatus.from_json, self._client.reports())
        return [report for report in reports if model in (None, report.model)]

    def drifts(self, model: str | None = None) -> list[ModelDrift]:
        """Read what workers said of rows that drifted, of all models or of one, oldest first."""
        reports = map(ModelDrift.from_json, self._client.drifts())
        return [report for report in reports if model in (None, report.model)]

    def __repr__(self) -> str:
        """Say which it is; no secret is among it."""
        return f"ModelTopic({self.topic!r})"


def _rollout(canary: float | None, weight: float | None, shadow: bool) -> Rollout:
    if (canary is not None) + (weight is not None) + shadow > 1:
        raise ConfigError("canary, weight and shadow exclude each other")
    if canary is not None:
        return Rollout("canary", percent=float(canary))
    if weight is not None:
        return Rollout("weighted", weight=float(weight))
    return Rollout("shadow" if shadow else "full")
