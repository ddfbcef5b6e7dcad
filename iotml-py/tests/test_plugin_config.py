"""How stages written in Python are registered and configured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import iotml
import pytest

DOCUMENT = """
[pipeline]
name = "p"

[source]
type = "mqtt"
server = "mqtt://127.0.0.1:1"
topics = [{ filter = "t" }]

[decode]
type = "json"

[[preprocess]]
type = "tuned"
STAGE

[[route]]
name = "r"
sink = { type = "stdout" }
"""


def mistakes(plugins: iotml.Plugins, table: str) -> list[str]:
    with pytest.raises(iotml.ConfigError) as raised:
        iotml.Pipeline.from_toml(text=DOCUMENT.replace("STAGE", table), plugins=plugins)
    return raised.value.mistakes


def test_keys_of_the_table_are_checked_by_the_signature(plugins: iotml.Plugins) -> None:
    made: list[dict[str, Any]] = []

    @plugins.preprocessor("tuned")
    class Tuned:
        """Turns a knob.

        More about it.
        """

        def __init__(
            self,
            factor: float,
            columns: list[str] | None = None,
            mode: Literal["fast", "slow"] = "fast",
            limits: dict[str, float] | None = None,
            folder: Path = Path("/tmp"),
        ) -> None:
            made.append(dict(locals()))
            if factor < 0:
                raise ValueError("factor must not be negative")

        def apply(self, batch: iotml.Batch) -> iotml.Batch:
            return batch

    config = 'factor = 2\ncolumns = ["a"]\nmode = "slow"\nlimits = { a = 1.5 }'
    pipeline = iotml.Pipeline.from_toml(text=DOCUMENT.replace("STAGE", config), plugins=plugins)
    assert "tuned" in pipeline.graph()
    assert (made[0]["factor"], made[0]["columns"], made[0]["mode"], made[0]["limits"]) == (2, ["a"], "slow", {"a": 1.5})
    wrong = 'facto = 2\nmode = "fats"\ncolumns = [1]\nlimits = { a = "b" }'
    assert [mistake.split(": ", 1)[1] for mistake in mistakes(plugins, wrong)] == [
        "preprocess[0].facto: unknown key; did you mean `factor`?",
        'preprocess[0].mode: "fats" is none of "fast", "slow"; did you mean `fast`?',
        "preprocess[0].columns[0]: must be a string, not a whole number",
        "preprocess[0].limits.a: must be a number, not a string",
    ]
    assert mistakes(plugins, "") == ["line 13: preprocess[0].factor: is missing"]
    (negative,) = mistakes(plugins, "factor = -1")
    assert "preprocess[0]: ValueError: factor must not be negative (test_plugin_config.py" in negative


def test_a_schema_of_ones_own_is_used(plugins: iotml.Plugins) -> None:
    schema = {
        "type": "object",
        "properties": {"share": {"$ref": "#/$defs/Share"}},
        "required": ["share"],
        "$defs": {"Share": {"type": "number", "minimum": 0, "maximum": 1}},
    }

    def make(**config: Any) -> Callable[[iotml.Batch], iotml.Batch]:
        return lambda batch: batch

    plugins.preprocessor("tuned", make, config_schema=schema, about="Takes a share.")
    assert mistakes(plugins, "share = 2") == ["line 15: preprocess[0].share: must be at most 1"]
    assert [entry[:3] for entry in plugins.registered] == [("preprocess", "tuned", "Takes a share.")]
    assert repr(plugins) == "Plugins(preprocess tuned)"


def test_what_cannot_be_registered(plugins: iotml.Plugins) -> None:
    async def later(batch: iotml.Batch) -> None: ...

    def positional(*numbers: int) -> None: ...

    class Nothing:
        pass

    plugins.preprocessor("tuned", Nothing)
    for name, factory, message in [
        ("Upper", Nothing, "write it in snake case"),
        ("tuned", Nothing, "already registered"),
        ("a", 5, "neither a class nor a function"),
        ("b", later, "is async"),
        ("c", positional, "has no name that a key could have"),
    ]:
        with pytest.raises(iotml.ConfigError, match=message):
            plugins.preprocessor(name, factory)  # type: ignore[call-overload]
    with pytest.raises(iotml.ConfigError, match="no JSON"):
        plugins.scorer("d", Nothing, config_schema={"a": object()})
    (mistake,) = mistakes(plugins, "")
    assert 'TypeError: the factory of "tuned" made a Nothing, which has no method apply(batch)' in mistake
    plugins.sink("kafka", lambda batch: None)
    with pytest.raises(iotml.ConfigError, match='plug-in "kafka": there is already a plug-in of this type'):
        iotml.Pipeline.from_toml(text=DOCUMENT, plugins=plugins)
