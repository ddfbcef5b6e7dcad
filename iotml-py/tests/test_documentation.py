"""Examples in docstrings and in the README do what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import iotml
import pytest

REPOSITORY = Path(__file__).parents[2]
MODULES = ["iotml", *(module.name for module in pkgutil.walk_packages(iotml.__path__, "iotml."))]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_docstrings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Paths in examples are the repository's.
    monkeypatch.chdir(REPOSITORY)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A part that needs an extra, where that extra is not installed.
        pytest.skip(f"{error.name} is not installed")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_the_native_module_has_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert doctest.testmod(iotml).attempted > 3


def test_every_public_name_says_what_it_is() -> None:
    for name in iotml.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(iotml, name)), name
    for cls in (iotml.Scorer, iotml.Prediction):
        for name, member in inspect.getmembers(cls):
            assert name.startswith("_") or inspect.getdoc(member), f"{cls.__name__}.{name}"
