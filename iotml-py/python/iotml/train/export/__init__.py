"""A framework's trained model as an ONNX file with its manifest, checked in the Rust engine before it is there."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from iotml._iotml import Scorer, embed_manifest
from iotml.distribution import Distribution, describe, describe_scores
from iotml.exceptions import ExportError, ModelError
from iotml.manifest import Manifest, Output
from iotml.train.calibrate import Calibration
from iotml.train.export import golden, graph, write
from iotml.train.export.frameworks import open_model
from iotml.train.export.original import Original, Wanted

__all__ = ["Export", "export_onnx"]


#: Training rows whose scores are looked at.
_SCORED_ROWS = 16_384


class Read(Protocol):
    """A read of a log, as `KafkaLog.last_read`."""

    def to_dict(self) -> dict[str, Any]:
        """Give at least `range`, `rows` and `digest`."""


@dataclass(frozen=True)
class Export:
    """What was written, and how closely it was compared.

    `names` maps what the framework calls the input and the output to their names in the ONNX graph, which are the same
    where the framework has names and the manifest wants no others. `largest_difference` is the one between the
    framework's and the engine's output over `n_compared` rows, relative to values above 1.
    """

    path: Path
    manifest_path: Path
    manifest: Manifest
    names: Mapping[str, str]
    engine: str
    n_compared: int
    largest_difference: float

    def __str__(self) -> str:
        """One line for a person."""
        return (
            f"wrote {self.path} and {self.manifest_path.name}: {self.n_compared} rows differ by at most "
            f"{self.largest_difference:.1e} between {self.manifest.trained['framework']} and {self.engine}"
        )


def export_onnx(
    model: Any,
    path: str | os.PathLike[str],
    *,
    manifest: Manifest | Mapping[str, Any] | str | os.PathLike[str],
    samples: npt.ArrayLike | None = None,
    training: npt.ArrayLike | None = None,
    look_back: int | None = None,
    calibration: Calibration | None = None,
    read: Read | None = None,
    opset: int | None = None,
    tolerance: float = 1e-4,
    engine: str | None = None,
    library: str | None = None,
) -> Export:
    """Export a trained model to `path` (`*.onnx`) with its manifest inside and as JSON beside it.

    Nothing is written before the exported model has given the framework's results in the Rust engine: on every sample
    row, and on the golden rows that the engine will compute again whenever it loads the file.

    Args:
        model: a model of Keras 3, tf.keras or tf_keras, a SavedModel, a PyTorch module, a fitted scikit-learn
            estimator, or the path of a `.keras` or `.h5` file or of a SavedModel's folder.
        path: where to write; the JSON goes to the same name with `.json`. Files there are replaced as a whole.
        manifest: kind, name and features with their scaling, at least; as a `Manifest`, its JSON form, or the path of a
            JSON file. Names in `inputs` and `outputs` rename those of the model; golden rows in it are made anew.
        samples: raw (unscaled) rows `[n, n_features]` to compare on; consecutive rows of one key for kind `next_event`.
            Without them, 256 made up rows within the features' scale.
        training: the raw rows `[n, n_features]` that the model was trained on, or many of them: how they are spread
            goes into the manifest, so that live rows can be compared with them. The presets' manifests have it already.
        look_back: rows of a window, for a `next_event` model that does not say it itself.
        calibration: what `calibrate` gave; its threshold and figures go into the manifest.
        read: what the model was trained on, a read of a `KafkaLog` or `FileLog` that went to its
            end; its range and digest go into the manifest.
        opset: the ONNX operator set, if not the exporter's default.
        tolerance: the largest difference that passes, relative to values above 1.
        engine: `onnxruntime` or `tract`; by default ONNX Runtime if it is there.
        library: the libonnxruntime to load.

    Raises:
        ExportError: the model cannot be exported, or computes something else in the engine; the message says what to
        do.
        ModelError: the manifest is wrong.
        MissingPackageError: the framework's exporter is not installed.

    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise ExportError(f"the path {target} does not end in .onnx")
    described = _describe(_read_manifest(manifest), calibration, read)
    if training is not None:
        spread = describe(described.features, training)
        described = dataclasses.replace(described, distribution=spread)
    original = open_model(model, Wanted(described, look_back))
    raw = golden.sample_rows(described, samples)
    compared = golden.evaluate(described, original, raw)
    kept = golden.evaluate(described, original, golden.golden_rows(described, raw, original.axes))

    converted = original.convert(opset)
    names = _rename(converted, original, described)
    graph.open_batch(converted)
    trained = {"framework": original.framework, **described.trained, "versions": _versions(original)}
    if any(old != new for old, new in names.items()):
        trained["names"] = dict(names)
    input_name, output_name = names.values()
    finished = dataclasses.replace(
        described,
        inputs=(input_name,),
        outputs=(Output(output_name, described.role),),
        golden=kept.golden(tolerance),
        trained=trained,
        distribution=_with_scores(described, calibration, original, training),
    )
    document = finished.to_json()
    content = embed_manifest(converted.SerializeToString(), document)
    with write.prepared(target, content, document) as (scratch, commit):
        scorer = _open(scratch, target, engine, library)
        difference = _compare(scorer, compared, tolerance)
        commit()
    return Export(target, target.with_suffix(".json"), finished, names, scorer.engine, len(compared.x), difference)


def _read_manifest(given: Manifest | Mapping[str, Any] | str | os.PathLike[str]) -> Manifest:
    if isinstance(given, Manifest):
        given.check()
        return given
    return Manifest.from_dict(given) if isinstance(given, Mapping) else Manifest.read(given)


def _describe(manifest: Manifest, calibration: Calibration | None, read: Read | None) -> Manifest:
    trained: dict[str, Any] = {"at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    if read is not None:
        data = read.to_dict()
        if data["digest"] is None:
            raise ExportError("`read` has no digest: pass one that went to its end, as log.last_read after numpy()")
        trained |= {"data": data, "rows": data["rows"], "digest": data["digest"]}
    if calibration is not None:
        manifest = dataclasses.replace(manifest, threshold=calibration.threshold)
        trained["calibration"] = calibration.to_dict()
    return dataclasses.replace(manifest, trained={**trained, **manifest.trained})


def _with_scores(
    manifest: Manifest, calibration: Calibration | None, original: Original, training: npt.ArrayLike | None
) -> Distribution | None:
    """Add the scores: those that the threshold was set on, else those of training rows."""
    spread = manifest.distribution
    if calibration is not None:
        score = describe_scores(calibration.scores, calibration.value)
    elif training is not None and manifest.kind != "next_event":
        rows = np.asarray(training)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, _SCORED_ROWS).astype(int))]
        rows = rows[np.isfinite(manifest.scale(rows)).all(axis=1)]
        threshold = None if manifest.threshold is None else manifest.threshold.value
        score = describe_scores(golden.evaluate(manifest, original, rows).score, threshold) if len(rows) else None
    else:
        return spread
    return spread if score is None else dataclasses.replace(spread or Distribution(), score=score)


def _rename(converted: Any, original: Original, manifest: Manifest) -> dict[str, str]:
    """Rename input and output if the manifest says so; give the framework's names with those in the graph."""
    (input_theirs, input_found), (output_theirs, output_found) = original.names.items()
    wanted_output = next((output.name for output in manifest.outputs if output.role == manifest.role), None)
    input_ours = manifest.inputs[0] if manifest.inputs else input_found
    output_ours = wanted_output or output_found
    if output_ours == input_ours:
        output_ours = f"{output_ours}_out"
    graph.rename(converted, {input_found: input_ours, output_found: output_ours})
    return {input_theirs: input_ours, output_theirs: output_ours}


def _versions(original: Original) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("iotml", "numpy", "onnx", *original.packages):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # Some builds of TensorFlow have another package name.
            if found := getattr(sys.modules.get(package), "__version__", None):
                versions[package] = found
    return versions


def _open(scratch: Path, target: Path, engine: str | None, library: str | None) -> Scorer:
    try:
        return Scorer(os.fspath(scratch), engine=engine, library=library)
    except ModelError as error:
        reason = str(error).replace(os.fspath(scratch), os.fspath(target))
        is_loop = any(f"`ai.onnx:{operator}`" in reason for operator in ("Loop", "Scan", "If"))
        advice = "; recurrent layers other than LSTM become loops: build them with unroll=True" if is_loop else ""
        raise ExportError(f"the engine does not take the exported model: {reason}{advice}") from error


def _compare(scorer: Scorer, expected: golden.Evaluated, tolerance: float) -> float:
    """Run all samples in the engine; gives the largest difference, relative to values above 1."""
    found = scorer.run(expected.x)
    differences = np.abs(found - expected.y) / np.maximum(np.abs(expected.y), 1)
    worst = float(differences.max())
    if not worst <= tolerance:
        row, column = np.unravel_index(int(differences.argmax()), differences.shape)
        ours, theirs = found[row, column], expected.y[row, column]
        raise ExportError(
            f"the exported model is wrong: output {column} of sample row {expected.at[row]} is {ours:.6g} "
            f"in {scorer.engine}, but {theirs:.6g} in the framework; if that is near enough for the threshold, pass "
            f"tolerance={2 * worst:.1g}, else try another opset or simpler layers"
        )
    return worst
