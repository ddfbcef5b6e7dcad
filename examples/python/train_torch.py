"""Teaches: the same log for PyTorch: an IterableDataset whose workers share the partitions, and the export of a module.

python examples/python/train_torch.py --bootstrap localhost:9092 --topic sensor-data \
        --registry http://localhost:8081 --out cars.onnx
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

import cars
import iotml
from iotml.train.presets import Statistics, fit_standard


class Autoencoder(torch.nn.Module):  # type: ignore[misc]
    """Dense layers 18 - 32 - 10 - 32 - 18."""

    def __init__(self) -> None:
        """Make the layers with random weights."""
        super().__init__()
        width = len(cars.FEATURES)
        self.encode = torch.nn.Sequential(torch.nn.Linear(width, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        self.decode = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Give scaled rows `[n, 18]` back."""
        reconstruction: torch.Tensor = self.decode(self.encode(features))
        return reconstruction


def main() -> None:
    """Run the whole training from the command line."""
    options = arguments()
    where = {"registry": options.registry, "features": cars.FEATURES}
    log = iotml.KafkaLog(options.bootstrap, options.topic, filter=cars.HEALTHY, **where)
    whole = log.range()
    train_range = whole.only([number for number in whole.partitions if number not in options.held_out])
    # One pass for the scaling; from then on the log gives scaled rows.
    found_rows = Statistics.of(batch.x for batch in log.batches(65_536, range=train_range))
    features = fit_standard(cars.FEATURES, found_rows)
    read = log.last_read
    scaled = iotml.KafkaLog(options.bootstrap, options.topic, filter=cars.HEALTHY, registry=options.registry, features=features)
    loader = DataLoader(
        scaled.to_torch(options.batch, range=train_range, shuffle_buffer=50_000), batch_size=None, num_workers=options.workers
    )
    torch.manual_seed(options.seed)
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(options.epochs):
        losses = []
        for rows in loader:
            # Some sensors are moved, so that the network learns to distrust one that disagrees with the rest.
            noise = (torch.rand_like(rows) < 0.05) * torch.empty_like(rows).uniform_(-1.5, 1.5)
            loss = torch.nn.functional.mse_loss(model(rows + noise), rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.5f}", flush=True)

    judged = iotml.KafkaLog(options.bootstrap, options.topic, label=cars.LABEL, **where)
    values, labels = judged.numpy(range=whole.only(options.held_out))
    manifest = iotml.Manifest(
        "reconstruction",
        "cars-torch",
        features,
        trained={"epochs": options.epochs},
        distribution=found_rows.describe(features),
    )
    rows = manifest.scale(values)
    with torch.no_grad():
        score = ((model.eval()(torch.from_numpy(rows)).numpy() - rows) ** 2).mean(axis=1)
    found = iotml.calibrate(score, labels)
    print(found)
    print(iotml.export_onnx(model, options.out, manifest=manifest, samples=values[:1000], calibration=found, read=read))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="Kafka, host:port")
    parser.add_argument("--topic", default="sensor-data", help="the topic (default: %(default)s)")
    parser.add_argument("--registry", help="the schema registry's address")
    parser.add_argument("--held-out", type=int, nargs="+", default=[8, 9], help="partitions that set the threshold (default: 8 9)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the rows (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=512, help="rows of a step (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and noise (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
