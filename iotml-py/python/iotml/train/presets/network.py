"""A trained Keras model with the scaling it was trained with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iotml.distribution import Distribution
from iotml.exceptions import ConfigError
from iotml.manifest import Feature, Kind, Manifest, scale
from iotml.train.windows import windows

FloatArray = npt.NDArray[np.float32]
_BATCH = 8192


@dataclass(frozen=True)
class Network:
    """What a preset gives: `model` reads scaled rows, `features` say how raw ones are scaled.

    `look_back` is the length of the windows of a `next_event` model, `history` the loss of every epoch, `settings` the
    preset's own and `distribution` what the training rows were like, as they go into the manifest.
    """

    model: Any
    kind: Kind
    features: tuple[Feature, ...]
    history: Mapping[str, Sequence[float]]
    settings: Mapping[str, Any]
    look_back: int | None = None
    distribution: Distribution | None = None

    def scale(self, rows: npt.ArrayLike) -> FloatArray:
        """Raw rows `[n, n_features]` as the model sees them."""
        return scale(self.features, rows)

    def score(self, rows: npt.ArrayLike, keys: Sequence[object] | npt.NDArray[Any] | None = None) -> FloatArray:
        """Score raw rows `[n, n_features]`, float32 `[n]`: the mean squared error in scaled units.

        A `next_event` model needs `keys`, one a row (`None`: all rows are of one), and gives NaN for rows without a
        full window before them.
        """
        scaled = self.scale(rows)
        if self.look_back is None:
            return self._errors(scaled, scaled)
        x, y, at = windows(scaled, self.look_back, keys)
        scores = np.full(len(scaled), np.nan, np.float32)
        scores[at] = self._errors(x, y)
        return scores

    def manifest(self, name: str, *, version: str = "1", trained: Mapping[str, Any] | None = None) -> Manifest:
        """Describe the model for `export_onnx`; `trained` is added to what the network knows about its training."""
        losses = self.history.get("loss", ())
        known = {**self.settings, **({"loss": float(losses[-1])} if losses else {})}
        all_trained = {**known, **(trained or {})}
        distribution = self.distribution
        return Manifest(self.kind, name, self.features, version=version, trained=all_trained, distribution=distribution)

    def _errors(self, x: FloatArray, y: FloatArray) -> FloatArray:
        if not len(x):
            return np.empty(0, np.float32)
        given = np.asarray(self.model.predict(x, batch_size=_BATCH, verbose=0), np.float32)
        given = given.reshape(len(x), -1)[:, -y.shape[1] :]
        errors: FloatArray = np.mean((given - y) ** 2, axis=1, dtype=np.float32)
        return errors


def settings_of(preset: str, given: Any) -> dict[str, Any]:
    """Give the settings of a preset as the manifest writes them: epochs and seed have places of their own there."""
    fields = dataclasses.asdict(given)
    return {"preset": preset, "epochs": fields.pop("epochs"), "seed": fields.pop("seed"), "settings": fields}


def check_epochs(epochs: int, batch: int) -> None:
    """Raise `ConfigError` for settings with which nothing would be trained."""
    if epochs < 1 or batch < 1:
        raise ConfigError(f"epochs is {epochs} and batch {batch}, but both must be at least 1")
