"""`iotml.Scorer.score` beside onnxruntime's own Python call and NumPy, as one would write it who cares about speed.

Both take the same raw rows and give the same scores, which is checked: scale by the manifest, run the network, mean squared
error per row. "without scaling" is a peer that is handed rows somebody else has scaled, which iotml still does by itself. Rounds
alternate, so that a busy machine slows both; each figure is the median of its rounds, a ratio the median of the rounds' ratios.

    python benches/vs/python_score.py --model testdata/cars/cars-autoencoder.onnx
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import iotml
import numpy as np
import onnxruntime

ROUNDS = 41


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("testdata/cars/cars-autoencoder.onnx"))
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 32, 1000, 100_000])
    return parser.parse_args()


def scaling(manifest: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Give factors and shifts: scaled = raw * factor + shift."""
    factors, shifts = [], []
    for feature in manifest["features"]:
        scale = feature["scale"]
        if "std" in scale:
            factors.append(1.0 / scale["std"])
            shifts.append(-scale["mean"] / scale["std"])
        else:
            factors.append(2.0 / (scale["max"] - scale["min"]))
            shifts.append(-scale["min"] * factors[-1] - 1.0)
    return np.array(factors, np.float32), np.array(shifts, np.float32)


def seconds(call: Callable[[], object], n_calls: int) -> float:
    """Time one call, on average over `n_calls`."""
    start = time.perf_counter()
    for _ in range(n_calls):
        call()
    return (time.perf_counter() - start) / n_calls


def main() -> None:
    """Measure and print one line of JSON a number of rows."""
    args = parse()
    scorer = iotml.Scorer(args.model, engine="onnxruntime")
    factors, shifts = scaling(json.loads(scorer.manifest))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    single = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    stock = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    name = single.get_inputs()[0].name
    mean, std = -shifts / factors, 1.0 / factors

    for n_rows in args.rows:
        raw = np.random.default_rng(1).normal(mean, std, (n_rows, len(factors))).astype(np.float32)
        one = raw[0] if n_rows == 1 else raw
        scaled = raw * factors + shifts

        def ours(x: np.ndarray = one) -> Any:
            return scorer.score(x)

        def peer(session: Any, raw: np.ndarray = raw) -> Any:
            rows = raw * factors + shifts
            (output,) = session.run(None, {name: rows})
            return np.square(rows - output).mean(axis=1)

        def unscaled(rows: np.ndarray = scaled) -> Any:
            (output,) = single.run(None, {name: rows})
            return np.square(rows - output).mean(axis=1)

        np.testing.assert_allclose(np.atleast_1d(ours()), peer(single), rtol=1e-3, atol=1e-6)
        calls: dict[str, Callable[[], object]] = {
            "iotml": ours,
            "onnxruntime": lambda: peer(single),
            "onnxruntime, stock threads": lambda: peer(stock),
            "onnxruntime without scaling": unscaled,
        }
        n_calls = max(1, 20_000 // (n_rows + 50))
        for call in calls.values():
            seconds(call, n_calls)
        rounds = [{label: seconds(call, n_calls) for label, call in calls.items()} for _ in range(ROUNDS)]
        result = {"rows": n_rows}
        result |= {f"{label} us": round(statistics.median(r[label] for r in rounds) * 1e6, 2) for label in calls}
        for label in list(calls)[1:]:
            result[f"ratio to {label}"] = round(statistics.median(r["iotml"] / r[label] for r in rounds), 3)
        print(json.dumps(result))


if __name__ == "__main__":
    main()
