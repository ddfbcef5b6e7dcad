"""One tree of exceptions, with built-in bases, and causes that are kept."""

from __future__ import annotations

import inspect

import iotml
import pytest
from iotml import exceptions

BUILT_IN = {
    "ConfigError": ValueError,
    "SourceError": OSError,
    "DecodeError": ValueError,
    "PreprocessError": ValueError,
    "ScoreError": RuntimeError,
    "EncodeError": ValueError,
    "SinkError": OSError,
    "ModelError": ValueError,
    "StoreError": OSError,
    "RolloutError": ValueError,
    "ExportError": ValueError,
    "PipelineError": RuntimeError,
    "ForkedError": RuntimeError,
}


def test_every_class_is_exported_and_in_the_tree() -> None:
    classes = {name: cls for name, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, Exception)}
    assert set(BUILT_IN) <= set(classes)
    for name, cls in classes.items():
        assert getattr(iotml, name) is cls
        assert name in iotml.__all__
        assert issubclass(cls, iotml.IotmlError)
        assert inspect.getdoc(cls)


@pytest.mark.parametrize(("name", "base"), BUILT_IN.items())
def test_the_built_in_base_catches_it(name: str, base: type[Exception]) -> None:
    with pytest.raises(base, match="what happened"):
        raise getattr(iotml, name)("what happened")


def test_causes_are_chained_from_rust() -> None:
    with pytest.raises(iotml.ModelError) as raised:
        iotml.embed_manifest(b"", "{")
    cause = raised.value.__cause__
    assert isinstance(cause, iotml.IotmlError)
    assert "line 1" in str(cause)
