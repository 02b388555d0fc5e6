"""The event types of a program whose code is reloaded: which class follows which.

Owns whether the events of the old class fit the new one, and how one is carried over.
Never knows where events are queued.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .._faults._errors import EventDecodeError, EventEncodeError
from ._event import Event
from ._payloads import encode_event
from ._types import EventTypes


def successors(old: EventTypes, new: EventTypes) -> dict[type[Event], type[Event]]:
    """The new class of each old one that has been replaced, by the name that both have."""
    found: dict[type[Event], type[Event]] = {}
    for cls in old.types:
        other = new.get(cls.__event_name__)
        if other is not None and other is not cls:
            found[cls] = other
    return found


def carried(event: Event, cls: type[Event], types: EventTypes) -> Event:
    """An event of an old class as one of the new class, which `types` knows.

    Raises:
        EventDecodeError: it does not fit the new class.
        EventEncodeError: it cannot be written.
    """
    return types.decode(cls, encode_event(event))


def renewed(event: Event, types: EventTypes) -> Event:
    """The event as one of the class that its name has by now; itself where that does not fit."""
    cls = types.get(event.__event_name__)
    if cls is None or cls is type(event):
        return event
    try:
        return carried(event, cls, types)
    except UNCARRIABLE:
        return event


def misfit(old: type[Event], new: type[Event]) -> str | None:
    """The reason why stored events of an old class may not fit the new one; None if all do.

    >>> class Placed(Event, name="placed"):
    ...     number: int
    >>> class PlacedAnew(Event, name="placed"):
    ...     number: int
    ...     note: str = ""
    >>> misfit(Placed, PlacedAnew), misfit(PlacedAnew, Placed)
    (None, None)
    >>> class Renumbered(Event, name="placed"):
    ...     number: str
    >>> misfit(Placed, Renumbered)
    "its field 'number' has another type"
    """
    before, after = _schema(old), _schema(new)
    known = before[0].get("properties", {})
    for name, schema in after[0].get("properties", {}).items():
        if name not in known:
            if name in after[0].get("required", ()):
                return f"its field {name!r} is new, and has no default"
        elif _typed(known[name], before[1]) != _typed(schema, after[1]):
            return f"its field {name!r} has another type"
    return None


def _schema(cls: type[Event]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of the class, and the schemas of the types within."""
    whole: dict[str, Any] = msgspec.json.schema(cls, schema_hook=lambda _: {})
    others: dict[str, Any] = dict(whole.get("$defs", {}))
    own = others.pop(str(whole.get("$ref", "")).rpartition("/")[2], whole)
    return own, others


def _typed(schema: Mapping[str, Any], others: Mapping[str, Any]) -> tuple[object, object]:
    """The type of a field, apart from its default, with what it refers to."""
    own = {key: value for key, value in schema.items() if key not in ("default", "description")}
    return own, others if "$ref" in str(own) else None


UNCARRIABLE = (EventDecodeError, EventEncodeError)
"""The errors of an event that cannot be carried over."""
