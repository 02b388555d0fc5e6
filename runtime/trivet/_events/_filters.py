"""The operator's `filter` of a subscription.

Owns the meaning of a filter, and the check of its paths.
Never knows who subscribes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import attrs

from .._faults._errors import ConfigurationError, nearest
from ._event import Event

Matches = Callable[[Event], bool]


def compile_filter(filter: Mapping[str, Any]) -> Matches:
    """Compile a filter: an event passes if each path leads to one of the path's values.

    A path goes into fields and keys of dictionaries, and through a list to any of its elements.

    >>> from trivet import SendingEvent
    >>> matches = compile_filter({"handler_id": ["h1", "h2"], "events.face": 1})
    >>> matches(SendingEvent([{"face": 1}], "h1", "a", "r", None, None))
    True
    >>> matches(SendingEvent([{"face": 2}], "h1", "a", "r", None, None))
    False
    """
    checks = [
        _check(path.split("."), value if _is_list(value) else [value])
        for path, value in filter.items()
    ]

    if len(checks) == 1:
        return checks[0]

    def matches(event: Event) -> bool:
        """Whether the event passes the filter."""
        for check in checks:  # noqa: SIM110 - `all` would take as long as a check again
            if not check(event):
                return False
        return True

    return matches


def _check(path: list[str], values: Sequence[object]) -> Matches:
    """The check of one path, which begins with a field."""
    field, *rest = path

    def check(event: Event) -> bool:
        """Whether the path leads to one of the values."""
        value: object = getattr(event, field, None)
        return any(found in values for found in _at(value, rest))

    def check_field(event: Event) -> bool:
        """Whether a field, which most paths are, has one of the values."""
        value: object = getattr(event, field, None)
        if isinstance(value, (list, tuple)):
            return check(event)
        return value in values

    return check if rest else check_field


def check_filter(filter: Mapping[str, Any], types: Iterable[type[Event]]) -> None:
    """Refuse a path whose first part is a field of no event type.

    Raises:
        ConfigurationError: naming the nearest right spelling.
    """
    fields = {field.name for event in types for field in attrs.fields(event)}
    if not filter:
        raise ConfigurationError("lets everything through; leave it out")
    for path in filter:
        first = path.partition(".")[0]
        if first not in fields:
            raise ConfigurationError(f"no event has a field {first!r}: {nearest(first, fields)}")


def _at(value: object, path: list[str]) -> Iterable[object]:
    if _is_list(value):
        for element in value:
            yield from _at(element, path)
    elif not path:
        yield value
    elif _is_mapping(value):
        if path[0] in value:
            yield from _at(value[path[0]], path[1:])
    elif attrs.has(type(value)):
        yield from _at(getattr(value, path[0], None), path[1:])


def _is_list(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(value, (list, tuple))


def _is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping)
