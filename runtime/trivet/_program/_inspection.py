"""What is asked of the classes that were found, each alone and beside the others.

Owns the choice of the classes that become plugins and event types of a program.
Never knows settings; a class is refused here for how it is written, or for its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import attrs
import msgspec
import structlog

from .._events._event import (
    Event,
    MonitoringEvent,
    SendingEvent,
    where,
)
from .._events._types import EventTypes
from .._faults._errors import ConfigurationError, nearest
from .._on_asyncio._plugin import AsyncioPlugin
from .._plugins._hooks import misannotated, near_misses
from .._plugins._plugin import EventPlugin, Plugin
from .._plugins._routes import misfit, routes_of, unmarked_handler
from .._plugins._status import PluginStatusEvent
from ._finder import PACKAGE, Faults, Found, classes_within, is_within

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.frozen
class Instance:
    """A plugin of the program: a class, and what this one of it is called."""

    name: str
    """The class's own, unless the operator has given another."""
    cls: type[Plugin]
    """The author's class."""
    is_named: bool = False
    """Whether the operator has given the name, by `use`."""


def collect_plugins(found: Iterable[Found], given: Iterable[type[Plugin]]) -> list[Instance]:
    """The plugins of the modules, then those given, each of them fit to run.

    Raises:
        ConfigurationError: a class is unfinished, or two plugins have one name.
    """
    faults = Faults()
    instances: list[Instance] = []
    for one in found:
        with faults.collect():
            instances += _instances(one)
    instances += [Instance(cls.name, cls) for cls in given]
    for cls in dict.fromkeys(instance.cls for instance in instances):
        with faults.collect():
            _check_definition(cls)
    by_name: dict[str, Instance] = {}
    for instance in instances:
        with faults.collect():
            other = by_name.setdefault(instance.name, instance)
            if other != instance:
                raise ConfigurationError(
                    f"two plugins are named {instance.name!r}: "
                    f"{where(other.cls)} and {where(instance.cls)}"
                )
    faults.check()
    return list(by_name.values())


def _instances(found: Found) -> list[Instance]:
    """The module's plugins by their own names, or the one that was asked for by the name given."""
    classes = _activated(found)
    if found.instance is None:
        return [Instance(cls.name, cls) for cls in classes]
    by_name = {cls.name: cls for cls in classes}
    if found.plugin is None and len(classes) > 1:
        choices = ", ".join(repr(f"{found.name}.{name}") for name in sorted(by_name))
        raise ConfigurationError(
            f"{found.setting}: {found.name!r} has several plugins; write one of {choices}"
        )
    if found.plugin is not None and found.plugin not in by_name:
        raise ConfigurationError(
            f"{found.setting}: {found.name!r} has no plugin {found.plugin!r}: "
            f"{nearest(found.plugin, by_name)}"
        )
    cls = classes[0] if found.plugin is None else by_name[found.plugin]
    return [Instance(found.instance, cls, is_named=True)]


def _activated(found: Found) -> list[type[Plugin]]:
    """The module's plugins. What is unfinished there, and finished by a subclass, is a base."""
    defined = [cls for cls in classes_within(found.module) if issubclass(cls, Plugin)]
    classes = [
        cls
        for cls in defined
        if not cls.__name__.startswith("_")
        if _unfinished(cls) is None or len([sub for sub in defined if issubclass(sub, cls)]) == 1
    ]
    if not classes:
        raise ConfigurationError(
            f"{found.place}: no plugin is defined here: derive a class from EventPlugin, "
            "BackgroundPlugin or SourcePlugin"
        )
    return classes


def _unfinished(cls: type[Plugin]) -> str | None:
    missing = missing_methods(cls)
    if missing:
        written = [miss.written for miss in near_misses(cls) if miss.meant in missing]
        instead = f"; there is {', '.join(written)}, which Trivet does not call" if written else ""
        return f"still to be written: {', '.join(missing)}{instead}"
    if issubclass(cls, EventPlugin) and not cls.listens_to:
        return "it listens to nothing: derive it from EventPlugin[YourEvent], or set `listens_to`"
    return None


_TRIVETS_OWN = ("name", "needs", "supervision", "delivery", "listens_to")


def _check_definition(cls: type[Plugin]) -> None:
    fields = {field.name for field in settings_fields(cls)}
    taken = [name for name in _TRIVETS_OWN if name in fields]
    if taken:
        fault: str | None = (
            f"{taken[0]!r} has an annotation, so it would be a setting of the plugin's own; "
            f"write `{taken[0]} = …`"
        )
    elif "use" in fields:
        fault = "'use' is the operator's word for a plugin under another name: call it otherwise"
    elif not re.fullmatch(r"[\w-]+", cls.name):
        fault = f"a plugin's name has letters, digits, '-' and '_' only, not {cls.name!r}"
    elif isinstance(cls.needs, str):
        fault = f"`needs` is a tuple: write `needs = ({cls.needs!r},)`"
    elif issubclass(cls, AsyncioPlugin) and find_spec("trio_asyncio") is None:
        fault = "it runs on asyncio, for which an extra is missing: pip install 'trivet[asyncio]'"
    elif "__dataclass_fields__" in vars(cls):
        fault = "a plugin's fields are fields by themselves; take its decorator away"
    elif (handler := unmarked_handler(cls)) is not None:
        fault = f'no path leads to the handler class {handler}: write `@route("/…")` above it'
    else:
        fault = _unfinished(cls) or _misspelt(cls) or misannotated(cls, _listens_to(cls))
    if fault is not None:
        raise ConfigurationError(f"{where(cls)}: {fault}")


def _listens_to(cls: type[Plugin]) -> tuple[type[Event], ...]:
    return cls.listens_to if issubclass(cls, EventPlugin) else ()


def _misspelt(cls: type[Plugin]) -> str | None:
    """A method that is nearly one of those that Trivet calls; it warns of what may be another."""
    for miss in near_misses(cls):
        if miss.is_certain:
            return f"Trivet does not call {miss.written}(); did you mean {miss.meant!r}?"
        _log.warning(
            "nothing calls this method",
            method=miss.written,
            at=where(cls),
            hint=f"Trivet calls {miss.meant}()",
        )
    return None


def event_types_within(root: str) -> list[type[Event]]:
    """The event types that are defined in this module or below it; `_Private` ones are bases."""
    return [
        cls
        for cls in classes_within(root)
        if issubclass(cls, Event) and not cls.__name__.startswith("_")
    ]


def collect_event_types(
    given: Iterable[type[Event]], found: Iterable[Found], classes: Iterable[type[Plugin]]
) -> EventTypes:
    """Every event type of the program: LUNA's two, defined, given, or listened to.

    Of the plugins' directory that is all that was imported, the helpers of plugins included.
    """
    types = [MonitoringEvent, PluginStatusEvent, SendingEvent, *given]
    roots = [PACKAGE if is_within(one.module, PACKAGE) else one.module for one in found]
    for root in dict.fromkeys(roots):
        types += event_types_within(root)
    for cls in classes:
        if issubclass(cls, EventPlugin):
            types += [listened for listened in cls.listens_to if listened is not Event]
    known = EventTypes(list(dict.fromkeys(types)))
    for event in known.types:
        if not is_within(event.__module__, "trivet"):
            _warn_of_what_is_not_json(event)
    return known


def _warn_of_what_is_not_json(cls: type[Event]) -> None:
    """Tell of fields that no JSON can become: plugins can publish such an event, no client can."""
    for field in attrs.fields(cls):
        kinds = _not_from_json(cls, field.name)
        if kinds:
            _log.warning(
                "an event with this field cannot come as JSON",
                event_type=cls.__event_name__,
                field=field.name,
                type=kinds[0].__qualname__,
                at=where(cls),
                hint="use an attrs class, a dataclass or a msgspec.Struct",
            )


_PARTS = (msgspec.inspect.Type, msgspec.inspect.Field)


def _not_from_json(cls: type[Event], field: str) -> list[type]:
    """The classes in a field's type that msgspec does not know how to make."""
    found: list[type] = []
    seen: set[int] = set()  # A type may be within itself.
    info: Any = msgspec.inspect.type_info(cls)
    left: list[Any] = [each.type for each in info.fields if each.name == field]
    while left:
        part = left.pop()
        if isinstance(part, (list, tuple)):
            left += part
        elif isinstance(part, msgspec.inspect.CustomType):
            found.append(part.cls)
        elif id(part) not in seen and isinstance(part, _PARTS):
            seen.add(id(part))
            left += [getattr(part, name) for name in part.__struct_fields__]
    return found


_RESERVED = re.compile(r"/(livez|readyz|plugins(/[^/]+/restart)?|events(/[^/]+)?)/?")


def check_routes(instances: Iterable[Instance]) -> None:
    """Refuse a path and method that two declare, and the paths of Trivet itself.

    Two instances of one class that has routes are refused by that: no client could tell them apart.

    Raises:
        ConfigurationError: naming both.
    """
    taken: dict[tuple[str, str], str] = {}
    faults: dict[str, None] = {}
    for instance in instances:
        for route in routes_of(instance.cls):
            owner = f"{instance.name!r} ({where(instance.cls)}, {route.attribute})"
            fault = _fault_of(route.path)
            if fault is not None:
                faults[f"{owner} declares {route.path}, {fault}"] = None
            elif (fault := misfit(instance.cls, route)) is not None:
                faults[f"{owner}: {fault}"] = None
            for method in ("websocket",) if route.is_websocket else route.methods:
                other = taken.setdefault((_normal(route.path), method), owner)
                if other != owner:
                    faults[f"one route twice, {method} {route.path}: {other} and {owner}"] = None
    if faults:
        raise ConfigurationError("\n".join(faults))


def _fault_of(path: str) -> str | None:
    from werkzeug.routing import (  # noqa: PLC0415 - a program may have no routes
        Map,
        Rule,
    )

    known = Map.default_converters

    if _RESERVED.fullmatch(path):
        return "which is Trivet's own"
    for converter, variable in re.findall(r"<(\w+)(?:\([^<>]*\))?:(\w+)>", path):
        if converter not in known:
            hint = nearest(converter, known)
            if variable in known:
                hint = f"write `<{variable}:{converter}>`"
            return f"which is no path: no converter is named {converter!r}: {hint}"
    try:
        Map([Rule(path)])
    except (ValueError, LookupError, SyntaxError) as error:
        return f"which is no path: {error}"
    return None


def _normal(path: str) -> str:
    """The path with its variables' names left out, for they distinguish nothing."""
    return re.sub(r"<(?:([^:<>]*):)?[^<>]*>", lambda match: f"<{match[1] or 'string'}>", path)


def missing_methods(cls: type[Plugin]) -> list[str]:
    """The methods that the author still has to write, in alphabetical order."""
    missing = set(cls.__abstractmethods__)
    if all(_is_stock(cls, name) for name in ("run", "handle_event")):  # Either of them will do.
        missing.add("handle_event")
    return sorted(missing)


def _is_stock(cls: type[Plugin], name: str) -> bool:
    """Whether this method is as `EventPlugin` has it."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    return owner is EventPlugin


def settings_fields(cls: type[Plugin]) -> list[attrs.Attribute[Any]]:
    """The attrs fields that the operator may set."""
    fields: tuple[attrs.Attribute[Any], ...] = getattr(cls, "__attrs_attrs__")  # noqa: B009
    return [field for field in fields if field.init]
