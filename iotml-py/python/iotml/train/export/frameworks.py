"""Which framework a model is of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iotml.exceptions import ExportError, MissingPackageError
from iotml.train.export.keras import KerasModel, is_keras
from iotml.train.export.original import Original, Wanted
from iotml.train.export.saved_model import SavedModel, is_saved_model
from iotml.train.export.saved_model import load as load_saved_model
from iotml.train.export.sklearn import Estimator, is_sklearn
from iotml.train.export.torch import TorchModule, is_torch
from iotml.train.optional import needed

#: Files that are pickles, and so run code when they are loaded.
PICKLES = (".joblib", ".pkl", ".pickle", ".pt", ".pth")


def open_model(model: Any, wanted: Wanted) -> Original:
    """Recognise the framework by the model's class; raises `ExportError` for what is none of them.

    No framework is imported that the model does not come from.
    """
    if isinstance(model, str | os.PathLike):
        model = load_model(Path(model))
    if is_keras(model):
        return KerasModel(model, wanted)
    if is_saved_model(model):
        return SavedModel(model, wanted)
    if is_torch(model):
        return TorchModule(model, wanted)
    if is_sklearn(model):
        return Estimator(model, wanted)
    kind = type(model)
    raise ExportError(
        f"cannot export a {kind.__module__}.{kind.__qualname__}: pass a Keras model, a SavedModel or its folder, "
        "a torch.nn.Module, or a fitted scikit-learn estimator"
    )


def load_model(path: Path) -> Any:
    """Load a `.keras` or `.h5` file or a SavedModel's folder, without what only training needs."""
    if not path.exists():
        raise ExportError(f"there is no model at {path}")
    if path.is_dir():
        return load_saved_model(path)
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ExportError(f"{path}: a .keras or .h5 file or a SavedModel's folder can be loaded; load others and pass the model")
    purpose = f"loading {path.name}"
    if _is_keras_2(path):
        keras = needed("tf_keras", purpose=f"{purpose}, which Keras 2 wrote,", install="tf_keras")
    else:
        keras = needed("keras", purpose=purpose, install="iotml[tensorflow]")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds, also for custom layers that are not registered
        raise ExportError(f"Keras cannot load {path}: {error}; if it has layers of your own, load it and pass the model") from error


def unpickle(path: Path) -> Any:
    """Load a pickled PyTorch module or scikit-learn estimator, which runs whatever code is in the file."""
    purpose = f"loading {path.name}"
    try:
        if path.suffix in (".pt", ".pth"):
            torch = needed("torch", purpose=purpose, install="iotml[torch]")
            model = torch.load(path, map_location="cpu", weights_only=False)
        else:
            model = needed("joblib", purpose=purpose, install="iotml[sklearn]").load(path)
    except MissingPackageError:
        raise
    except Exception as error:  # a pickle may raise anything
        raise ExportError(f"{path} cannot be loaded: {error}; load it in Python and call iotml.export_onnx") from error
    if isinstance(model, Mapping):
        raise ExportError(f"{path} holds weights without the module; load them into it and call iotml.export_onnx")
    return model


def _is_keras_2(path: Path) -> bool:
    """Whether an HDF5 file was written by Keras 2, whose layers Keras 3 does not always know."""
    if path.suffix == ".keras":
        return False
    h5py = needed("h5py", purpose=f"loading {path.name}", install="iotml[tensorflow]")
    try:
        with h5py.File(path) as file:
            version = file.attrs.get("keras_version", json.dumps(""))
    except OSError as error:
        raise ExportError(f"{path} is no HDF5 file: {error}") from error
    return str(version).startswith(("1.", "2."))
