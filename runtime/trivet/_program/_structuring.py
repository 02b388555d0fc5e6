"""Raw tables, fitted strictly to attrs fields.

Owns the steps from a table to keywords, and the hints about keys.
Never knows the places of files, nor the meaning of a setting.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar, copy_context
from functools import partial
from inspect import get_annotations
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

import attrs

from .._events._event import owner_of, source_of
from .._events._event_class import qualified_name
from .._events._types import EventTypes
from .._faults._errors import ConfigurationError, nearest
from . import _values
from ._misfits import MisfitError, TableError, lines_about, without_value
from ._overlay import Written
from ._values import EnvText, converter, expected, is_table, unexpected

if TYPE_CHECKING:
    Field = attrs.Attribute[Any]


_program_keys: ContextVar[Collection[str]] = ContextVar("program_keys")
"""The keys at the top of the settings' file, for hints about a key that stands in a table."""
NO_HINTS: Mapping[str, str] = MappingProxyType({})


def _instance(value: object, cls: type) -> object:
    """The table as an instance of an attrs class."""
    values = _structured(cls, [field for field in attrs.fields(cls) if field.init], value)
    try:
        return cls(**values)
    except Exception as error:
        raise without_value(error, value) from error


converter.register_structure_hook_func(lambda t: isinstance(t, type) and attrs.has(t), _instance)


# A whole table: unknown keys, then each key's value, converter and validator.


def structure_fields(
    cls: type,
    fields: Iterable[Field],
    raw: object,
    *,
    key: str = "",
    file: Path | None = None,
    written: Written | None = None,
    events: EventTypes | None = None,
    program_keys: Collection[str] = (),
    hints: Mapping[str, str] = NO_HINTS,
) -> dict[str, Any]:
    """Fit a table to attrs fields: the keywords for the `__init__` that attrs wrote.

    A field with an attrs converter takes its value as it was written. Converters and validators
    are called, but no instance is made: their `self` has the settings and nothing else.

    Args:
        cls: the class of the fields.
        fields: the fields that may be set.
        raw: the table.
        key: the key of the table in the settings, for messages: `plugins.teapot`.
        file: the file that the settings were read from, for messages, and for names of files.
        written: the tables that were read, for messages.
        events: event types, which a field of the type `type[Event]` names; None while they are
            not all known, and any name is accepted.
        program_keys: the keys at the top of the settings' file, for hints.
        hints: by unknown keys of this table, hints that count over the nearest known key.

    Raises:
        ConfigurationError: one line for each fault.
    """
    context = copy_context()
    context.run(_values.events.set, events)
    context.run(_values.directory.set, Path() if file is None else file.parent)
    context.run(_program_keys.set, program_keys)
    try:
        return context.run(_structured, cls, fields, raw, hints)
    except (MisfitError, TableError) as error:
        raise ConfigurationError(
            "\n".join(lines_about(error, key, partial((written or Written()).place, file=file)))
        ) from error


def faulty_keys(error: ConfigurationError) -> list[str]:
    """The keys of the table that `structure_fields` has refused."""
    refused = error.__cause__
    return [*refused.faults] if isinstance(refused, TableError) else []


def _structured(
    cls: type, fields: Iterable[Field], raw: object, hints: Mapping[str, str] = NO_HINTS
) -> dict[str, Any]:
    if not is_table(raw):
        raise unexpected("a table", raw)
    draft = _Draft(cls, fields, raw, hints)
    draft.each(draft.read)
    draft.each(draft.convert)
    draft.each(draft.validate)
    return draft.finished()


class _Draft:
    """A table on its way to keywords. Each step treats all keys that had no fault so far."""

    def __init__(
        self, cls: type, fields: Iterable[Field], raw: dict[str, Any], hints: Mapping[str, str]
    ) -> None:
        self._cls, self._raw = cls, raw
        self._known = {field.alias or field.name: field for field in fields}
        self._values: dict[str, Any] = {}
        self._self = SimpleNamespace()  # The `self` of converters and validators.
        self._faults: dict[str, Exception] = {
            key: MisfitError(f"unknown key, {hints.get(key) or _hint(cls, key, self._known)}", key)
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
            target = Any if as_written else type_of(self._cls, field)
            self._values[key] = converter.structure(self._raw[key], target)
            return self._values[key]
        default: Any = field.default
        if default is attrs.NOTHING:
            raise _missing(self._cls, field, self._raw)
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


def _missing(cls: type, field: Field, table: Mapping[str, object]) -> MisfitError:
    """The fault of a required setting that is not given; it says the type, if there is one."""
    has_type = field.type is not None and getattr(field, "converter", None) is None
    right = f": expected {expected(type_of(cls, field))}" if has_type else ""
    given = [*table.values()]
    if given and all(isinstance(value, EnvText) for value in given):
        # No file has this table, so the fault is told of a variable that has made it.
        said = f"the table that it makes has no {field.alias or field.name!r}{right}"
        return MisfitError(said, given[-1])
    return MisfitError(f"required, but not set{right}")


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


def type_of(cls: type, field: Field) -> Any:
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
