"""From a raw table to the values of attrs fields, and every fault with its key.

Owns what is asked of a table as a whole, and the messages.
Never knows where the files are, nor what the settings mean.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from inspect import get_annotations
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

import attrs
from cattrs.errors import (
    ClassValidationError,
    ForbiddenExtraKeysError,
    StructureHandlerNotFoundError,
)

from ._converter import MisfitError, MisfitsError, as_table, converter, plain
from ._errors import ConfigurationError, nearest
from ._events import place_of

if TYPE_CHECKING:
    Field = attrs.Attribute[Any]


def structure_fields(
    cls: type, fields: Iterable[Field], raw: object, *, key: str = "", file: Path | None = None
) -> dict[str, Any]:
    """Fit a table to attrs fields: the keywords for the `__init__` that attrs wrote.

    A field with an attrs converter takes its value as it was written. Validators are called, but
    no instance is made.

    Args:
        cls: the class whose fields they are.
        fields: those that may be set.
        raw: the table.
        key: where the table is in the settings, for messages: `plugins.teapot`.
        file: where the settings were read from, for messages.

    Raises:
        ConfigurationError: one line for each fault.
    """
    try:
        return _structure_fields(cls, list(fields), raw)
    except (MisfitError, MisfitsError) as error:
        raise ConfigurationError("\n".join(_lines(error, key, file))) from error


def _structure_fields(cls: type[Any], fields: list[Field], raw: object) -> dict[str, Any]:
    table = as_table(raw)
    known = {field.alias or field.name: field for field in fields}
    misfits: list[tuple[str, Exception]] = [
        (f".{key}", MisfitError(f"unknown key, {nearest(str(key), known)}", key))
        for key in table
        if key not in known
    ]
    draft: object = object.__new__(cls)  # A validator's self: the settings, and nothing done yet.
    values: dict[str, Any] = {}
    for alias, field in known.items():
        try:
            if alias in table:
                values[alias], seen = _fit(cls, field, table[alias], draft)
            else:
                seen = _default(field, draft)
        except Exception as error:
            misfits.append((f".{alias}", error))
        else:
            object.__setattr__(draft, field.name, seen)
    misfits += _refused(draft, {alias: known[alias] for alias in values}, table)
    if misfits:
        raise MisfitsError(misfits)
    return values


def _fit(cls: type, field: Field, raw: object, draft: object) -> tuple[Any, Any]:
    """The value that goes to attrs, and what its converter makes of it, if it has one."""
    if getattr(field, "converter", None) is None:
        value = converter.structure(raw, field_type(cls, field))
        return value, value
    value = plain(raw)
    try:
        return value, attrs.setters.convert(draft, field, value)
    except Exception as error:
        raise MisfitError(_without(raw, error), raw) from error


def _default(field: Field, draft: object) -> Any:
    default: Any = field.default
    if default is attrs.NOTHING:
        raise MisfitError("required, but not set")
    if not hasattr(default, "takes_self"):
        return default
    return default.factory(draft) if default.takes_self else default.factory()


def _refused(
    draft: object, given: Mapping[str, Field], table: Mapping[str, object]
) -> Iterator[tuple[str, Exception]]:
    for alias, field in given.items():
        try:
            attrs.setters.validate(draft, field, getattr(draft, field.name))
        except Exception as error:
            yield f".{alias}", MisfitError(_without(table[alias], error), table[alias])


def _without(raw: object, error: Exception) -> str:
    """What an author's validator says, less the text that it says it of."""
    said = str(error.args[0]) if error.args else type(error).__name__
    return said.replace(repr(raw), "what is given") if isinstance(raw, str) else said


def field_type(cls: type, field: Field) -> Any:
    """The type of a field, of which only this one annotation is evaluated.

    Raises:
        ConfigurationError: the annotation cannot be evaluated.
    """
    for owner in cls.__mro__:
        annotation = get_annotations(owner).get(field.name)
        if annotation is not None:
            break
    else:
        return Any if field.type is None else field.type
    holder = SimpleNamespace(__annotations__={field.name: annotation})
    module = getattr(sys.modules.get(owner.__module__), "__dict__", {})
    try:
        return get_type_hints(holder, module, dict(vars(owner)))[field.name]
    except Exception as error:
        raise ConfigurationError(
            f"{place_of(owner)}.{field.name}: its annotation cannot be evaluated: {error}"
        ) from error


# What does not fit, in words.


def _lines(error: Exception, key: str, file: Path | None) -> Iterator[str]:
    parts = list(_parts(error))
    for step, inner in parts:
        yield from _lines(inner, f"{key}{step}".removeprefix("."), file)
    if isinstance(error, MisfitError) and error.source is not None:
        yield f"{error.source}: {error}"
    elif not parts:
        yield f"{key}: {_reason(error)}" if file is None else f"{file}: {key}: {_reason(error)}"


def _parts(error: Exception) -> Iterator[tuple[str, Exception]]:
    """The errors in one of a whole table or array, each with its step from there."""
    if isinstance(error, MisfitsError):
        yield from error.parts
    elif isinstance(error, ClassValidationError):  # An author's dataclass or TypedDict.
        noted, others = error.group_exceptions()
        yield from ((f".{note.name}", inner) for inner, note in noted)
        yield from (("", inner) for inner in others)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "required, but not set"
    if isinstance(error, ForbiddenExtraKeysError):
        return f"unknown key, {', '.join(sorted(error.extra_fields))}"
    if isinstance(error, StructureHandlerNotFoundError):
        return f"a setting cannot be of the type {error.type_!r}"
    return str(error)


def _instance(value: object, cls: type) -> Any:
    fields = [field for field in attrs.fields(cls) if field.init]
    return cls(**_structure_fields(cls, fields, value))


converter.register_structure_hook_func(
    lambda target: isinstance(target, type) and attrs.has(target), _instance
)
