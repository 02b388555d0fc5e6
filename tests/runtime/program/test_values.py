"""One value becomes one of the type of its setting, strictly."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal, TypedDict

import attrs
import pytest
from attrs.validators import gt

from trivet import ConfigurationError, Event, Secret
from trivet._program._structuring import structure_fields
from trivet._program._values import EnvText

from ..wording import refusal_of


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


SECRET_FORMS = "a string, { file = … } or { credential = … }"


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
        (Secret, "hunter22", Secret("hunter22")),
        (Secret | None, "hunter22", Secret("hunter22")),
        (Secret, Secret("hunter22"), Secret("hunter22")),
        (dict[str, Secret], {"a": "hunter22"}, {"a": Secret("hunter22")}),
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
        (Secret, "3", Secret("3")),
        (list[Secret], "ab,cd", [Secret("ab"), Secret("cd")]),
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
        (Secret, 4711, f"setting: expected {SECRET_FORMS}, got an integer"),
        (Secret, "", "setting: a secret is not empty"),
        (Secret, {}, f"setting: expected {SECRET_FORMS}"),
        (Secret, {"files": "a"}, f"setting: expected {SECRET_FORMS}"),
        (Secret, {"file": 1}, f"setting: expected {SECRET_FORMS}"),
        (Secret, {"file": "a", "credential": "b"}, f"setting: expected {SECRET_FORMS}"),
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
        (Secret, SECRET_FORMS),
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


def test_a_file_is_relative_to_the_settings(tmp_path: Path) -> None:
    """A secret's file is looked for beside the settings' file; a variable's as it is."""
    (tmp_path / "token").write_text("hunter22\n")
    cls = attrs.make_class("Author", {"setting": attrs.field(type=Secret)})
    for name in ("token", env(str(tmp_path / "token"))):
        values = structure_fields(
            cls,
            attrs.fields(cls),
            {"setting": {"file": name}},
            file=tmp_path / "trivet.toml",
        )
        assert values == {"setting": Secret("hunter22")}
        assert values["setting"].file == tmp_path / "token"


def test_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential is read from the directory that systemd names."""
    (tmp_path / "token").write_text("hunter22\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert fit(Secret, {"credential": "token"}).reveal() == "hunter22"


def test_the_fault_of_a_file_names_it(tmp_path: Path) -> None:
    """The message about a secret that cannot be read has the setting's key, and the file."""
    with pytest.raises(ConfigurationError) as caught:
        fit(Secret, {"file": str(tmp_path / "token")})
    reason = os.strerror(errno.ENOENT)
    assert str(caught.value) == f"setting: {tmp_path / 'token'} cannot be read: {reason}"
