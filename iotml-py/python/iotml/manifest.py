"""The model manifest: what an ONNX file does not say about itself.

The same JSON document stands in the ONNX file's metadata and in a file beside it; these classes mirror it. The rules by
which it is checked are the engine's own (`Manifest.check`), so a manifest that passes here loads there.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from iotml._iotml import embed_manifest
from iotml.distribution import Distribution
from iotml.exceptions import ModelError

Kind = Literal["reconstruction", "next_event", "score", "classifier"]
Role = Literal["reconstruction", "prediction", "score", "probabilities", "label"]
ThresholdMethod = Literal["fixed", "quantile", "per_feature"]

MANIFEST_VERSION = 1

#: The role of the output that a kind computes its score from.
ROLE_OF_KIND: Mapping[Kind, Role] = {
    "reconstruction": "reconstruction",
    "next_event": "prediction",
    "score": "score",
    "classifier": "probabilities",
}


@dataclass(frozen=True)
class RangeScale:
    """`(v - min) / (max - min) * 2 - 1`: the raw values `min` and `max` become -1 and 1."""

    min: float
    max: float


@dataclass(frozen=True)
class StandardScale:
    """`(v - mean) / std`, both in raw units."""

    mean: float
    std: float


Scale = RangeScale | StandardScale


@dataclass(frozen=True)
class Feature:
    """One input column of the model.

    `scale=None` leaves the raw value as it is. With `constant` no column is read: the model always sees that number,
    already scaled. `impute` is the raw value that takes the place of a missing one, where the scorer is configured to
    impute.
    """

    name: str
    scale: Scale | None = None
    constant: float | None = None
    impute: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        optional = {"constant": self.constant, "impute": self.impute}
        scale = None if self.scale is None else dataclasses.asdict(self.scale)
        return {"name": self.name, "scale": scale} | {
            name: value for name, value in optional.items() if value is not None
        }


@dataclass(frozen=True)
class Output:
    """A graph output by name, and what it is."""

    name: str
    role: Role


@dataclass(frozen=True)
class Threshold:
    """When a row is an anomaly: its score reaches `value`, or a feature's squared error its limit in `per_feature`.

    `method` says how the limits were found, `quantile` (0 to 1) which quantile of a sample of scores the value is.
    """

    value: float | None = None
    method: ThresholdMethod = "fixed"
    quantile: float | None = None
    per_feature: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        optional = {"quantile": self.quantile, "value": self.value, "per_feature": dict(self.per_feature) or None}
        return {"method": self.method} | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True)
class Golden:
    """Raw rows `[n, n_features]` with the results that training saw; the engine computes them at every load.

    `score` holds a number a row, `output` the model's output a row (`[n, width]`); `None` where a row has none, as the
    first ones of a `next_event` model. `tolerance` is the largest difference that passes, relative to values above 1.
    """

    input: Sequence[Sequence[float]]
    score: Sequence[float | None] | None = None
    output: Sequence[Sequence[float] | None] | None = None
    tolerance: float = 1e-4

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        document: dict[str, Any] = {"input": [list(row) for row in self.input]}
        if self.score is not None:
            document["score"] = list(self.score)
        if self.output is not None:
            document["output"] = [None if row is None else list(row) for row in self.output]
        return document | {"tolerance": self.tolerance}


@dataclass(frozen=True)
class Manifest:
    """What a model is, what it reads, and what its numbers mean.

    `kind` is `reconstruction` (gives its row back), `next_event` (gives the next row of the same key), `score` (gives
    the score, higher is more anomalous) or `classifier` (gives probabilities; `positive` names the class whose
    probability is the score). `inputs` and `outputs` are names in the ONNX graph, `trained` says how the model was
    made, `distribution` what the rows were like; `extra` keeps fields that this version does not know.
    """

    kind: Kind
    name: str
    features: Sequence[Feature]
    version: str = "1"
    inputs: Sequence[str] = ()
    outputs: Sequence[Output] = ()
    threshold: Threshold | None = None
    classes: Sequence[str] = ()
    positive: str | None = None
    golden: Golden | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)
    distribution: Distribution | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def feature_names(self) -> list[str]:
        """The names of the input columns, in the model's order."""
        return [feature.name for feature in self.features]

    @property
    def role(self) -> Role:
        """The role of the output that the score is computed from."""
        return ROLE_OF_KIND[self.kind]

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read and check a manifest; raises `ModelError` naming the field that is wrong."""
        embed_manifest(b"", text)
        document: dict[str, Any] = json.loads(text)
        document.pop("manifest_version")
        known = {spec.name for spec in dataclasses.fields(cls)} - {"extra"}
        fields: dict[str, Any] = {
            name: value for name, value in document.items() if name in known and value is not None
        }
        fields["version"] = str(fields["version"])
        fields["features"] = tuple(_feature(feature) for feature in fields["features"])
        fields["inputs"] = tuple(entry["name"] for entry in fields.get("inputs", ()))
        fields["outputs"] = tuple(Output(**entry) for entry in fields.get("outputs", ()))
        fields["classes"] = tuple(fields.get("classes", ()))
        for name, form in (("threshold", Threshold), ("golden", Golden)):
            if name in fields:
                fields[name] = form(**fields[name])
        if "distribution" in fields:
            fields["distribution"] = Distribution.from_dict(fields["distribution"])
        return cls(**fields, extra={name: value for name, value in document.items() if name not in known})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Manifest:
        """Read and check a manifest given as its JSON form; `manifest_version` and `version` may be left out."""
        return cls.from_json(_dump({"manifest_version": MANIFEST_VERSION, "version": "1", **document}))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Manifest:
        """Read and check the manifest in a JSON file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read the manifest {os.fspath(path)}: {error}") from error
        return cls.from_json(text)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        document: dict[str, Any] = {
            "manifest_version": MANIFEST_VERSION,
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "inputs": [{"name": name} for name in self.inputs],
            "outputs": [dataclasses.asdict(output) for output in self.outputs],
            "features": [feature.to_dict() for feature in self.features],
        }
        if self.threshold is not None:
            document["threshold"] = self.threshold.to_dict()
        if self.classes:
            document["classes"] = list(self.classes)
        if self.positive is not None:
            document["positive"] = self.positive
        if self.golden is not None:
            document["golden"] = self.golden.to_dict()
        if self.trained:
            document["trained"] = dict(self.trained)
        if self.distribution is not None:
            document["distribution"] = self.distribution.to_dict()
        return document | dict(self.extra)

    def to_json(self) -> str:
        """Give the document as indented JSON; raises `ModelError` if a number in it is NaN or infinite."""
        return _dump(self.to_dict())

    def check(self) -> None:
        """Raise `ModelError` naming the first field that the engine would refuse."""
        embed_manifest(b"", self.to_json())

    def scale(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Scale raw rows `[n, n_features]` as the engine does: in float64, then rounded to float32."""
        return scale(self.features, rows)


def scale(features: Sequence[Feature], rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Raw rows `[n, n_features]` as a model with these features sees them."""
    raw = np.asarray(rows, dtype=np.float64)
    if raw.ndim != 2 or raw.shape[1] != len(features):
        raise ModelError(
            f"rows of shape {list(raw.shape)} do not fit {len(features)} features: [n, {len(features)}] is needed"
        )
    subtract, multiply, add = affine(features)
    with np.errstate(over="ignore"):
        scaled = ((raw - subtract) * multiply + add).astype(np.float32)
    # Whatever the raw number is, even NaN: it is not read.
    for at, feature in enumerate(features):
        if feature.constant is not None:
            scaled[:, at] = feature.constant
    return scaled


def unscale(features: Sequence[Feature], scaled: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Give the raw rows that `scale` makes these scaled ones of; a constant feature, never read, is 0 there."""
    subtract, multiply, add = affine(features)
    is_read = multiply != 0
    raw: npt.NDArray[np.float64] = (np.asarray(scaled, np.float64) - add) / np.where(is_read, multiply, 1.0) + subtract
    return np.where(is_read, raw, 0.0)


def affine(features: Sequence[Feature]) -> tuple[npt.NDArray[np.float64], ...]:
    """Give `subtract`, `multiply` and `add`, `[n_features]` each; scaled is `(v - subtract) * multiply + add`."""
    columns = zip(*map(_affine, features), strict=True)
    return tuple(np.array(column, dtype=np.float64) for column in columns)


def _affine(feature: Feature) -> tuple[float, float, float]:
    if feature.constant is not None:
        return 0.0, 0.0, feature.constant
    match feature.scale:
        case RangeScale(low, high):
            return low, 2.0 / (high - low), -1.0
        case StandardScale(mean, std):
            return mean, 1.0 / std, 0.0
        case None:
            return 0.0, 1.0, 0.0


def _feature(document: Mapping[str, Any]) -> Feature:
    numbers: Mapping[str, float] | None = document.get("scale")
    scaling: Scale | None = None
    if numbers is not None:
        scaling = RangeScale(**numbers) if "min" in numbers else StandardScale(**numbers)
    return Feature(document["name"], scaling, document.get("constant"), document.get("impute"))


def _dump(document: Mapping[str, Any]) -> str:
    try:
        return json.dumps(document, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model manifest: cannot be written as JSON: {error}") from error
