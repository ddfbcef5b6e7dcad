"""The configuration of a plug-in by the signature of its factory, as a JSON Schema."""

from __future__ import annotations

import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iotml.exceptions import ConfigError

_SCALARS: dict[object, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
}


def takes_batch(factory: Callable[..., Any]) -> bool:
    """Whether it is a function or a method whose first parameter is the batch: positional, without a default."""
    if not (inspect.isfunction(factory) or inspect.ismethod(factory)):
        return False
    first = next(iter(inspect.signature(factory).parameters.values()), None)
    return (
        first is not None
        and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
        and first.default is first.empty
    )


def config_schema(factory: Callable[..., Any], *, skip_first: bool) -> dict[str, Any]:
    """Describe the keyword arguments of `factory`, without the first parameter where that is the batch.

    Annotations become types: bool, int, float, str, paths, list, dict, Literal, and unions of these. What has another
    one, or none, may be anything. A parameter without a default is required.

    Raises `ConfigError` for a parameter that a table of a document cannot fill.
    """
    try:
        parameters = list(inspect.signature(factory).parameters.values())[1 if skip_first else 0 :]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{factory!r} has no signature to read; give a config_schema") from error
    hints = _hints(factory)
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            schema["additionalProperties"] = True
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise ConfigError(f"parameter {parameter.name!r} of {factory!r} has no name that a key could have")
        else:
            schema["properties"][parameter.name] = _property(parameter, hints.get(parameter.name, parameter.empty))
            if parameter.default is parameter.empty:
                schema["required"].append(parameter.name)
    return schema


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    of = factory.__init__ if inspect.isclass(factory) else factory
    try:
        return typing.get_type_hints(of)
    except Exception:
        # Names that only a type checker knows: the values are then not checked here, but by the factory.
        return {}


def _property(parameter: inspect.Parameter, hint: object) -> dict[str, Any]:
    schema = _type(hint)
    default = parameter.default
    if default is not parameter.empty and default is not None:
        try:
            json.dumps(default, allow_nan=False)
        except (TypeError, ValueError):
            return schema
        schema = {**schema, "default": default}
    return schema


def _type(hint: Any) -> dict[str, Any]:
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        # A document has no null: leaving the key out says it.
        choices = [_type(argument) for argument in arguments if argument is not type(None)]
        return choices[0] if len(choices) == 1 else {"anyOf": choices}
    if hint in (list, tuple) or origin in (list, tuple, Sequence):
        items = [argument for argument in arguments if argument is not Ellipsis]
        return {"type": "array", "items": _type(items[0])} if len(items) == 1 else {"type": "array"}
    if hint is dict or origin in (dict, Mapping):
        values = _type(arguments[1]) if len(arguments) == 2 else {}
        return {"type": "object", "additionalProperties": values or True}
    if inspect.isclass(hint) and issubclass(hint, os.PathLike):
        return {"type": "string"}
    return {}
