"""The parts of the reference that name what there is: public names, event types, connectors.

Owns the order of the public names, and which classes belong to a connector.
Never knows where these parts stand in the documents.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import attrs

import trivet
from trivet import (
    Event,
    MonitoringEvent,
    MonitoringPoint,
    OperatorActionEvent,
    Plugin,
    PluginStatusEvent,
    SendingEvent,
)
from trivet._program._inspection import settings_fields
from trivet._program._json_schema import attribute_docstrings

from .tables import default_of, keys, prose, table

TOPICS = {
    "_plugins": "What an author writes",
    "_on_asyncio": "What an author writes",
    "_events": "Events and deliveries",
    "_inbox": "Inboxes",
    "_runtime": "A running program",
    "_web": "A running program",
    "_loop": "A running program",
    "_program": "Settings",
    "_access": "Settings",
    "_faults": "Errors",
}
"""The topic of the names that each room defines, in the order of the page."""
MODULES = ("trivet.testing", "trivet.aio")
"""The public modules that stand on the page after `trivet`, before the connectors."""
OWN_EVENTS = (MonitoringEvent, SendingEvent, PluginStatusEvent, OperatorActionEvent)


def names() -> str:
    """Every public name, topic by topic, with the first paragraph of its docstring."""
    topics: dict[str, list[tuple[str, object]]] = {topic: [] for topic in TOPICS.values()}
    for name, thing in public(trivet):
        room = str(getattr(thing, "__module__", "")).split(".")[1]
        topics[TOPICS[room]].append((name, thing))
    parts = ["## trivet\n"]
    parts += [f"### {topic}\n\n{_names(found)}" for topic, found in topics.items()]
    connectors = sorted({_module_of(entry).__name__ for entry in _entry_points()})
    for name in (*MODULES, *connectors):
        module = import_module(name)
        parts.append(f"## {name}\n\n{prose(module)}\n\n{_names(public(module))}")
    return "\n".join(parts)


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The public classes and functions that a module or its package defines, by their names."""
    for name, thing in sorted(vars(module).items(), key=lambda pair: pair[0].lower()):
        if name.startswith("_") or not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        if f"{thing.__module__}.".startswith(f"{module.__name__}."):
            yield name, thing


def _names(found: Iterable[tuple[str, object]]) -> str:
    return table(["name", "what it is"], [[f"`{name}`", prose(thing)] for name, thing in found])


def events() -> str:
    """Trivet's own event types, and the point, with their fields."""
    parts = [
        f"## {cls.__event_name__}\n\n`{cls.__name__}`: {prose(cls)}\n\n{_fields(cls)}"
        for cls in OWN_EVENTS
    ]
    point = f"`{MonitoringPoint.__name__}`: {prose(MonitoringPoint)}\n\n{_fields(MonitoringPoint)}"
    return "\n".join([parts[0], point, *parts[1:]])


def _fields(cls: type[Event | MonitoringPoint]) -> str:
    about = attribute_docstrings(cls)
    rows = [
        [f"`{field.name}`", f"`{cls.__annotations__[field.name]}`", about[field.name]]
        for field in attrs.fields(cls)
    ]
    return table(["field", "type", "meaning"], rows)


def connectors() -> str:
    """The settings of the plugins that come with Trivet, by the names of their entry points."""
    return "\n".join(_connector(entry) for entry in _entry_points())


def _connector(entry: EntryPoint) -> str:
    def default(field: attrs.Attribute[Any]) -> str:
        return "required" if field.default is attrs.NOTHING else default_of(field)

    (cls,) = [
        thing
        for _, thing in public(_module_of(entry))
        if isinstance(thing, type) and issubclass(thing, Plugin) and thing.name == entry.name
    ]
    variables = f"In the environment: `TRIVET_PLUGINS__{entry.name.upper()}__` and the key"
    head = f"## {entry.name}\n\n{prose(cls)} {variables} in capitals.\n"
    return f"{head}\n{keys(cls, settings_fields(cls), default)}"


def _entry_points() -> list[EntryPoint]:
    found = entry_points(group="trivet.plugins")
    ours = [entry for entry in found if entry.value.startswith("trivet_contrib.")]
    return sorted(ours, key=lambda entry: entry.name)


def _module_of(entry: EntryPoint) -> ModuleType:
    """The public module of a connector, such as `trivet_contrib.redis`."""
    return import_module(".".join(entry.module.split(".")[:2]))
