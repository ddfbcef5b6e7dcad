"""Train the default network on the simulator's healthy cars and export it as ONNX with its manifest.

Make the data, then train (about 3 minutes on 2 cores):

    cargo run -p iotml-examples --bin car_simulator -- csv --cars 3000 --ticks 100 --tick-seconds 10 \
        --seed 1 --fault-share 0 --out train.csv
    cargo run -p iotml-examples --bin car_simulator -- csv --cars 400 --ticks 150 --tick-seconds 10 \
        --seed 5 --fault-share 0.5 --out evaluate.csv
    cargo run -p iotml-examples --bin car_simulator -- csv --cars 1000 --ticks 60 \
        --seed 6 --fault-share 0.05 --out demo.csv
    pip install -r examples/train/requirements.txt
    python examples/train/train_autoencoder.py --train train.csv --evaluate evaluate.csv demo.csv --out testdata/cars

Writes cars-autoencoder.onnx and cars-autoencoder.json to the --out folder and prints the evaluation as a table. Cars
are split, never rows: the threshold comes from cars that the network was not fitted to, the table from a file of others.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np

import autoencoder
import cars_csv
import evaluation
import export


def main() -> None:
    """Run the whole training from the command line."""
    options = arguments()
    readings = cars_csv.load(options.train).healthy()
    train, validation = readings.split_by_car(share=0.8, seed=options.seed)
    print(f"{len(train.values)} rows of {train.n_cars} cars to fit, {len(validation.values)} of {validation.n_cars} to set the threshold")

    settings = autoencoder.Settings(epochs=options.epochs, seed=options.seed)
    network = autoencoder.fit(train.values, settings)
    threshold = float(np.quantile(network.score(validation.values), options.quantile))
    print(f"threshold {threshold:.6f}: quantile {options.quantile} of the validation scores")

    results = []
    for path in options.evaluate:
        unseen = cars_csv.load(path)
        result = evaluation.evaluate(path, unseen, train.values, network, threshold, options.seed)
        print(f"\n{result.table()}")
        results.append(result)
    if not results[0].passes(options.min_auc):
        raise SystemExit(f"not exported: a fault kind is below ROC AUC {options.min_auc}")

    golden = golden_rows(cars_csv.load(options.evaluate[0]))
    manifest = export.manifest(
        network,
        cars_csv.FEATURES,
        golden=golden,
        threshold=threshold,
        quantile=options.quantile,
        version=options.version,
        trained={
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "data": f"car_simulator, healthy cars, {train.n_cars} of {readings.n_cars}",
            "rows": len(train.values),
            "digest": cars_csv.digest(options.train),
            "epochs": settings.epochs,
            "seed": settings.seed,
            "script": "examples/train/train_autoencoder.py",
            "metrics": {"roc_auc": results[0].auc["autoencoder"]},
        },
    )
    model = export.write(network, manifest, options.out, "cars-autoencoder", check_rows=validation.values[:1000])
    print(f"\nwrote {model} ({model.stat().st_size} bytes) and {model.with_suffix('.json').name}")


def golden_rows(readings: cars_csv.Readings, n_healthy: int = 8) -> np.ndarray:
    """Raw rows for the manifest: some healthy ones, spread over the file, and one of each fault kind."""
    healthy = readings.values[readings.is_untouched]
    rows = [healthy[at] for at in np.linspace(0, len(healthy) - 1, n_healthy).astype(int)]
    rows += [readings.values[readings.fault == kind][-1] for kind in readings.kinds]
    return np.stack(rows)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="CSV of the cars to train on; only healthy rows are used")
    parser.add_argument("--evaluate", type=Path, required=True, nargs="+", help="CSVs of other cars, with faults; the first one decides")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its manifest")
    parser.add_argument("--epochs", type=int, default=80, help="passes over the training rows (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the split, the weights and the noise (default: %(default)s)")
    parser.add_argument(
        "--quantile", type=float, default=0.999, help="quantile of healthy scores that is the threshold (default: %(default)s)"
    )
    parser.add_argument(
        "--min-auc", type=float, default=0.95, help="smallest ROC AUC of a fault kind that is exported (default: %(default)s)"
    )
    parser.add_argument("--version", default="1", help="version in the manifest (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
