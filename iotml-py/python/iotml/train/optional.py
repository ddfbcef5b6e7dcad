"""Packages that only some users need, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from iotml.exceptions import MissingPackageError


def needed(module: str, *, purpose: str, install: str) -> Any:
    """Import `module`; raises `MissingPackageError`, which says what to install for it.

    >>> needed("json", purpose="reading", install="json").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == package
        problem = "which is not installed" if is_absent else f"which does not import ({error})"
        message = f"{purpose} needs the package {package}, {problem}: pip install '{install}'"
        raise MissingPackageError(message, name=package) from error
