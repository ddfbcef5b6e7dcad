"""Networks that are ready to train: the default one, and the two of the reference system.

| name | network |
| --- | --- |
| `autoencoder` | denoising autoencoder with a linear output; separates faults, the one to start with |
| `autoencoder-reference` | 18-14-7-7-18 as in the reference system; its relu output cannot give negative values back |
| `lstm` | forecasts the next row of the same key from the last ones, as in the reference system |

A preset is a value that holds its settings; `fit` trains it on raw rows and gives a `Network`, which is a Keras model
with the scaling that was fitted along with it. TensorFlow is needed: `pip install 'iotml[tensorflow]'`.
"""

from __future__ import annotations

from collections.abc import Mapping

from iotml.train.presets.autoencoder import Autoencoder
from iotml.train.presets.autoencoder_reference import AutoencoderReference
from iotml.train.presets.lstm import Lstm
from iotml.train.presets.network import Network
from iotml.train.presets.scaling import Statistics, fit_range, fit_standard
from iotml.train.presets.source import Rows

__all__ = [
    "PRESETS",
    "Autoencoder",
    "AutoencoderReference",
    "Lstm",
    "Network",
    "Rows",
    "Statistics",
    "fit_range",
    "fit_standard",
]

#: The presets by name, as the command line knows them.
PRESETS: Mapping[str, type[Autoencoder | AutoencoderReference | Lstm]] = {
    "autoencoder": Autoencoder,
    "autoencoder-reference": AutoencoderReference,
    "lstm": Lstm,
}
