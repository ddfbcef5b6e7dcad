"""ONNX export with the manifest that iotml reads: in the file's metadata and as JSON beside it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf

from autoencoder import Network

METADATA_KEY = "iotml.manifest"
INPUT, OUTPUT = "features", "reconstruction"
TOLERANCE = 1e-4


def manifest(
    network: Network,
    features: list[str],
    *,
    golden: np.ndarray,
    threshold: float,
    quantile: float,
    version: str,
    trained: dict[str, Any],
) -> dict[str, Any]:
    """Describe a reconstruction model; `golden` are raw rows, whose scores are computed here by TensorFlow."""
    scales = zip(network.mean.tolist(), network.std.tolist(), strict=True)
    return {
        "manifest_version": 1,
        "kind": "reconstruction",
        "name": "cars",
        "version": version,
        "inputs": [{"name": INPUT}],
        "outputs": [{"name": OUTPUT, "role": "reconstruction"}],
        "features": [{"name": name, "scale": {"mean": mean, "std": std}} for name, (mean, std) in zip(features, scales, strict=True)],
        "threshold": {"method": "quantile", "quantile": quantile, "value": threshold},
        "golden": {
            "input": [[float(str(value)) for value in row] for row in golden],
            "score": [float(score) for score in network.score(golden)],
            "tolerance": TOLERANCE,
        },
        "trained": {"framework": f"tensorflow {tf.__version__}", **trained},
        "min_iotml": "0.1.0",
    }


def write(network: Network, document: dict[str, Any], folder: Path, name: str, check_rows: np.ndarray) -> Path:
    """Write `name.onnx` and `name.json`, after ONNX Runtime has given TensorFlow's results in batches of 1 and of all rows."""
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / "exported.onnx"
        network.model.export(str(exported), format="onnx", verbose=False)
        model = onnx.load(exported)
    rename(model)
    for entry in [entry for entry in model.metadata_props if entry.key == METADATA_KEY]:
        model.metadata_props.remove(entry)
    text = json.dumps(document, indent=1)
    model.metadata_props.add(key=METADATA_KEY, value=text)
    onnx.checker.check_model(model, full_check=True)
    verify(model, network, check_rows)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    path.with_suffix(".json").write_text(text + "\n")
    return path


def rename(model: onnx.ModelProto) -> None:
    """Give the only input and output names that say what they are."""
    graph = model.graph
    if (len(graph.input), len(graph.output)) != (1, 1):
        raise SystemExit(f"the exported graph has {len(graph.input)} inputs and {len(graph.output)} outputs, not one of each")
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    graph.input[0].name, graph.output[0].name = INPUT, OUTPUT
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "n"


def verify(model: onnx.ModelProto, network: Network, rows: np.ndarray) -> None:
    """End the program if ONNX Runtime does not give TensorFlow's reconstruction of the raw rows."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scaled = network.scale(rows)
    expected = network.model.predict(scaled, batch_size=8192, verbose=0)
    together = session.run([OUTPUT], {INPUT: scaled})[0]
    singly = np.concatenate([session.run([OUTPUT], {INPUT: scaled[at : at + 1]})[0] for at in range(len(scaled))])
    for batch, found in (("1", singly), (str(len(scaled)), together)):
        error = float(np.max(np.abs(found - expected)))
        print(f"ONNX Runtime {onnxruntime.__version__}, batch {batch}: largest difference from TensorFlow {error:.1e}")
        if error > TOLERANCE:
            raise SystemExit(f"the exported model is wrong by {error}")
