"""Examples in docstrings and in the README do what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import iotml
import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(iotml.__file__).parent
#: Those with an example in them, which need nothing that might not be there.
MODULES = [path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_docstrings_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Paths in examples are the repository's.
    monkeypatch.chdir(REPOSITORY)
    module = importlib.import_module(".".join(("iotml", *path.relative_to(PACKAGE).with_suffix("").parts)))
    failed, attempted = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert (failed, attempted > 0) == (0, True)


def test_the_native_module_has_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    failed, attempted = doctest.testmod(iotml, optionflags=doctest.ELLIPSIS)
    assert (failed, attempted > 3) == (0, True)


def test_every_public_name_says_what_it_is() -> None:
    for name in iotml.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(iotml, name)), name
    for cls in (iotml.Scorer, iotml.Prediction):
        for name, member in inspect.getmembers(cls):
            assert name.startswith("_") or inspect.getdoc(member), f"{cls.__name__}.{name}"
