"""The classes that become plugins and event types of a program.

Owns the choice of the classes of a module, and the refusal of a class that is unfinished or
clashes with another. A class that is wrong on its own was refused earlier, when it was created:
`_definition` reads its body, and `_hooks` compares its names with Trivet's.
Never knows settings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from importlib.util import find_spec
from typing import Any

import attrs
import msgspec
import structlog

from .._events._event import Event, MonitoringEvent, SendingEvent, owner_of, place_of, source_of
from .._events._operator_action import OperatorActionEvent
from .._events._types import EventTypes
from .._faults._errors import ConfigurationError, nearest
from .._on_asyncio._plugin import AsyncioPlugin
from .._plugins._event_plugins import EventPlugin
from .._plugins._hooks import misannotated, near_misses
from .._plugins._plugin import Plugin
from .._plugins._routes import Route, fault_of_variables, handler_without_path, routes_of
from .._plugins._status import PluginStatusEvent
from ._collector import Faults
from ._finder import PACKAGE, NamedModule, classes_within, is_within

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.frozen
class NamedClass:
    """A plugin of the program: a class, and the name under which it runs."""

    name: str
    """The class's own name, unless the operator has given another."""
    cls: type[Plugin]
    """The author's class."""
    is_alias: bool = False
    """Whether the operator has given the name, by `use`."""


def collect_plugins(
    modules: Iterable[NamedModule], given: Iterable[type[Plugin]], faults: Faults
) -> list[NamedClass]:
    """The plugins of the modules, then the given classes, each of them fit to run.

    Args:
        modules: the modules.
        given: the classes.
        faults: collects the faults: a class that is unfinished, two plugins of one name.
    """
    plugins: list[NamedClass] = []
    for module in modules:
        with faults.collect():
            plugins += _plugins_of(module)
    plugins += [NamedClass(cls.name, cls) for cls in given]
    fit: set[type[Plugin]] = set()
    for cls in dict.fromkeys(plugin.cls for plugin in plugins):
        with faults.collect():
            _check_class(cls)
            fit.add(cls)
    by_name: dict[str, NamedClass] = {}
    for plugin in plugins:
        with faults.collect():
            other = by_name.setdefault(plugin.name, plugin)
            if other != plugin:
                raise ConfigurationError(
                    f"two plugins are named {plugin.name!r}: "
                    f"{source_of(other.cls)} and {source_of(plugin.cls)}"
                )
    return [plugin for plugin in by_name.values() if plugin.cls in fit]


def _plugins_of(module: NamedModule) -> list[NamedClass]:
    """The module's plugins under their own names, or the one with an alias."""
    classes = _activated(module)
    if module.alias is None:
        return [NamedClass(cls.name, cls) for cls in classes]
    by_name = {cls.name: cls for cls in classes}
    if module.plugin is None and len(classes) > 1:
        choices = ", ".join(repr(f"{module.name}.{name}") for name in sorted(by_name))
        raise ConfigurationError(
            f"{module.setting}: {module.name!r} has several plugins; write one of {choices}"
        )
    if module.plugin is not None and module.plugin not in by_name:
        raise ConfigurationError(
            f"{module.setting}: {module.name!r} has no plugin {module.plugin!r}: "
            f"{nearest(module.plugin, by_name)}"
        )
    cls = classes[0] if module.plugin is None else by_name[module.plugin]
    return [NamedClass(module.alias, cls, is_alias=True)]


def _activated(module: NamedModule) -> list[type[Plugin]]:
    """The module's plugin classes. An unfinished class with a subclass there is a base class."""
    defined = [cls for cls in classes_within(module.module) if issubclass(cls, Plugin)]
    classes = [
        cls
        for cls in defined
        if not cls.__name__.startswith("_")
        if _unfinished(cls) is None or len([sub for sub in defined if issubclass(sub, cls)]) == 1
    ]
    if not classes:
        raise ConfigurationError(
            f"{module.place}: no plugin is defined here: derive a class from EventPlugin, "
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


_CLASS_ATTRIBUTES = ("name", "needs", "supervision", "delivery", "listens_to")


def _check_class(cls: type[Plugin]) -> None:
    fields = {field.name for field in settings_fields(cls)}
    taken = [name for name in _CLASS_ATTRIBUTES if name in fields]
    if taken:
        fault: str | None = (
            f"{taken[0]!r} has an annotation, so it would be a setting of the plugin's own; "
            f"write `{taken[0]} = …`"
        )
    elif "use" in fields:
        fault = "'use' is the operator's word for a plugin under another name: choose another name"
    elif not re.fullmatch(r"[\w-]+", cls.name):
        fault = f"a plugin's name has letters, digits, '-' and '_' only, not {cls.name!r}"
    elif isinstance(cls.needs, str):
        fault = f"`needs` is a tuple: write `needs = ({cls.needs!r},)`"
    elif issubclass(cls, AsyncioPlugin) and find_spec("trio_asyncio") is None:
        fault = "it runs on asyncio, for which an extra is missing: pip install 'trivet[asyncio]'"
    elif "__dataclass_fields__" in vars(cls):
        fault = "a plugin's fields are fields by themselves; take its decorator away"
    elif (handler := handler_without_path(cls)) is not None:
        fault = f'no path leads to the handler class {handler}: write `@route("/…")` above it'
    else:
        fault = _unfinished(cls)
        if fault is None:
            _refuse_misspelt(cls)
            fault = misannotated(cls, _listens_to(cls))
    if fault is not None:
        raise ConfigurationError(f"{source_of(cls)}: {fault}")


def _listens_to(cls: type[Plugin]) -> tuple[type[Event], ...]:
    return cls.listens_to if issubclass(cls, EventPlugin) else ()


def _refuse_misspelt(cls: type[Plugin]) -> None:
    """Refuse a method that is surely misspelt; a doubtful one is logged as a warning."""
    for miss in near_misses(cls):
        place = f"{place_of(getattr(cls, miss.written))} ({cls.__qualname__}.{miss.written})"
        if miss.is_certain:
            raise ConfigurationError(
                f"{place}: Trivet does not call {miss.written}(); did you mean {miss.meant!r}?"
            )
        _log.warning(
            "nothing calls this method",
            method=miss.written,
            at=place,
            hint=f"Trivet calls {miss.meant}()",
        )


def event_types_within(root: str) -> list[type[Event]]:
    """The event types that the modules at and below `root` define; `_Private` ones are bases."""
    return [
        cls
        for cls in classes_within(root)
        if issubclass(cls, Event) and not cls.__name__.startswith("_")
    ]


def collect_event_types(
    given: Iterable[type[Event]],
    modules: Iterable[NamedModule],
    classes: Iterable[type[Plugin]],
    opened: Collection[str] = (),
) -> EventTypes:
    """The event types of the program: Trivet's own, given, defined in a module, or listened to.

    Every imported module of the plugins' directory counts, helpers of plugins included. `opened`
    names types that may come from outside although their classes say otherwise.

    Raises:
        ConfigurationError: two types have one name, or a type cannot be decoded from JSON.
    """
    given = list(given)
    for one in given:
        _check_event_class(one)
    types = [MonitoringEvent, OperatorActionEvent, PluginStatusEvent, SendingEvent, *given]
    roots = [PACKAGE if is_within(one.module, PACKAGE) else one.module for one in modules]
    for root in dict.fromkeys(roots):
        types += event_types_within(root)
    for cls in classes:
        if issubclass(cls, EventPlugin):
            types += [listened for listened in cls.listens_to if listened is not Event]
    known = EventTypes(list(dict.fromkeys(types)), opened)
    for event in known.types:
        if not is_within(event.__module__, "trivet"):
            _warn_of_fields_without_json(event)
    return known


def _check_event_class(given: object) -> None:
    if not (isinstance(given, type) and issubclass(given, Event)):
        raise ConfigurationError(
            f"event_types: {given!r} is no event class: open_runtime and open_plugins take "
            "classes; names of modules are for `event_types` in the settings"
        )


def _warn_of_fields_without_json(cls: type[Event]) -> None:
    """Warn of fields that JSON cannot fill: plugins can publish such an event, clients cannot."""
    for field in attrs.fields(cls):
        kinds = _not_from_json(cls, field.name)
        if kinds:
            _log.warning(
                "an event with this field cannot come as JSON",
                event_type=cls.__event_name__,
                field=field.name,
                type=kinds[0].__qualname__,
                at=source_of(cls),
                hint="use an attrs class, a dataclass or a msgspec.Struct",
            )


_PARTS = (msgspec.inspect.Type, msgspec.inspect.Field)


def _not_from_json(cls: type[Event], field: str) -> list[type]:
    """The classes in a field's type that msgspec cannot decode."""
    found: list[type] = []
    seen: set[int] = set()  # A type may contain itself.
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


_RESERVED = re.compile(
    r"/(livez|startupz|readyz|plugins|metrics|(open|async)api\.json|events(/[^/]+)?|sign-(in|out)|-(/.*)?)/?"
)


def check_routes(plugins: Iterable[NamedClass]) -> None:
    """Refuse a path and method that two plugins declare, and the paths of Trivet itself.

    A class with routes can therefore run once only: no client could tell two of it apart.

    Raises:
        ConfigurationError: it names both plugins.
    """
    taken: dict[tuple[str, str], tuple[NamedClass, Route]] = {}
    faults: dict[str, None] = {}
    for plugin in plugins:
        for route in routes_of(plugin.cls):
            own = plugin, route
            fault = _fault_of_path(route.path)
            if fault is not None:
                faults[f"{_declaration(*own)} declares {route.path}, {fault}"] = None
            elif (fault := fault_of_variables(plugin.cls, route)) is not None:
                faults[f"{_declaration(*own)}: {fault}"] = None
            for method in ("websocket",) if route.is_websocket else route.methods:
                other = taken.setdefault((_without_variable_names(route.path), method), own)
                if other is not own and _declaration(*other) != _declaration(*own):
                    both = f"{_declaration(*other)} and {_declaration(*own)}"
                    faults[f"one route twice, {method} {route.path}: {both}"] = None
    if faults:
        raise ConfigurationError("\n".join(faults))


def _declaration(plugin: NamedClass, route: Route) -> str:
    """The plugin and the attribute that declare a route, for messages."""
    return f"{plugin.name!r} ({source_of(plugin.cls)}, {route.attribute})"


def _fault_of_path(path: str) -> str | None:
    from werkzeug.routing import Map, Rule  # noqa: PLC0415 - a program may have no routes

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


def _without_variable_names(path: str) -> str:
    """The path without the names of its variables, which distinguish nothing."""
    return re.sub(r"<(?:([^:<>]*):)?[^<>]*>", lambda match: f"<{match[1] or 'string'}>", path)


def missing_methods(cls: type[Plugin]) -> list[str]:
    """The methods that the author still has to write, in alphabetical order."""
    missing = set(cls.__abstractmethods__)
    if all(_is_stock(cls, name) for name in ("run", "handle_event")):  # One of the two is enough.
        missing.add("handle_event")
    return sorted(missing)


def _is_stock(cls: type[Plugin], name: str) -> bool:
    """Whether the class has this method from `EventPlugin`."""
    return owner_of(cls, name) is EventPlugin


def settings_fields(cls: type[Plugin]) -> list[attrs.Attribute[Any]]:
    """The attrs fields that the operator may set, in the order of their definition."""
    fields: tuple[attrs.Attribute[Any], ...] = getattr(cls, "__attrs_attrs__")  # noqa: B009
    return [field for field in fields if field.init]
