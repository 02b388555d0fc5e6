"""One value of a table, fitted strictly to the type of a setting.

Owns the cattrs converter, the reading of text from the environment, and types in words.
Never knows tables: `_structuring` has them.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
)
from contextlib import suppress
from contextvars import ContextVar
from datetime import date, datetime, time
from enum import Enum
from functools import partial
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, cast, get_args, get_origin

import attrs
import cattrs

from .._events._event import Event
from .._events._types import EventTypes
from .._faults._errors import nearest
from .._faults._secret import Secret
from ._misfits import MisfitError
from ._secret_files import credential_file, read_secret


class EnvText(str):
    """A value, or a key, that an environment variable gave.

    A TOML file distinguishes strings from numbers. For this text, the target type decides.
    """

    __slots__ = ("source",)

    source: str
    """The variable's name, for messages."""

    def __new__(cls, text: str, source: str) -> EnvText:
        self = super().__new__(cls, text)
        self.source = source
        return self


_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_BOOLEANS = {word: word in _TRUE for word in (*_TRUE, *_FALSE)}
_SCALARS: dict[type, tuple[str, Callable[[str], object]]] = {
    bool: ("a boolean", lambda text: _BOOLEANS[text.strip().lower()]),
    int: ("an integer", int),
    float: ("a number", float),
    str: ("a string", str),
    Path: ("a path, as a string", Path),
    datetime: ("a date and time", datetime.fromisoformat),
    date: ("a date", date.fromisoformat),
    time: ("a time of day", time.fromisoformat),
}
_ACCEPTED: dict[type, tuple[type, ...]] = {float: (float, int), Path: (str, type(Path()))}


def unexpected(expected: str, value: object) -> MisfitError:
    """The misfit of a value of another type; the message has the types in TOML's words."""
    if isinstance(value, EnvText):
        return MisfitError(f"expected {expected}", value)
    words = {kind: words for kind, (words, _) in _SCALARS.items()}
    words |= {dict: "a table", list: "an array"}
    return MisfitError(f"expected {expected}, got {words.get(type(value), 'another type')}")


def _scalar(kind: type, value: object, target: type[Any]) -> object:
    """The value as a scalar of the type `kind`, or of its subclass `target`."""
    words, parse = _SCALARS[kind]
    if issubclass(target, Enum):  # A `StrEnum` is a string too.
        return _choice(value, target)
    if isinstance(value, EnvText):
        try:
            value = parse(value)
        except (KeyError, ValueError):
            raise unexpected(words, value) from None
    elif type(value) not in _ACCEPTED.get(kind, (kind,)):
        raise unexpected(words, value)
    return value if isinstance(value, target) else target(value)


def _choice(value: object, target: Any) -> object:
    """The option of a literal, or the member of an enumeration."""
    literal, options = get_origin(target) is Literal, _options(target)
    for option in options:
        spelt = str(option) if isinstance(value, EnvText) else option
        if value == spelt and type(_plain(value)) is type(spelt):
            return option if literal else target(option)
    raise MisfitError(f"expected {_one_of(options)}", value)


def _options(target: Any) -> Sequence[Any]:
    is_literal = get_origin(target) is Literal
    return get_args(target) if is_literal else [member.value for member in target]


def _one_of(options: Iterable[object]) -> str:
    return f"one of {', '.join(map(repr, options))}"


def _union(value: object, target: Any) -> object:
    """The value as the first member type that it fits."""
    members = [member for member in get_args(target) if member is not NoneType]
    if len(members) == 1:
        return converter.structure(value, members[0])
    for member in members:
        with suppress(Exception):
            return converter.structure(value, member)
    raise unexpected(f"a value of the type {target}", value)


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether the value is a table, for the type checkers too."""
    return isinstance(value, dict)


def _table(value: object, target: Any) -> dict[str, Any]:
    """The table as a dictionary with values of the annotated type."""
    if not is_table(value):
        raise unexpected("a table", value)
    stock: Any = GenericAlias(MutableMapping, get_args(target) or (str, Any))
    return converter.structure(value, stock)


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, (list, tuple))


def _array(value: object, target: Any) -> object:
    """The array as the annotated collection; text of the environment is split at commas."""
    if isinstance(value, EnvText):
        parts = [part.strip() for part in value.split(",")]
        value = [EnvText(part, value.source) for part in parts if part]
    if not _is_array(value):
        raise unexpected("an array", value)
    item, *rest = get_args(target) or (object,)
    if rest not in ([], [...]):
        return _fixed_tuple(value, (item, *rest))
    # cattrs would leave elements of the type `Any` as they are.
    stock: Any = GenericAlias(MutableSequence, (object if item is Any else item,))
    return (get_origin(target) or target)(converter.structure(value, stock))


def _fixed_tuple(values: list[Any], targets: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(values) != len(targets):
        raise MisfitError(f"expected an array of {len(targets)}")
    return tuple(map(converter.structure, values, targets))


def _plain(value: object, _: object = None) -> Any:
    """The value without the environment's mark, for a type that takes any value."""
    if is_table(value):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if _is_array(value):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, EnvText) else value


_FORMS = "a string, { file = … } or { credential = … }"


def _secret(value: object, _: object) -> Secret:
    """The secret: the string itself, or the content of the file that a table names."""
    if isinstance(value, Secret):  # From an embedder, or a test.
        return value
    if isinstance(value, str):
        if not value:
            raise MisfitError("a secret is not empty", value)
        return Secret(value)
    if not is_table(value):
        raise unexpected(_FORMS, value)
    match value:
        case {"file": str() as name, **others} if not others:
            given_by_variable = isinstance(name, EnvText)
            file = Path(name) if given_by_variable else directory.get() / name
        case {"credential": str() as name, **others} if not others:
            file = credential_file(name)
        case _:
            raise MisfitError(f"expected {_FORMS}")
    return read_secret(file)


directory: ContextVar[Path] = ContextVar("directory", default=Path())
"""The directory of the settings' file, to which names of files in it are relative."""
events: ContextVar[EventTypes | None] = ContextVar("events")
"""The program's event types, while a table is structured that may name some of them; None while
they are not all known."""


def _is_event_type(target: Any) -> bool:
    return get_origin(target) is type and all(
        isinstance(base, type) and issubclass(base, Event) for base in get_args(target)
    )


def _event_type(value: object, target: Any) -> type[Event]:
    """The event type with this name: the annotated one, or one that derives from it."""
    (base,) = get_args(target)
    if not isinstance(value, str):
        raise unexpected("an event's name, as a string", value)
    known = events.get()
    if known is None:
        return cast("type[Event]", base)
    fit = {event.__event_name__: event for event in known.types if issubclass(event, base)}
    if value not in fit:
        raise MisfitError(f"no event has this name, {nearest(value, fit)}", value)
    return fit[value]


def _has_origin(*origins: Any) -> Callable[[Any], bool]:
    """A predicate for annotations of these types, with or without parameters."""
    return lambda target: (get_origin(target) or target) in origins


converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
"""The converter, whose hooks are strict; `_structuring` adds the hook for attrs classes."""
converter.register_structure_hook(Secret, _secret)
for _kind in _SCALARS:
    converter.register_structure_hook(_kind, partial(_scalar, _kind))
converter.register_structure_hook(Enum, _choice)
converter.register_structure_hook_func(_has_origin(Literal), _choice)
converter.register_structure_hook_func(_has_origin(Union, UnionType), _union)
converter.register_structure_hook_func(_has_origin(dict, Mapping), _table)
converter.register_structure_hook_func(_has_origin(list, tuple, set, frozenset), _array)
converter.register_structure_hook_func(_has_origin(Any, object), _plain)
converter.register_structure_hook_func(_is_event_type, _event_type)


def expected(target: Any) -> str:
    """A type in words, as in other messages about settings."""
    kind = get_origin(target) or target
    members = [member for member in get_args(target) if member is not NoneType]
    if kind in (Union, UnionType):
        return " or ".join(map(expected, members))
    if kind is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        return _one_of(_options(target))
    if _is_event_type(target):
        return "an event's name, as a string"
    return _in_toml(kind) or f"a value of the type {target}"


def _in_toml(kind: Any) -> str | None:
    """The form of a type in TOML; None for an unknown one."""
    if kind in _SCALARS:
        return _SCALARS[kind][0]
    if kind is Secret:
        return _FORMS
    if kind in (list, tuple, set, frozenset):
        return "an array"
    return "a table" if kind in (dict, Mapping) or attrs.has(kind) else None
