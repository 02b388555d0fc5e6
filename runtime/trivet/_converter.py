"""One value to one type, strictly: a number is not a string, a boolean is not a number.

Owns the cattrs converter, and the text from the environment that it converts by the target type.
Never knows fields, keys and files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence, Set
from contextlib import suppress
from datetime import date, datetime, time
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

import attrs
import cattrs

Hook = Callable[[Any, Any], Any]


class EnvText(str):
    """A value, or a key, that an environment variable gave.

    A TOML file says itself what is a string and what a number. Of this, the target type decides.
    """

    __slots__ = ("source",)

    source: str
    """The variable's name, for messages."""

    def __new__(cls, text: str, source: str) -> EnvText:
        self = super().__new__(cls, text)
        self.source = source
        return self


class MisfitError(ValueError):
    """One value, or key, that does not fit. The value itself may be a secret: it is not told."""

    def __init__(self, reason: str, value: object = None) -> None:
        super().__init__(reason)
        self.source = value.source if isinstance(value, EnvText) else None


class MisfitsError(ValueError):
    """Several values of one table, or array, that do not fit."""

    def __init__(self, parts: list[tuple[str, Exception]]) -> None:
        super().__init__("\n".join(step for step, _ in parts))
        self.parts = parts
        """Each with its step from here: `.key`, or `[index]`."""


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (str, "a string"),
    (int, "an integer"),
    (float, "a number"),
    (dict, "a table"),
    (list, "an array"),
)


def _kind(value: object) -> str:
    for known, words in _KINDS:
        if isinstance(value, known):
            return words
    return f"a {type(value).__name__}"


def _unexpected(expected: str, value: object) -> MisfitError:
    if isinstance(value, EnvText):
        return MisfitError(f"expected {expected}", value)
    return MisfitError(f"expected {expected}, got {_kind(value)}")


@attrs.frozen
class _Scalar:
    """The hook of one scalar type, and of what an author derives from it."""

    words: str
    accepts: tuple[type, ...]
    parse: Callable[[str], object]

    def __call__(self, value: object, target: type[Any]) -> object:
        if issubclass(target, Enum):
            return _enumeration(value, target)
        if isinstance(value, EnvText):
            value = self._parsed(value)
        elif not isinstance(value, self.accepts) or isinstance(value, bool) is not (target is bool):
            raise _unexpected(self.words, value)
        return value if isinstance(value, target) else target(value)

    def _parsed(self, text: EnvText) -> object:
        try:
            return self.parse(text)
        except ValueError:
            raise _unexpected(self.words, text) from None


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError from None


_BOOLEANS: dict[str, bool] = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}

_SCALARS: dict[type, _Scalar] = {
    bool: _Scalar("a boolean", (bool,), _boolean),
    int: _Scalar("an integer", (int,), int),
    float: _Scalar("a number", (int, float), float),
    str: _Scalar("a string", (str,), str),
    Path: _Scalar("a path, as a string", (str, Path), Path),
    datetime: _Scalar("a date and time", (datetime,), datetime.fromisoformat),
    date: _Scalar("a date", (date,), date.fromisoformat),
    time: _Scalar("a time of day", (time,), time.fromisoformat),
}


def _choose(value: object, options: Iterable[tuple[object, object]]) -> object:
    """The result that stands beside the option: for literals and enumerations."""
    spellings: list[str] = []
    for option, result in options:
        if value == option and type(value) is type(option):
            return result
        if isinstance(value, EnvText) and value == str(option):
            return result
        spellings.append(repr(option))
    raise MisfitError(f"expected one of {', '.join(spellings)}", value)


def _literal(value: object, target: Any) -> object:
    return _choose(value, [(option, option) for option in get_args(target)])


def _enumeration(value: object, target: type[Enum]) -> object:
    return _choose(value, [(member.value, member) for member in target])


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether the value is a table, for the type checkers too."""
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, (list, tuple))


def plain(value: object) -> Any:
    """The value without the environment's mark, for whoever takes anything."""
    if isinstance(value, EnvText):
        return str(value)
    if is_table(value):
        return {str(key): plain(inner) for key, inner in value.items()}
    if _is_array(value):
        return [plain(inner) for inner in value]
    return value


def as_table(value: object) -> dict[str, Any]:
    """The value, which has to be a table."""
    if is_table(value):
        return value
    raise _unexpected("a table", value)


def _as_array(value: object) -> Sequence[object]:
    if isinstance(value, EnvText):
        return [EnvText(part.strip(), value.source) for part in value.split(",") if part.strip()]
    if _is_array(value):
        return value
    raise _unexpected("an array", value)


def _each(values: Iterable[tuple[str, object, Any]]) -> list[Any]:
    """Fit every value to its target; what does not fit is told by its step, all at once."""
    results: list[Any] = []
    misfits: list[tuple[str, Exception]] = []
    for step, value, target in values:
        try:
            results.append(converter.structure(value, target))
        except Exception as error:
            misfits.append((step, error))
    if misfits:
        raise MisfitsError(misfits)
    return results


_ARRAYS: dict[Any, Callable[[Iterable[object]], object]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: tuple,
    Set: frozenset,
}


def _array_hook(target: Any) -> Hook:
    build = _ARRAYS[_origin(target)]
    arguments = get_args(target) or (Any, ...)
    if _origin(target) is tuple and arguments[1:] != (...,):
        return lambda value, _: build(_each(_fixed(_as_array(value), arguments)))
    return lambda value, _: build(_each(_repeated(_as_array(value), arguments[0])))


def _repeated(values: Sequence[object], target: Any) -> Iterator[tuple[str, object, Any]]:
    return ((f"[{index}]", value, target) for index, value in enumerate(values))


def _fixed(values: Sequence[object], targets: tuple[Any, ...]) -> Iterator[tuple[str, object, Any]]:
    if len(values) != len(targets):
        raise MisfitError(f"expected an array of {len(targets)}")
    steps = (f"[{index}]" for index in range(len(values)))
    return zip(steps, values, targets, strict=True)


_TABLES = (dict, Mapping, MutableMapping)


def _table_hook(target: Any) -> Hook:
    key_type, value_type = get_args(target) or (str, Any)

    def structure(value: object, _: object) -> dict[Any, Any]:
        table = as_table(value)
        keys = [converter.structure(key, key_type) for key in table]
        values = _each((f".{key}", inner, value_type) for key, inner in table.items())
        return dict(zip(keys, values, strict=True))

    return structure


def _union_hook(target: Any) -> Hook:
    members = [member for member in get_args(target) if member is not type(None)]
    if len(members) == 1:
        return lambda value, _: converter.structure(value, members[0])
    return lambda value, _: _first_fit(value, members, target)


def _first_fit(value: object, members: list[Any], target: Any) -> Any:
    for member in members:
        with suppress(Exception):
            return converter.structure(value, member)
    raise _unexpected(f"a value of the type {target}", value)


def _origin(target: Any) -> Any:
    return get_origin(target) or target


def _strict_converter() -> cattrs.Converter:
    """No type is converted into another, but an integer is a number too."""
    strict = cattrs.Converter(forbid_extra_keys=True)
    strict.register_structure_hook_factory(lambda target: _origin(target) in _ARRAYS, _array_hook)
    strict.register_structure_hook_factory(lambda target: _origin(target) in _TABLES, _table_hook)
    strict.register_structure_hook_factory(
        lambda target: _origin(target) in (Union, UnionType), _union_hook
    )
    strict.register_structure_hook_func(lambda target: _origin(target) is Literal, _literal)
    strict.register_structure_hook_func(lambda target: target is Any, lambda value, _: plain(value))
    for scalar, hook in _SCALARS.items():
        strict.register_structure_hook(scalar, hook)
    strict.register_structure_hook(Enum, _enumeration)
    return strict


converter = _strict_converter()
"""Every setting goes through this one."""
