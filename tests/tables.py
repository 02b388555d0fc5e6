"""Tables in Markdown, as the generated parts of the documents have them.

Owns the form of a table, and the words for types and defaults, which are TOML's.
Never knows which tables there are.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from trivet import Secret
from trivet._program._json_schema import attribute_docstrings

NOTHING = "—"
TOML = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "string",
    Secret: "secret",
}
"""TOML's name for a type; a number may be written without a fraction."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table in Markdown.

    >>> print(table(["a", "b"], [["1", "2 | 3"]]), end="")
    | a | b |
    |---|---|
    | 1 | 2 \| 3 |
    """
    return "".join([_row(head), "|---" * len(head), "|\n", *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def keys(
    cls: type,
    fields: Iterable[attrs.Attribute[Any]],
    default: Callable[[attrs.Attribute[Any]], str] | None = None,
) -> str:
    """The table of the keys of a table of settings.

    Args:
        cls: the class of the settings.
        fields: its fields that are keys.
        default: the cell of a key's default; by default the field's own.
    """
    about, hints = _about(cls), get_type_hints(cls)
    rows = [
        [
            f"`{field.name}`",
            _type(hints[field.name]),
            default(field) if default else default_of(field),
            about[field.name],
        ]
        for field in fields
    ]
    return table(["key", "type", "default", "meaning"], rows)


def prose(thing: object) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join(str(inspect.getdoc(thing)).partition("\n\n")[0].split())


def _about(cls: type) -> dict[str, str]:
    """The text under each field of a class and its bases."""
    found: dict[str, str] = {}
    for base in filter(attrs.has, reversed(cls.__mro__)):
        found |= attribute_docstrings(base)
    return found


def _type(hint: Any) -> str:
    arguments = get_args(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return ", ".join(f"`{_quoted(word)}`" for word in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(each) for each in arguments if each is not NoneType)
    if origin is list:
        words = get_origin(arguments[0]) is Literal
        return f"array of {_type(arguments[0])}{'' if words else 's'}"
    if origin is type:
        return "name of an event type"
    return "table" if origin is dict else TOML[hint]


def default_of(field: attrs.Attribute[Any]) -> str:
    """The cell of a key's default."""
    return as_toml(_default(field))


def _default(field: attrs.Attribute[Any]) -> Any:
    if field.default is attrs.NOTHING:
        return None
    factory: Any = field.default
    return factory.factory() if isinstance(factory, attrs.Factory) else factory  # type: ignore[arg-type]


def as_toml(value: object) -> str:
    """The cell of a value, as TOML has it."""
    match value:
        case None | math.inf:
            return NOTHING
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float():
            return f"`{value:_}`"
        case Secret():
            return f"`{_quoted(value.reveal())}`"
        case str() | Path():
            return f"`{_quoted(value)}`"
        case _:
            return f"`{value}`"


def _quoted(value: object) -> str:
    return f'"{value}"'
