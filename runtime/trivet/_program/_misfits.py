"""Faults of settings: a value that does not fit, a table with faults, and their messages.

Owns the errors, the path of each fault, and the line about it; no line contains a value, which may
be a secret.
Never knows how values are converted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cattrs.errors import AttributeValidationNote as AttributeNote
from cattrs.errors import (
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    StructureHandlerNotFoundError,
)
from cattrs.errors import IterableValidationNote as ElementNote

from .._faults._errors import ConfigurationError
from .._faults._masking import mask


class MisfitError(ValueError):
    """A value, or key, that does not fit. The message leaves the value out: it may be a secret."""

    def __init__(self, reason: str, value: object = None) -> None:
        super().__init__(reason)
        self.source: str = getattr(value, "source", "")
        """The environment variable that gave the value; empty for none."""


class TableError(ExceptionGroup[Exception]):  # noqa: ASYNC126 - no nursery has it to split
    """The faults of a table."""

    faults: dict[str, Exception]
    """The faults, by the keys of the table."""

    @classmethod
    def of(cls, faults: dict[str, Exception]) -> TableError:
        """The error for one fault or several."""
        error = cls("a table does not fit", [*faults.values()])
        error.faults = faults
        return error


_WITHOUT_VALUE = (MisfitError, ConfigurationError)
_CATTRS = (BaseValidationError, StructureHandlerNotFoundError)


def without_value(error: Exception, raw: object) -> Exception:
    """The fault of a setting; the message of an author's validator loses the value."""
    if isinstance(error, (*_WITHOUT_VALUE, *_CATTRS, TableError)):
        return error
    said = str(error.args[0]) if error.args else type(error).__name__
    if isinstance(raw, str):
        said = said.replace(repr(raw), "the given value")
    return MisfitError(mask(said), raw)  # The value may be a secret from a file.


def lines_about(error: Exception, key: str, place_of: Callable[[str], str]) -> Iterator[str]:
    """A line about each fault in an error, with the variable, or the file and the key.

    Args:
        error: the error of a table.
        key: the key of that table.
        place_of: says a key with the file that has it.
    """
    for path, fault in _faults(error, key):
        variable = getattr(fault, "source", "")  # The one that gave the wrong text, if one did.
        yield f"{variable or place_of(path.removeprefix('.'))}: {_message_of(fault)}"


def _faults(error: Exception, path: str) -> Iterator[tuple[str, Exception]]:
    """Every fault in an error, with its path: a table has keys, and cattrs notes each step."""
    if isinstance(error, TableError):
        for key, fault in error.faults.items():
            yield from _faults(fault, f"{path}.{key}")
    elif isinstance(error, (ClassValidationError, IterableValidationError)):
        noted, others = error.group_exceptions()
        for fault, note in noted:
            yield from _faults(fault, path + _step(note))
        for fault in others:
            yield path, fault
    else:
        yield path, error


def _step(note: AttributeNote | ElementNote) -> str:
    if isinstance(note, AttributeNote):
        return f".{note.name}"
    return f"[{note.index}]" if isinstance(note.index, int) else f".{note.index}"


def _message_of(fault: Exception) -> str:
    if isinstance(fault, _WITHOUT_VALUE):
        return str(fault)
    if isinstance(fault, StructureHandlerNotFoundError):
        return f"a setting cannot be of the type {fault.type_!r}"
    if isinstance(fault, ForbiddenExtraKeysError):
        return f"unknown keys: {', '.join(sorted(fault.extra_fields))}"
    if isinstance(fault, KeyError):  # A `TypedDict` or a dataclass lacks a key.
        return "required, but not set"
    return f"it cannot be read: {type(fault).__name__}"  # Its text may contain the value.
