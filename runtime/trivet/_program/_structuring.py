"""Raw tables, fitted strictly to attrs fields.

Owns the cattrs converter, the reading of text from the environment, and the hints about keys.
Never knows the places of files, nor the meaning of a setting.
"""

from __future__ import annotations

import sys
from collections.abc import (
    Callable,
    Collection,
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
from inspect import get_annotations
from pathlib import Path
from types import GenericAlias, NoneType, SimpleNamespace, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeGuard,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs
import cattrs

from .._events._event import Event, owner_of, qualified_name, source_of
from .._events._types import EventTypes
from .._faults._errors import ConfigurationError, nearest
from ._misfits import MisfitError, TableError, lines_about, without_value

if TYPE_CHECKING:
    Field = attrs.Attribute[Any]


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


# One value: cattrs converts; the hooks make it strict, and read text of the environment.


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


def _unexpected(expected: str, value: object) -> MisfitError:
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
            raise _unexpected(words, value) from None
    elif type(value) not in _ACCEPTED.get(kind, (kind,)):
        raise _unexpected(words, value)
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
        return _converter.structure(value, members[0])
    for member in members:
        with suppress(Exception):
            return _converter.structure(value, member)
    raise _unexpected(f"a value of the type {target}", value)


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether the value is a table, for the type checkers too."""
    return isinstance(value, dict)


def _table(value: object, target: Any) -> dict[str, Any]:
    """The table as a dictionary with values of the annotated type."""
    if not is_table(value):
        raise _unexpected("a table", value)
    stock: Any = GenericAlias(MutableMapping, get_args(target) or (str, Any))
    return _converter.structure(value, stock)


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, (list, tuple))


def _array(value: object, target: Any) -> object:
    """The array as the annotated collection; text of the environment is split at commas."""
    if isinstance(value, EnvText):
        parts = [part.strip() for part in value.split(",")]
        value = [EnvText(part, value.source) for part in parts if part]
    if not _is_array(value):
        raise _unexpected("an array", value)
    item, *rest = get_args(target) or (object,)
    if rest not in ([], [...]):
        return _fixed_tuple(value, (item, *rest))
    # cattrs would leave elements of the type `Any` as they are.
    stock: Any = GenericAlias(MutableSequence, (object if item is Any else item,))
    return (get_origin(target) or target)(_converter.structure(value, stock))


def _fixed_tuple(values: list[Any], targets: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(values) != len(targets):
        raise MisfitError(f"expected an array of {len(targets)}")
    return tuple(map(_converter.structure, values, targets))


def _plain(value: object, _: object = None) -> Any:
    """The value without the environment's mark, for a type that takes any value."""
    if is_table(value):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if _is_array(value):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, EnvText) else value


_events: ContextVar[EventTypes] = ContextVar("events")
"""The program's event types, while a table is structured that may name some of them."""


_program_keys: ContextVar[Collection[str]] = ContextVar("program_keys")
"""The keys at the top of the settings' file, for hints about a key that stands in a table."""


def _is_event_type(target: Any) -> bool:
    return get_origin(target) is type and all(
        isinstance(base, type) and issubclass(base, Event) for base in get_args(target)
    )


def _event_type(value: object, target: Any) -> type[Event]:
    """The event type with this name: the annotated one, or one that derives from it."""
    (base,) = get_args(target)
    if not isinstance(value, str):
        raise _unexpected("an event's name, as a string", value)
    fit = {event.__event_name__: event for event in _events.get().types if issubclass(event, base)}
    if value not in fit:
        raise MisfitError(f"no event has this name, {nearest(value, fit)}", value)
    return fit[value]


def _instance(value: object, cls: type) -> object:
    """The table as an instance of an attrs class."""
    values = _structured(cls, [field for field in attrs.fields(cls) if field.init], value)
    try:
        return cls(**values)
    except Exception as error:
        raise without_value(error, value) from error


def _has_origin(*origins: Any) -> Callable[[Any], bool]:
    """A predicate for annotations of these types, with or without parameters."""
    return lambda target: (get_origin(target) or target) in origins


_converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
for _kind in _SCALARS:
    _converter.register_structure_hook(_kind, partial(_scalar, _kind))
_converter.register_structure_hook(Enum, _choice)
_converter.register_structure_hook_func(_has_origin(Literal), _choice)
_converter.register_structure_hook_func(_has_origin(Union, UnionType), _union)
_converter.register_structure_hook_func(_has_origin(dict, Mapping), _table)
_converter.register_structure_hook_func(_has_origin(list, tuple, set, frozenset), _array)
_converter.register_structure_hook_func(_has_origin(Any, object), _plain)
_converter.register_structure_hook_func(_is_event_type, _event_type)
_converter.register_structure_hook_func(lambda t: isinstance(t, type) and attrs.has(t), _instance)


# A whole table: unknown keys, then each key's value, converter and validator.


def structure_fields(
    cls: type,
    fields: Iterable[Field],
    raw: object,
    *,
    key: str = "",
    file: Path | None = None,
    events: EventTypes | None = None,
    program_keys: Collection[str] = (),
) -> dict[str, Any]:
    """Fit a table to attrs fields: the keywords for the `__init__` that attrs wrote.

    A field with an attrs converter takes its value as it was written. Converters and validators
    are called, but no instance is made: their `self` has the settings and nothing else.

    Args:
        cls: the class of the fields.
        fields: the fields that may be set.
        raw: the table.
        key: the key of the table in the settings, for messages: `plugins.teapot`.
        file: the file that the settings were read from, for messages.
        events: event types, which a field of the type `type[Event]` names.
        program_keys: the keys at the top of the settings' file, for hints.

    Raises:
        ConfigurationError: one line for each fault.
    """
    token = _events.set(EventTypes([]) if events is None else events)
    keys_token = _program_keys.set(program_keys)
    try:
        return _structured(cls, fields, raw)
    except (MisfitError, TableError) as error:
        raise ConfigurationError("\n".join(lines_about(error, key, file))) from error
    finally:
        _program_keys.reset(keys_token)
        _events.reset(token)


def _structured(cls: type, fields: Iterable[Field], raw: object) -> dict[str, Any]:
    if not is_table(raw):
        raise _unexpected("a table", raw)
    draft = _Draft(cls, fields, raw)
    draft.each(draft.read)
    draft.each(draft.convert)
    draft.each(draft.validate)
    return draft.finished()


class _Draft:
    """A table on its way to keywords. Each step treats all keys that had no fault so far."""

    def __init__(self, cls: type, fields: Iterable[Field], raw: dict[str, Any]) -> None:
        self._cls, self._raw = cls, raw
        self._known = {field.alias or field.name: field for field in fields}
        self._values: dict[str, Any] = {}
        self._self = SimpleNamespace()  # The `self` of converters and validators.
        self._faults: dict[str, Exception] = {
            key: MisfitError(f"unknown key, {_hint(cls, key, self._known)}", key)
            for key in raw
            if key not in self._known
        }

    def each(self, step: Callable[[str, Field], object]) -> None:
        """Let each setting take one step, whose result is its value for the next step."""
        for key, field in list(self._known.items()):
            try:
                setattr(self._self, field.name, step(key, field))
            except Exception as error:
                del self._known[key]
                vars(self._self).pop(field.name, None)
                # A validator that misses another setting, which has failed, adds no second fault.
                if not self._faults or getattr(error, "obj", None) is not self._self:
                    self._faults[key] = without_value(error, self._raw.get(key))

    def read(self, key: str, field: Field) -> Any:
        """The value in the table, in the type of the field; the default where there is none."""
        if key in self._raw:
            as_written = getattr(field, "converter", None) is not None
            target = Any if as_written else _type_of(self._cls, field)
            self._values[key] = _converter.structure(self._raw[key], target)
            return self._values[key]
        default: Any = field.default
        if default is attrs.NOTHING:
            raise _missing(self._cls, field)
        if hasattr(default, "takes_self"):
            return default.factory(self._self) if default.takes_self else default.factory()
        return default

    def convert(self, _: str, field: Field) -> Any:
        """The value after the author's converter."""
        return attrs.setters.convert(self._self, field, getattr(self._self, field.name))

    def validate(self, _: str, field: Field) -> Any:
        """The value after the author's validator."""
        return attrs.setters.validate(self._self, field, getattr(self._self, field.name))

    def finished(self) -> dict[str, Any]:
        """The keywords.

        Raises:
            TableError: settings had faults.
        """
        if self._faults:
            raise TableError.of(self._faults)
        return self._values


def _missing(cls: type, field: Field) -> MisfitError:
    """The fault of a required setting that is not given; it says the type, if there is one."""
    has_type = field.type is not None and getattr(field, "converter", None) is None
    expected = f": expected {_expected(_type_of(cls, field))}" if has_type else ""
    return MisfitError(f"required, but not set{expected}")


def _expected(target: Any) -> str:
    """A type in words, as in other messages about settings."""
    kind = get_origin(target) or target
    members = [member for member in get_args(target) if member is not NoneType]
    if kind in (Union, UnionType):
        return " or ".join(map(_expected, members))
    if kind is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        return _one_of(_options(target))
    if _is_event_type(target):
        return "an event's name, as a string"
    return _in_toml(kind) or f"a value of the type {target}"


def _in_toml(kind: Any) -> str | None:
    """The form of a type in TOML; None for an unknown one."""
    if kind in _SCALARS:
        return _SCALARS[kind][0]
    if kind in (list, tuple, set, frozenset):
        return "an array"
    return "a table" if kind in (dict, Mapping) or attrs.has(kind) else None


def _hint(cls: type, key: str, known: Mapping[str, Field]) -> str:
    """A hint for an unknown key: its place, the nearest known one, or the missing annotation."""
    if key in _program_keys.get():
        return f"{key!r} is a key of the program: write it above the first table"
    owner = owner_of(cls, key)
    value = vars(owner).get(key)
    if owner is object or key.startswith("_") or owner.__module__.startswith("trivet."):
        return nearest(key, known)
    if isinstance(value, property) or callable(value):
        return (
            f"{source_of(owner)} has a {type(value).__name__} of this name; {nearest(key, known)}"
        )
    right = f"{key}: {type(value).__name__} = …"
    return f"{source_of(owner)} has it without an annotation; for a setting write `{right}` there"


def _type_of(cls: type, field: Field) -> Any:
    """The type of a field; only this one annotation of the class is evaluated."""
    owners = [base for base in cls.__mro__ if field.name in get_annotations(base)]
    owner = owners[0] if owners else cls
    holder = SimpleNamespace(__annotations__={field.name: field.type or Any})
    module = getattr(sys.modules.get(owner.__module__), "__dict__", {})
    try:
        return get_type_hints(holder, module, dict(vars(owner)))[field.name]
    except Exception as error:
        raise ConfigurationError(
            f"{qualified_name(owner)}.{field.name}: its annotation cannot be evaluated: {error}"
        ) from error
