from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from attrs.validators import ge, lt

from trivet import BackgroundPlugin, ConfigurationError, Event, Secret, Settings, load_settings
from trivet._program._json_schema import event_components, event_schema, settings_schema
from trivet._program._loader import load


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Tea(Event): ...


@attrs.frozen
class Cup:
    """A cup.

    Of porcelain.
    """

    color: str = "white"


class Pot(BackgroundPlugin):
    cups: int = attrs.field(default=3, validator=[ge(1), lt(9)])
    """Cups
    in a pot."""
    size: Size = Size.SMALL
    word: Literal["a", "b"] = "a"
    key: Secret | None = None
    cup: Cup = Cup()
    pairs: tuple[int, str] = (1, "a")
    many: list[float] = attrs.field(factory=list[float])
    by_name: dict[str, bool] = attrs.field(factory=dict[str, bool])
    either: int | str = 1
    event: type[Event] = Tea
    raw: str = attrs.field(default="", converter=str.lower)
    anything: Any = None
    hidden: str = attrs.field(default="word", repr=False)
    where: Path = Path("a")


def schema_of_pot() -> dict[str, Any]:
    """The schemas of the plugin's settings."""
    schema = settings_schema(load(Settings(), plugins=[Pot], event_types=[Tea]))
    pot: dict[str, Any] = schema["properties"]["plugins"]["properties"]["pot"]["properties"]
    return pot


@pytest.mark.parametrize(
    ("key", "schema"),
    [
        (
            "cups",
            {
                "type": "integer",
                "minimum": 1,
                "exclusiveMaximum": 9,
                "default": 3,
                "description": "Cups in a pot.",
            },
        ),
        ("size", {"enum": ["s", "l"]}),
        ("word", {"enum": ["a", "b"], "default": "a"}),
        ("many", {"type": "array", "items": {"type": "number"}}),
        ("by_name", {"type": "object", "additionalProperties": {"type": "boolean"}}),
        ("either", {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 1}),
        ("raw", {}),
        ("anything", {}),
        ("hidden", {"type": "string"}),
        ("where", {"type": "string", "default": "a"}),
    ],
)
def test_types(key: str, schema: dict[str, Any]) -> None:
    """Each type of a setting has a schema, with its bounds, its default and its description."""
    assert schema_of_pot()[key] == schema


def test_types_with_parts() -> None:
    """Tables, pairs, secrets and names of events have schemas of their parts."""
    pot = schema_of_pot()
    assert pot["cup"]["properties"]["color"] == {"type": "string", "default": "white"}
    assert pot["cup"]["description"] == "A cup."
    assert len(pot["pairs"]["prefixItems"]) == pot["pairs"]["maxItems"] == 2
    assert [each["type"] for each in pot["key"]["anyOf"]] == ["string", "object", "object"]
    assert "tea" in pot["event"]["enum"]
    assert "delivery" not in pot


def test_bounds_are_those_of_the_settings(tmp_path: Path) -> None:
    """A number below a minimum of the schema is refused by the program, too."""
    table = settings_schema(load(Settings()))["properties"]["restarts"]["properties"]
    bounds = {key: each["minimum"] for key, each in table.items() if "minimum" in each}
    assert "max_restarts" in bounds
    for key, bound in bounds.items():
        file = tmp_path / f"{key}.toml"
        file.write_text(f"[restarts]\n{key} = {bound - 1}")
        with pytest.raises(ConfigurationError, match=key):
            load_settings(file, {})


def test_every_key_is_described() -> None:
    """An editor has a description for each key of the program."""
    properties = settings_schema(load(Settings()))["properties"]
    assert [key for key, each in properties.items() if not each.get("description")] == []


class Sealed:
    """A class that msgspec does not know."""


class Sent(Event):
    seal: Sealed | None = None
    number: int = 0


def test_an_event_with_a_class_of_the_authors() -> None:
    """A field of a class that JSON does not know takes any value in the schema."""
    fields = event_schema(Sent)["$defs"]["Sent"]["properties"]
    assert {"title": "Sealed"} in fields["seal"]["anyOf"]
    assert fields["number"] == {"type": "integer", "default": 0}


class Odd(Event):
    number: complex = 1j


def test_an_event_with_a_default_that_is_no_json() -> None:
    """An event whose default JSON cannot express is any object, and spoils no other's schema."""
    schema = event_schema(Odd)
    assert schema["type"] == "object"
    references, schemas = event_components([Odd, Sent], "#/{name}")
    assert references["odd"]["type"] == "object"
    assert references["sent"] == {"$ref": "#/Sent"}
    assert [*schemas] == ["Sent"]
