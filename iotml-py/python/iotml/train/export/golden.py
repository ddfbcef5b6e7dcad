"""Sample rows through the framework's model: what the engine has to give, too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iotml.exceptions import ExportError
from iotml.manifest import Golden, Manifest, unscale
from iotml.train.export.original import FloatArray, Original, run
from iotml.train.windows import windows

#: Rows that go into the manifest, beside those before the first full window.
_GOLDEN_ROWS = 16
_SYNTHETIC_ROWS = 256


@dataclass(frozen=True)
class Evaluated:
    """Raw rows `[n, n_features]`, and what the framework's model makes of them.

    `x [m, input_width]` is what the model saw, `y [m, output_width]` what it gave, `at [m]` the row each belongs to,
    `result [m, width]` the part of `y` that counts, and `score [m]` what follows from it.
    """

    raw: npt.NDArray[np.float64]
    x: FloatArray
    y: FloatArray
    result: FloatArray
    score: FloatArray
    at: npt.NDArray[np.intp]

    def golden(self, tolerance: float) -> Golden:
        """Write the rows down with their results; `None` for a row without one."""
        scores: list[float | None] = [None] * len(self.raw)
        outputs: list[list[float] | None] = [None] * len(self.raw)
        for at, score, result in zip(self.at.tolist(), self.score.tolist(), self.result.tolist(), strict=True):
            scores[at], outputs[at] = score, result
        return Golden(self.raw.tolist(), scores, outputs, tolerance)


def sample_rows(manifest: Manifest, samples: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
    """Give the raw rows to compare on: the caller's, or made up ones within the scale of every feature."""
    if samples is None:
        scaled = np.random.default_rng(0).uniform(-1, 1, (_SYNTHETIC_ROWS, len(manifest.features)))
        return decimal(unscale(manifest.features, scaled).astype(np.float32))
    raw = np.asarray(samples)
    if raw.ndim != 2 or raw.shape[1] != len(manifest.features) or not len(raw):
        raise ExportError(f"samples have the shape {list(raw.shape)}, but raw rows [n, {len(manifest.features)}] are needed")
    if raw.dtype.kind not in "fiub":
        raise ExportError(f"samples are of type {raw.dtype}, but numbers are needed")
    bad = np.argwhere(~np.isfinite(raw))
    if len(bad):
        row, column = bad[0]
        raise ExportError(f"sample row {row} has {raw[row, column]} in {manifest.feature_names[column]}; leave such rows out")
    return raw.astype(np.float64)


def golden_rows(manifest: Manifest, raw: npt.NDArray[np.float64], axes: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Choose the rows for the manifest: spread over the samples, or the first ones where rows follow on each other."""
    if manifest.kind == "next_event":
        chosen = raw[: _GOLDEN_ROWS + _look_back(axes)]
    else:
        chosen = raw[np.unique(np.linspace(0, len(raw) - 1, _GOLDEN_ROWS).astype(int))]
    return decimal(chosen.astype(np.float32)) if np.array_equal(chosen, chosen.astype(np.float32)) else chosen


def evaluate(manifest: Manifest, original: Original, raw: npt.NDArray[np.float64]) -> Evaluated:
    """Run the framework's model on raw rows; raises `ExportError` if what it gives does not fit the manifest's kind."""
    scaled = manifest.scale(raw)
    finite = np.isfinite(scaled).all(axis=1)
    if not finite.all():
        raise ExportError(
            f"sample row {int(np.argmin(finite))} is too large for a float32 once scaled; is the scaling of this data?"
        )
    if manifest.kind == "next_event":
        look_back = _look_back(original.axes)
        x, y_true, at = windows(scaled, look_back)
        if not len(x):
            raise ExportError(
                f"{len(raw)} samples hold no window of {look_back} rows and one after it; pass at least {look_back + 1}"
            )
        x = x.reshape(-1, *original.axes)
    else:
        x, y_true, at = scaled, scaled, np.arange(len(scaled))
    y = run(original, x)
    _check_shape(manifest, original.axes, y)
    flat = y.reshape(len(y), -1)
    # Of a predicted sequence the last step is the next row.
    result = flat[:, -len(manifest.features) :] if manifest.kind == "next_event" else flat
    return Evaluated(raw, x.reshape(len(x), -1), flat, result, _score(manifest, result, y_true), at)


def decimal(rows: FloatArray) -> npt.NDArray[np.float64]:
    """Give the shortest decimals that name the same float32 numbers, which is how the manifest writes them."""
    return np.array([[float(str(value)) for value in row] for row in rows], dtype=np.float64)


def _look_back(axes: tuple[int, ...]) -> int:
    return axes[0] if len(axes) == 2 else 1


def _score(manifest: Manifest, y: FloatArray, y_true: FloatArray) -> FloatArray:
    match manifest.kind:
        case "reconstruction" | "next_event":
            errors: FloatArray = np.mean((y_true - y) ** 2, axis=1, dtype=np.float32)
            return errors
        case "score":
            return y[:, 0]
        case "classifier":
            names = list(manifest.classes)
            positive = len(names) - 1 if manifest.positive is None else names.index(manifest.positive)
            if y.shape[1] == 1:
                return y[:, 0] if positive == 1 else 1 - y[:, 0]
            return y[:, positive]


def _check_shape(manifest: Manifest, axes: tuple[int, ...], y: FloatArray) -> None:
    n, n_classes = len(manifest.features), len(manifest.classes)
    fitting: list[tuple[int, ...]]
    match manifest.kind:
        case "reconstruction":
            fitting = [(n,)]
        case "next_event":
            fitting = [(n,), (1, n), (_look_back(axes), n)]
        case "score":
            fitting = [(), (1,)]
        case "classifier":
            fitting = [(n_classes,), (1,), ()] if n_classes == 2 else [(n_classes,)]
    if y.shape[1:] not in fitting:
        wanted = " or ".join(dict.fromkeys(str(["n", *axes]).replace("'", "") for axes in fitting))
        found = str(["n", *y.shape[1:]]).replace("'", "")
        raise ExportError(f"the model gives {found}, but a model of kind {manifest.kind} gives {wanted}")
