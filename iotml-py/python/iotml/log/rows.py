"""What to make of the rows of a log, as the native reader takes it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from iotml.exceptions import ConfigError, ModelError
from iotml.manifest import Feature, Manifest

#: Names of columns, features with their scaling, a manifest, or the path of one as a JSON file.
Features: TypeAlias = Manifest | str | os.PathLike[str] | Sequence[str | Feature | Mapping[str, Any]]

Missing: TypeAlias = Literal["reject", "impute"]
OnBad: TypeAlias = Literal["raise", "skip"]


@dataclass(frozen=True)
class RowOptions:
    """Which columns become which numbers, and which rows are left out."""

    features: tuple[Feature, ...]
    label: str | None
    filter: tuple[str, ...]
    columns: tuple[str, ...]
    missing: Missing
    on_bad: OnBad

    @classmethod
    def of(
        cls,
        features: Features | None,
        *,
        label: str | None,
        filter: str | Sequence[str] | None,  # noqa: A002
        columns: Sequence[str],
        missing: Missing,
        on_bad: OnBad,
    ) -> RowOptions:
        """Raise `ConfigError` for what is none of the choices."""
        _one_of("missing", missing, ("reject", "impute"))
        _one_of("on_bad", on_bad, ("raise", "skip"))
        conditions = (filter,) if isinstance(filter, str) else tuple(filter or ())
        return cls(_features(features), label, conditions, tuple(columns), missing, on_bad)

    def to_json(self, batch_rows: int, windows: int | None, max_delay: float, *, digest: bool) -> str:
        """Give the options as the native reader takes them."""
        if batch_rows < 1:
            raise ConfigError(f"a batch of {batch_rows} rows was asked for; it has at least one")
        if windows is not None and windows < 1:
            raise ConfigError(f"windows of {windows} rows were asked for; a window has at least one")
        if windows is not None and not self.features:
            raise ConfigError("windows are made of features: name some")
        return json.dumps(
            {
                "features": [feature.to_dict() for feature in self.features],
                "missing": self.missing,
                "label": self.label,
                "filter": list(self.filter),
                "columns": list(self.columns),
                "skip_bad": self.on_bad == "skip",
                "batch_rows": batch_rows,
                "look_back": windows,
                "max_delay_ms": max(round(max_delay * 1000), 1),
                "digest": digest and bool(self.features),
            }
        )


def _features(features: Features | None) -> tuple[Feature, ...]:
    if features is None:
        return ()
    if isinstance(features, str | os.PathLike):
        features = Manifest.read(features)
    if isinstance(features, Manifest):
        return tuple(features.features)
    documents = [_document(feature) for feature in features]
    if not documents:
        raise ConfigError("the list of features is empty: name at least one, or leave it out for Arrow alone")
    try:
        # The rules for features are the manifest's.
        manifest = Manifest.from_dict({"kind": "score", "name": "log", "features": documents})
    except ModelError as error:
        raise ConfigError(f"{error}".removeprefix("model manifest: ")) from error
    return tuple(manifest.features)


def _document(feature: str | Feature | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(feature, str):
        return Feature(feature).to_dict()
    return feature.to_dict() if isinstance(feature, Feature) else dict(feature)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}: choose one of {', '.join(map(repr, choices))}")
