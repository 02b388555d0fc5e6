"""Tables become keywords: types, converters, validators, and messages about misfits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import attrs
import pytest
from attrs.validators import gt

from trivet import ConfigurationError, Event
from trivet._program._structuring import EnvText, structure_fields

from ..wording import refusal_of
from .directories import Directory

if TYPE_CHECKING:
    from decimal import Decimal

# The types of settings.


class Colour(Enum):
    GREEN = "green"
    BLACK = 2


class Size(StrEnum):
    SMALL = "small"


@attrs.frozen
class Leaf:
    origin: str
    grams: float = attrs.field(default=2.0, validator=attrs.validators.gt(0))


@dataclass
class Cup:
    size: int


class Saucer(TypedDict):
    size: int


def fit(kind: Any, value: object) -> Any:
    """Structure one value as a setting of a type."""
    cls = attrs.make_class("Author", {"setting": attrs.field(type=kind)})
    return structure_fields(cls, attrs.fields(cls), {"setting": value})["setting"]


def env(text: str) -> EnvText:
    """Text as a variable gives it."""
    return EnvText(text, "TRIVET_PLUGINS__AUTHOR__SETTING")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (bool, True, True),
        (str, "a", "a"),
        (Path, "a/b", Path("a/b")),
        (int | None, 3, 3),
        (int | str, "a", "a"),
        (int | str, 3, 3),
        (list[int], [1, 2], [1, 2]),
        (list, [1, "a"], [1, "a"]),
        (set[str], ["a", "a"], {"a"}),
        (frozenset[int], [1], frozenset({1})),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[str, int], ["a", 2], ("a", 2)),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (dict, {"a": {"b": 1}}, {"a": {"b": 1}}),
        (Any, {"a": [1]}, {"a": [1]}),
        (object, {"a": [1]}, {"a": [1]}),
        (Literal["a", 1], 1, 1),
        (Colour, "green", Colour.GREEN),
        (Colour, 2, Colour.BLACK),
        (Size, "small", Size.SMALL),
        (datetime, datetime(2024, 5, 1, 8, 30), datetime(2024, 5, 1, 8, 30)),  # noqa: DTZ001
        (date, date(2024, 5, 1), date(2024, 5, 1)),
        (time, time(8, 30), time(8, 30)),
        (Leaf, {"origin": "Assam"}, Leaf("Assam")),
        (Cup, {"size": 2}, Cup(2)),
        (Saucer, {"size": 2}, {"size": 2}),
        (list[Leaf], [{"origin": "Assam", "grams": 3}], [Leaf("Assam", 3.0)]),
    ],
)
def test_values_of_the_file(kind: Any, value: object, expected: object) -> None:
    """Values of TOML are taken as they are; an integer is a number too."""
    result = fit(kind, value)
    assert (type(result), result) == (type(expected), expected)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "3", 3),
        (float, "1.5", 1.5),
        (bool, "on", True),
        (bool, "TRUE", True),
        (bool, "yes", True),
        (bool, "1", True),
        (bool, "off", False),
        (bool, "false", False),
        (bool, "no", False),
        (bool, "0", False),
        (str, "3", "3"),
        (Path, "a", Path("a")),
        (int | None, "3", 3),
        (int | str, "a", "a"),
        (list[int], "1, 2", [1, 2]),
        (list[str], "", []),
        (list, "a,b", ["a", "b"]),
        (tuple[int, ...], "1,2", (1, 2)),
        (tuple[str, int], "a,2", ("a", 2)),
        (Literal["a", 1], "1", 1),
        (Colour, "2", Colour.BLACK),
        (Size, "small", Size.SMALL),
        (date, "2024-05-01", date(2024, 5, 1)),
        (Any, "3", "3"),
    ],
)
def test_text_of_the_environment(kind: Any, text: str, expected: object) -> None:
    """Text of a variable is converted to the type of the setting."""
    result = fit(kind, env(text))
    assert (type(result), result) == (type(expected), expected)


def test_table_of_the_environment() -> None:
    """A setting of the type `Any` gets plain text, without the environment's mark."""
    result = fit(dict[str, Any], {env("headers"): {env("x"): env("y")}})
    assert result == {"headers": {"x": "y"}}
    (key,), (inner,) = result, result["headers"].items()
    assert {type(text) for text in (key, *inner)} == {str}


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, "3", "setting: expected an integer, got a string"),
        (float, True, "setting: expected a number, got a boolean"),
        (str, 3, "setting: expected a string, got an integer"),
        (int | str, 1.5, "setting: expected a value of the type int | str, got a number"),
        (list[str], "ab", "setting: expected an array, got a string"),
        (list[list[str]], [["a"], "b"], "setting[1]: expected an array, got a string"),
        (tuple[int, int], [1], "setting: expected an array of 2"),
        (tuple[int, int], [1, "a"], "setting: expected an integer, got a string"),
        (dict[str, int], {"a": "b"}, "setting.a: expected an integer, got a string"),
        (dict[str, int], [], "setting: expected a table, got an array"),
        (date, 5, "setting: expected a date, got an integer"),
        (int, date(2024, 5, 1), "setting: expected an integer, got a date"),
        (Colour, "red", "setting: expected one of 'green', 2"),
        (Literal["a", 1], True, "setting: expected one of 'a', 1"),
        (
            str | int | float,
            True,
            "setting: expected a value of the type str | int | float, got a boolean",
        ),
        (int | None, "3", "setting: expected an integer, got a string"),
        (set[str], "ab", "setting: expected an array, got a string"),
        (tuple[str, ...], "ab", "setting: expected an array, got a string"),
        (dict, [], "setting: expected a table, got an array"),
        (
            dict[str, Leaf],
            {"a b": {"origin": 1}},
            "setting.a b.origin: expected a string, got an integer",
        ),
        (Leaf, {"grams": 1}, "setting.origin: required, but not set: expected a string"),
        (Leaf, {"origin": "a", "gram": 1}, "setting.gram: unknown key, did you mean 'grams'?"),
        (
            Leaf,
            {"origin": "a", "grams": 0},
            f"setting.grams: {refusal_of(gt(0), 'grams', 0.0)}",
        ),
        (list[Leaf], [{"origin": 1}], "setting[0].origin: expected a string, got an integer"),
        (Cup, {"size": "2"}, "setting.size: expected an integer, got a string"),
        (Cup, {}, "setting.size: required, but not set"),
        (Cup, {"size": 2, "sise": 3}, "setting: unknown keys: sise"),
        (Saucer, {"size": "2"}, "setting.size: expected an integer, got a string"),
        (complex, 1, "setting: a setting cannot be of the type <class 'complex'>"),
    ],
)
def test_misfits_of_the_file(kind: Any, value: object, said: str) -> None:
    """The message leads to the wrong value, however deep in tables and arrays it is."""
    with pytest.raises(ConfigurationError) as caught:
        fit(kind, value)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (list[int], "1,secret", "expected an integer"),
        (bool, "secret", "expected a boolean"),
        (date, "secret", "expected a date"),
        (Colour, "secret", "expected one of 'green', 2"),
        (int | float, "secret", "expected a value of the type int | float"),
    ],
)
def test_misfits_of_the_environment(kind: Any, text: str, said: str) -> None:
    """The message has the variable's name and never its text, which may be a secret."""
    with pytest.raises(ConfigurationError) as caught:
        fit(kind, env(text))
    assert str(caught.value) == f"TRIVET_PLUGINS__AUTHOR__SETTING: {said}"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (str, "a string"),
        (float | None, "a number"),
        (int | str, "an integer or a string"),
        (Path, "a path, as a string"),
        (list[int], "an array"),
        (dict[str, int], "a table"),
        (Leaf, "a table"),
        (Colour, "one of 'green', 2"),
        (Literal["a", 1], "one of 'a', 1"),
        (type[Event], "an event's name, as a string"),
        (complex, "a value of the type <class 'complex'>"),
    ],
)
def test_missing_setting(kind: Any, words: str) -> None:
    """The message about a required setting that is missing says its type."""
    cls = attrs.make_class("Author", {"setting": attrs.field(type=kind)})
    with pytest.raises(ConfigurationError) as caught:
        structure_fields(cls, attrs.fields(cls), {})
    assert str(caught.value) == f"setting: required, but not set: expected {words}"


def test_missing_setting_without_a_type() -> None:
    """A required setting with a converter, or without an annotation, is of no known type."""
    cls = attrs.make_class(
        "Author", {"bare": attrs.field(), "converted": attrs.field(type=int, converter=int)}
    )
    with pytest.raises(ConfigurationError) as caught:
        structure_fields(cls, attrs.fields(cls), {})
    lines = str(caught.value).splitlines()
    assert lines == ["bare: required, but not set", "converted: required, but not set"]


def test_a_field_without_a_type_takes_anything() -> None:
    """A field without an annotation gets the value as it is, and text as plain text."""
    cls = attrs.make_class("Author", ["setting"])
    values = structure_fields(cls, attrs.fields(cls), {"setting": env("a")})
    assert (values, type(values["setting"])) == ({"setting": "a"}, str)


# The author's validators, converters and defaults.


def below_high(author: Author, _: object, low: int) -> None:
    """Compare two settings, as a validator."""
    if not low < author.high:
        raise ValueError("low must be below high")


def next_to_low(author: Author) -> int:
    """Make a default from another setting."""
    return author.low + 1


def split(words: str | list[str]) -> list[str]:
    """Convert text in an author's own way."""
    return words.split() if isinstance(words, str) else words


@attrs.frozen
class Author:
    token: str = attrs.field(default="t-0", validator=attrs.validators.matches_re("t-[0-9]+"))
    low: int = attrs.field(default=0, validator=below_high)
    high: int = attrs.Factory(next_to_low, takes_self=True)
    words: list[str] = attrs.field(factory=list[str], converter=split)


def structure(**table: object) -> dict[str, Any]:
    """Structure an author's table."""
    return structure_fields(Author, attrs.fields(Author), table, key="plugins.author")


def test_a_validator_sees_the_other_settings() -> None:
    """A validator that compares two settings sees given values and defaults alike."""
    assert structure(low=3) == {"low": 3}
    assert structure(low=3, high=5) == {"low": 3, "high": 5}
    with pytest.raises(ConfigurationError, match=r"^plugins\.author\.low: low must be below high$"):
        structure(low=7, high=5)


def test_comparison_with_a_fault() -> None:
    """A comparison with a setting that has failed is no second fault."""
    with pytest.raises(ConfigurationError) as caught:
        structure(low=3, high="five", token="t")
    keys = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert keys == ["plugins.author.high", "plugins.author.token"]


def test_a_default_is_validated_too() -> None:
    """A default that attrs would refuse in an instance is refused before that."""
    cls = attrs.make_class(
        "Author", {"size": attrs.field(default=0, validator=attrs.validators.gt(0))}
    )
    with pytest.raises(ConfigurationError) as caught:
        structure_fields(cls, attrs.fields(cls), {})
    assert str(caught.value) == f"size: {refusal_of(gt(0), 'size', 0)}"


def test_validator_and_secret() -> None:
    """The operator's value is cut out of a validator's message."""
    with pytest.raises(ConfigurationError) as caught:
        structure(token="hunter2")
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith("plugins.author.token: ")


def test_converter() -> None:
    """A converter gets the value as it was written."""
    (text,) = structure(words=env("a b")).values()
    assert (type(text), text) == (str, "a b")


def test_error_of_a_converter() -> None:
    """An error in an author's converter is a fault of its key, told without the value."""
    cls = attrs.make_class("Author", {"size": attrs.field(type=int, converter=int)})
    with pytest.raises(ConfigurationError, match=r"^size: ") as caught:
        structure_fields(cls, attrs.fields(cls), {"size": "hunter2"})
    assert "hunter2" not in str(caught.value)


# Annotations.


def test_annotations_of_the_plugins_module(directory: Directory) -> None:
    """A setting may be of a class that only the plugin's file knows."""
    directory.write(
        "kitchen.py",
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from nowhere import Elsewhere
        @attrs.frozen
        class Leaf:
            origin: str
        class Teapot(BackgroundPlugin):
            leaves: list[Leaf] = attrs.field(factory=list)
            _state: Elsewhere
        """,
    )
    program = directory.load("kitchen", plugins={"teapot": {"leaves": [{"origin": "Assam"}]}})
    (leaf,) = program.plugins[0].values["leaves"]
    assert leaf.origin == "Assam"


def test_inherited_settings(directory: Directory) -> None:
    """The annotation of an inherited field is evaluated in the module of its base class."""
    directory.write(
        "_base.py",
        "from pathlib import Path\nclass Base(BackgroundPlugin):\n    where: Path = Path()",
    )
    directory.write("kitchen.py", "from ._base import Base\nclass Teapot(Base):\n    step: int = 1")
    program = directory.load("kitchen", plugins={"teapot": {"where": "a", "step": 2}})
    assert program.plugins[0].values == {"where": Path("a"), "step": 2}


@attrs.frozen
class Exact:
    grams: Decimal | None = None


def test_annotation_out_of_reach() -> None:
    """An annotation that the module cannot evaluate at run time is reported with its field."""
    with pytest.raises(ConfigurationError, match=r"Exact\.grams: its annotation cannot be"):
        structure_fields(Exact, attrs.fields(Exact), {"grams": 1})
    assert structure_fields(Exact, attrs.fields(Exact), {}) == {}
