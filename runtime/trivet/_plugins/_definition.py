"""The body of an author's plugin class, read when the class is created.

Owns LUNA's spelling, the fields, and the events in brackets. A class body that is wrong on its
own is refused here; `_hooks` refuses names and methods that clash with Trivet's base classes, and
`_program._inspection` refuses, at load, a class that is unfinished or clashes with another.
Never knows instances.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import attrs

from .._events._event import Event
from .._events._event_class import qualified_name
from .._faults._errors import DefinitionError, refuse_shared_default
from ._hooks import SET_BY_TRIVET

LUNA_SPELLING = {
    "eventName": "EventPlugin[YourEvent], or `listens_to`",
    "handleEvent": "handle_event(self, event)",
    "flushPointToMonitoring": "flush_points(self, points), in a MonitoringPlugin",
    "sendEvents": "send_events(self, event), in an EventSendingPlugin",
    "addRoute": "@route(path) on a method or a Handler class",
    "addRoutes": "@route(path) on a method or a Handler class",
}
"""LUNA's names, and the way to write each of them here."""


def refuse_attrs_decorator(cls: type) -> None:
    """Raise for a class that an author's own `@attrs.define` has copied."""
    if "__attrs_attrs__" in cls.__dict__:
        raise DefinitionError(
            f"{qualified_name(cls)}: a plugin is an attrs class by itself; take its decorator away"
        )


def refuse_lunas_spelling(cls: type) -> None:
    """Raise for a name of LUNA's plugins, with the name that it has here."""
    used = set(cls.__dict__)
    for value in cls.__dict__.values():
        if isinstance(value, FunctionType):
            used |= {"addRoute", "addRoutes"}.intersection(value.__code__.co_names)
    for theirs, ours in LUNA_SPELLING.items():
        if theirs in used:
            raise DefinitionError(f"{qualified_name(cls)}: LUNA's {theirs!r} is here {ours}")


def refuse_wrong_policies(cls: type, **kinds: type) -> None:
    """Raise for a class attribute, such as `delivery`, whose value has not its class in `kinds`."""
    for name, kind in kinds.items():
        value = cls.__dict__.get(name)
        if value is not None and not isinstance(value, kind):
            raise DefinitionError(f"{qualified_name(cls)}: write `{name} = {kind.__name__}(…)`")


def only_settings(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Drop the attributes that Trivet sets, and keep private fields out of `__init__`."""
    for field in fields:
        refuse_shared_default(qualified_name(cls), field.name, field.default)
    return [
        field.evolve(init=False) if field.name.startswith("_") else field
        for field in fields
        if field.name not in SET_BY_TRIVET
    ]


def refuse_non_events(cls: type, listens_to: Iterable[object]) -> None:
    """Raise unless a plugin class listens to a tuple of event types."""
    if isinstance(listens_to, type):
        raise DefinitionError(
            f"{qualified_name(cls)}: `listens_to` is a tuple: write `({listens_to.__name__},)`"
        )
    for listened in listens_to:
        if not (isinstance(listened, type) and issubclass(listened, Event)):
            hint = "derive it from Event" if isinstance(listened, type) else "name a class"
            raise DefinitionError(
                f"{qualified_name(cls)} listens to {listened!r}: not an event type; {hint}"
            )


def events_in_brackets(cls: type, generic: type) -> tuple[Any, ...]:
    """The types in the brackets of `class …(generic[…])`, a union's members one by one."""
    for base in cls.__dict__.get("__orig_bases__", ()):
        origin = get_origin(base)
        if isinstance(origin, type) and issubclass(origin, generic):
            (argument,) = get_args(base)
            if isinstance(argument, TypeVar):
                return ()
            if get_origin(argument) in (Union, UnionType):
                return get_args(argument)
            return (argument,)
    return ()
