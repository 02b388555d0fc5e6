"""An event's payload as JSON, written only if it can be read again.

Owns the search for values that JSON cannot express, and their paths in an event.
Never knows where the bytes go.

JSON has no NaN, which msgspec would write as null. In a field of the type `Any`, a tuple, a date or
a numeric key would come back as another type; a closer annotation brings it back as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

import attrs
import msgspec
import msgspec.inspect as kinds

from .._faults._containment import one_line, printable
from .._faults._errors import EventEncodeError
from ._event import Event

Fault = tuple[str, str]
"""A path below a value, and the reason why the part there cannot be written."""
Check = Callable[[Any], Fault | None]
"""A function that finds the first fault in a value."""

_encode = msgspec.json.Encoder().encode

LONGEST_PATH = 200
"""Characters of a path in a message; a longer path is cut."""


def encode_event(event: Event, *, exact: bool = False) -> bytes:
    """The payload as JSON.

    >>> class Measured(Event):
    ...     value: float | None
    >>> encode_event(Measured(0.5))
    b'{"value":0.5}'
    >>> encode_event(Measured(float("nan")))
    Traceback (most recent call last):
    trivet._faults._errors.EventEncodeError: measured: JSON has no such number: nan at $.value

    Args:
        event: the event to write.
        exact: whether values in fields of a type such as `Any` must be equal when they are read
            back. A tuple is not, since it comes back as a list.

    Raises:
        EventEncodeError: JSON cannot express the event; it names the path of the first such value.
    """
    return encode_with(event, event, exact=exact)


def encode_with(event: Event, whole: object, *, exact: bool = False) -> bytes:
    """Something as JSON that contains an event, with the same care; see `encode_event`.

    To write all at once takes half as long as to write the event, and then what is around it.
    """
    payload, fault = b"", None
    try:
        payload = _encode(whole)
        if exact or b"null" in payload:
            check = _check_of(type(event), exact)
            fault = None if check is None else check(event)
    except KeyboardInterrupt:  # Ctrl-C in a program of one's own.
        raise
    except BaseException as error:  # noqa: ASYNC103 - a value's own type may raise anything
        fault = _find_unwritable(event, error)
    if fault is None:
        return payload
    path = printable(f"${fault[0]}"[:LONGEST_PATH])
    raise EventEncodeError(event.__event_name__, path, fault[1])


_checks: dict[bool, dict[type[Event], Check | None]] = {True: {}, False: {}}


def _check_of(cls: type[Event], exact: bool) -> Check | None:
    """The check of an event type; None where the annotations of its fields make it needless."""
    checks = _checks[exact]
    if cls not in checks:
        json = _find_changed if exact else _find_non_finite
        checks[cls] = _Checks(json).of(kinds.type_info(cls))
    return checks[cls]


class _Checks:
    """The checks of types.

    Args:
        json: the check of values that may be any JSON.
    """

    def __init__(self, json: Check) -> None:
        self._json = json
        self._begun: dict[type, Check] = {}

    def of(self, kind: kinds.Type) -> Check | None:
        """The check of this type; None where all its values come back equal."""
        if isinstance(kind, kinds.Metadata):
            return self.of(kind.type)
        if not _is_json(kind):
            return self._of_richer_type(kind)
        if _mentions(kind, kinds.AnyType):
            return self._json
        return _find_non_finite if _mentions(kind, kinds.FloatType) else None

    def _of_richer_type(self, kind: kinds.Type) -> Check | None:
        """The check of a type, such as a class or a tuple, that JSON itself does not have."""
        match kind:
            case kinds.StructType() | kinds.DataclassType() | kinds.NamedTupleType():
                return self._of_object(kind.cls, kind.fields)
            case kinds.TypedDictType():
                return self._of_typed_dict(kind.fields)
            case kinds.UnionType():
                return self._of_union(kind.types)
            case kinds.TupleType():
                return _check_of_items([self.of(each) for each in kind.item_types])
            case kinds.DictType(value_type=part) | kinds.CollectionType(item_type=part):
                check = self.of(part)
                return check and _check_of_children(check)
            case _:
                return None

    def _of_object(self, cls: type, fields: Iterable[kinds.Field]) -> Check | None:
        if cls in self._begun:  # It contains itself.
            return self._begun[cls]
        checks: list[tuple[str, Check]] = []

        def check(value: object) -> Fault | None:
            for name, its_check in checks:
                if (fault := its_check(getattr(value, name))) is not None:
                    return f".{name}{fault[0]}", fault[1]
            return None

        self._begun[cls] = check
        checks += self._of_fields(fields)
        del self._begun[cls]
        return check if checks else None

    def _of_typed_dict(self, fields: Iterable[kinds.Field]) -> Check | None:
        checks = dict(self._of_fields(fields))

        def check_fields(value: Mapping[str, object]) -> Fault | None:
            found = [name for name in checks if name in value]
            return _first_fault((f".{name}", value[name], checks[name]) for name in found)

        return check_fields if checks else None

    def _of_fields(self, fields: Iterable[kinds.Field]) -> Iterable[tuple[str, Check]]:
        for field in fields:
            if (check := self.of(field.type)) is not None:
                yield field.name, check

    def _of_union(self, members: Iterable[kinds.Type]) -> Check | None:
        found = [(_python_types(member), self.of(member)) for member in members]
        checks = [(python_types, check) for python_types, check in found if check is not None]

        def check_member(value: object) -> Fault | None:
            for python_types, its_check in checks:
                if isinstance(value, python_types):
                    return its_check(value)
            return None

        return check_member if checks else None


def _is_json(kind: kinds.Type) -> bool:
    """Whether values of this type are plain JSON, so that one comparison checks all of a value."""
    match kind:
        case kinds.Metadata():
            return _is_json(kind.type)
        case kinds.ListType():
            return _is_json(kind.item_type)
        case kinds.DictType():
            is_text = isinstance(kind.key_type, (kinds.StrType, kinds.AnyType))
            return is_text and _is_json(kind.value_type)
        case kinds.UnionType():
            return any(isinstance(each, kinds.AnyType) for each in kind.types) or all(
                map(_is_json, kind.types)
            )
        case _:
            plain = (kinds.NoneType, kinds.BoolType, kinds.IntType, kinds.FloatType, kinds.StrType)
            return isinstance(kind, (kinds.AnyType, *plain))


def _mentions(kind: kinds.Type, wanted: type[kinds.Type]) -> bool:
    """Whether a type that `_is_json` contains this kind of type."""
    match kind:
        case kinds.Metadata():
            return _mentions(kind.type, wanted)
        case kinds.ListType():
            return _mentions(kind.item_type, wanted)
        case kinds.DictType():
            return any(_mentions(each, wanted) for each in (kind.key_type, kind.value_type))
        case kinds.UnionType():
            return any(_mentions(each, wanted) for each in kind.types)
        case _:
            return isinstance(kind, wanted)


def _python_types(kind: kinds.Type) -> type | tuple[type, ...]:
    """The classes of the values of a union's member."""
    match kind:
        case kinds.Metadata():
            return _python_types(kind.type)
        case kinds.StructType() | kinds.DataclassType() | kinds.NamedTupleType():
            return kind.cls
        case kinds.FloatType():
            return float
        case kinds.DictType() | kinds.TypedDictType():
            return dict
        case _:
            return (list, tuple, set, frozenset)


def _check_of_children(check: Check) -> Check:
    return lambda value: _first_fault((where, child, check) for where, child in _children(value))


def _check_of_items(checks: list[Check | None]) -> Check | None:
    def check(value: Iterable[object]) -> Fault | None:
        places = enumerate(zip(value, checks, strict=True))
        return _first_fault((f"[{place}]", each, look) for place, (each, look) in places if look)

    return check if any(checks) else None


def _first_fault(parts: Iterable[tuple[str, object, Check]]) -> Fault | None:
    """The first fault in any of these parts."""
    for where, part, check in parts:
        if (fault := check(part)) is not None:
            return f"{where}{fault[0]}", fault[1]
    return None


def _children(value: object) -> Iterable[tuple[str, object]]:
    """The direct parts of a value, with their paths."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        return ((f".{_name(key)}", child) for key, child in mapping.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        collection = cast("Iterable[object]", value)
        return ((f"[{place}]", child) for place, child in enumerate(collection))
    kind: type[Any] = type(value)
    names = [field.name for field in attrs.fields(kind)] if attrs.has(kind) else []
    return ((f".{name}", getattr(value, name)) for name in names)


def _name(key: object) -> str:
    """A key for messages, or its type where the key's own `__str__` might raise."""
    return str(key) if type(key) in (str, int, float) else f"<{type(key).__name__}>"


# Checks of values that may be any JSON.


def _find_non_finite(value: object) -> Fault | None:
    """The first NaN or infinity in a value."""
    if type(value) is float:
        return None if math.isfinite(value) else ("", f"JSON has no such number: {value}")
    if value is None or isinstance(value, (str, int)):
        return None
    written = msgspec.json.encode(value)
    if b"null" not in written or msgspec.json.decode(written) == value:
        return None
    return _first_fault((where, child, _find_non_finite) for where, child in _children(value))


def _find_changed(value: object) -> Fault | None:
    """The first part of a value that is not equal to itself when it is read back."""
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return None
    if kind is float:
        return _find_non_finite(value)
    read = msgspec.json.decode(msgspec.json.encode(value))
    if read == value:
        return None
    below = _first_fault((where, child, _find_changed) for where, child in _children(value))
    other = "another one" if type(read) is kind else f"a {type(read).__name__}"
    return below or ("", f"a {kind.__name__} comes back from JSON as {other}")


def _find_unwritable(value: object, error: BaseException) -> Fault:
    """The path of the part that cannot be written, and the reason."""
    if isinstance(error, RecursionError):
        return "", "nested too deeply"
    with suppress(Exception):  # Looking into the value may raise, too.
        for where, child in _children(value):
            try:
                msgspec.json.encode(child)
            except BaseException as its_error:  # noqa: ASYNC103 - a value's own
                fault = _find_unwritable(child, its_error)
                return f"{where}{fault[0]}", fault[1]  # noqa: ASYNC104
    return "", one_line(error)
