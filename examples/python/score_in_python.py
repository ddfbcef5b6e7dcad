"""Teaches: the Rust engine from Python: scores, verdicts, and which sensor is to blame, in single rows and in batches.

    python examples/python/score_in_python.py --model testdata/cars/cars-autoencoder.onnx --rows unseen.csv

`--rows` is a file of `iotml simulate csv`; any array of raw rows does, and so does anything that speaks Arrow.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import cars
import iotml


def main() -> None:
    """Score the rows of a file and say what was found."""
    options = arguments()
    scorer = iotml.Scorer(str(options.model))
    print(f"{scorer.name} {scorer.version} on {scorer.engine}: {scorer.n_features} features, {scorer.threshold}")
    truth = cars.read(options.rows)

    # One row, as a request would bring it: scaled by the model's manifest, never by the caller.
    print(f"the first row's score is {scorer.score(truth.values[0]):.5f}")

    begun = time.perf_counter()
    found = scorer.predict(truth.values)
    seconds = time.perf_counter() - begun
    if found.anomaly is None or found.errors is None:
        raise SystemExit("the model has no threshold, or is none that reconstructs its input")
    print(f"{len(truth.values)} rows in {1000 * seconds:.1f} ms, {int(found.anomaly.sum())} of them anomalies")

    # The sensor whose error is largest is the one to look at; per sensor, the row that is worst.
    blamed = np.argmax(found.errors, axis=1)
    for sensor in np.unique(blamed[found.anomaly]):
        row = np.argmax(np.where(blamed == sensor, found.score, -np.inf))
        is_known = truth.fault[row] or "no fault"
        print(f"{scorer.features[sensor]}: {truth.car[row]}, score {found.score[row]:.4f} ({is_known})")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="an ONNX file with its manifest")
    parser.add_argument("--rows", type=Path, required=True, help="a file of `iotml simulate csv`")
    return parser.parse_args()


if __name__ == "__main__":
    main()
