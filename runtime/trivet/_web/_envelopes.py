"""An event as an operator is shown it: the facts of its envelope, and its payload on demand.

Owns the names of the facts, and the size of a payload that is shown.
Never knows where the event is, nor who looks at it; secrets are masked for everybody.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sized
from typing import Any, cast

import attrs
import msgspec
import trio

from .._events._delivery import Delivery
from .._events._event import Event
from .._faults._containment import one_line, printable
from .._faults._masking import MASK, mask

LARGEST = 16 * 1024
"""Characters and values of the largest payload that is shown."""


class _TooLargeError(Exception):
    """A payload is larger than `LARGEST`."""


def describe_envelope(delivery: Delivery[Event]) -> dict[str, object]:
    """The facts of an envelope; those that it has not are left out. Each text is one line."""
    facts: dict[str, object] = {
        "id": printable(delivery.id),
        "type": delivery.event.__event_name__,
        "source": printable(delivery.source),
        "time": delivery.time,
        "attempt": delivery.attempt,
    }
    for name in ("key", "request_id", "traceparent"):
        value = getattr(delivery, name)
        if value is not None:
            facts[name] = printable(value)
    if delivery.deadline < math.inf:
        facts["expires_in"] = round(delivery.deadline - trio.current_time(), 3)
    return facts


def describe_payload(event: Event) -> dict[str, object]:
    """The payload as JSON has it, or else the reason why it is not shown.

    >>> class Paid(Event):
    ...     amount: float
    >>> describe_payload(Paid(9.5)), describe_payload(Paid(float("nan")))
    ({'payload': {'amount': 9.5}}, {'payload': {'amount': 'nan'}})
    """
    try:
        return {"payload": _Payload().of(event)}
    except _TooLargeError:
        return {"payload_left_out": f"it has more than {LARGEST} characters"}
    except Exception as error:  # A value's own type may raise anything.
        return {"payload_left_out": one_line(error)}


class _Payload:
    """One payload, of which no more than `LARGEST` is looked at."""

    def __init__(self) -> None:
        self._room = LARGEST

    def of(self, value: object) -> object:
        """A value in JSON's types; a hidden field's is masked."""
        self._take(1)
        match value:
            case None | bool():
                return value
            case int() | float():
                return _number(value)
            case str():
                return self._text(str.__str__(value))
            case Mapping():
                table = cast("Mapping[object, object]", value)
                return {self._key(key): self.of(each) for key, each in table.items()}
            case list() | tuple() | set() | frozenset():
                return [self.of(each) for each in cast("Iterable[object]", value)]
            case _:
                shown = _fields_of(value)
                return self._converted(value) if shown is None else self._object(value, shown)

    def _key(self, key: object) -> str:
        return self._text(str.__str__(key)) if isinstance(key, str) else self._converted(key)

    def _converted(self, value: object) -> str:
        """A value as text. One of many items is too large before it is converted."""
        if isinstance(value, Sized) and len(value) > self._room:
            raise _TooLargeError
        return self._text(str(value))

    def _object(self, value: object, shown: Mapping[str, bool]) -> dict[str, object]:
        return {
            name: self.of(getattr(value, name)) if is_shown else MASK
            for name, is_shown in shown.items()
        }

    def _text(self, text: str) -> str:
        self._take(len(text))
        return mask(text).encode("utf-8", "backslashreplace").decode()

    def _take(self, room: int) -> None:
        self._room -= room
        if self._room < 0:
            raise _TooLargeError


def _number(value: float) -> int | float | str:
    """A number of one of Python's own types, or its text where JSON has no such number."""
    if isinstance(value, int):
        whole = int.__int__(value)
        return whole if -(2**63) <= whole < 2**64 else str(whole)
    number = float.__float__(value)
    return number if math.isfinite(number) else str(number)


def _fields_of(value: object) -> Mapping[str, bool] | None:
    """The names of an object's fields, and whether each is shown; None where it has no fields."""
    kind: type[Any] = type(value)
    if attrs.has(kind):  # An event is one, too.
        return {each.name: each.repr is True for each in attrs.fields(kind)}
    if isinstance(value, msgspec.Struct):
        return dict.fromkeys(value.__struct_fields__, True)
    if dataclasses.is_dataclass(value):
        return {each.name: each.repr for each in dataclasses.fields(value)}
    return None
