"""From settings to a program: which plugins run, each with its settings, and in which order.

Owns every check that can be made before a plugin's instance exists.
Never knows how plugins run; what it returns is data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import attrs
import structlog

from .._events._delivery_settings import PARTITION_KEY, DeliveryPolicy, DeliverySettings
from .._events._event import Event, where
from .._events._filters import check_filter
from .._events._types import EventTypes
from .._faults._errors import ConfigurationError, nearest
from .._faults._frames import home_of
from .._plugins._plugin import BatchPlugin, EventPlugin, Plugin
from .._plugins._supervision_settings import SupervisionSettings
from ._finder import Faults, Finder, Found, import_found
from ._inspection import (
    Instance,
    check_routes,
    collect_event_types,
    collect_plugins,
    event_types_within,
    settings_fields,
)
from ._order import Levels, Node, tier_of, tiers
from ._settings import VARIABLES, Settings
from ._structuring import structure_fields

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.frozen
class PluginSpec:
    """One plugin of the program, before there is an instance."""

    name: str
    """The plugin's: its class's, or the operator's for one instance of the class."""
    cls: type[Plugin]
    """The author's class."""
    values: dict[str, Any]
    """The author's settings, as keywords for the `__init__` that attrs wrote."""
    delivery: DeliverySettings
    """The operator's over the author's; the event type's are still to come."""
    supervision: SupervisionSettings
    """The operator's over the author's."""
    listens_to: tuple[type[Event], ...]
    """The event types, base classes resolved; none for a plugin without an inbox."""

    @property
    def home(self) -> str:
        """The module in which the plugin's code is; the package, where that module is private."""
        return home_of(self.cls.__module__)


@attrs.frozen
class Program:
    """What is to run."""

    settings: Settings
    events: EventTypes
    """Every event type that the program knows."""
    plugins: tuple[PluginSpec, ...]
    """In the order in which they were activated."""
    tiers: tuple[Levels, ...]
    """Names by tier, the background plugins' first, and by level: see `_graph`."""
    needs: Mapping[str, tuple[str, ...]]
    """By a plugin's name, the names of those that it needs."""

    @property
    def homes(self) -> dict[str, str]:
        """By a plugin's name, the module or the package in which its code is."""
        return {spec.name: spec.home for spec in self.plugins}


def load(
    settings: Settings,
    *,
    plugins: Iterable[type[Plugin]] = (),
    event_types: Iterable[type[Event]] = (),
) -> Program:
    """Find, import and check everything that the settings activate.

    Args:
        settings: the operator's.
        plugins: classes to run besides the active plugins of the settings.
        event_types: types to know besides those that the modules define.

    Raises:
        ConfigurationError: every fault that was found, a line each.
    """
    found, event_modules = _import_all(settings)
    instances = collect_plugins(found, plugins)
    classes = dict.fromkeys(instance.cls for instance in instances)
    events = collect_event_types(event_types, [*event_modules, *found], classes)
    faults = Faults()
    specs: list[PluginSpec] = []
    for instance in instances:
        with faults.collect():
            specs.append(_spec(instance, settings, events))
    with faults.collect():
        check_routes(instances)
    nodes: list[Node] = []
    by_tier: tuple[Levels, ...] = ()
    with faults.collect():
        nodes = _nodes(instances)
        by_tier = tiers(nodes)
    with faults.collect():
        _check_what_nobody_reads(settings, instances)
    faults.check()
    needs = {node.name: node.needs for node in nodes}
    return Program(settings, events, tuple(specs), by_tier, needs)


def _import_all(settings: Settings) -> tuple[list[Found], list[Found]]:
    """The modules of the active plugins, and those of `event_types`."""
    finder = Finder(settings.plugins_directory)
    if settings.active_plugins or settings.event_types:
        finder.mount()
    faults = Faults()
    plugins: list[Found] = []
    event_modules: list[Found] = []
    for name in dict.fromkeys(settings.event_types):
        with faults.collect():
            event_modules.append(import_found(finder.find_event_types(name)))
    for name in dict.fromkeys(settings.active_plugins):
        with faults.collect():
            plugins.append(import_found(_found(name, finder, settings)))
    faults.check()
    for module in event_modules:
        if not event_types_within(module.module):
            raise ConfigurationError(f"event_types: {module.name!r} defines no event type")
    return plugins, event_modules


def _found(name: str, finder: Finder, settings: Settings) -> Found:
    """What an active name stands for: the plugin that its table says, or the file of the name."""
    table = settings.table(name)
    if "use" in table:
        return finder.find_instance(name, table["use"], _at(settings, f"plugins.{name}.use"))
    return finder.find(name)


def _spec(instance: Instance, settings: Settings, events: EventTypes) -> PluginSpec:
    name, cls = instance.name, instance.cls
    table = settings.table(name)
    author = {key: table[key] for key in table if key not in ("use", "delivery", "supervision")}
    faults = Faults()
    with faults.collect():
        if "use" in table and not instance.is_named:
            raise ConfigurationError(
                f"{_at(settings, f'plugins.{name}.use')}: {name!r} is {where(cls)} already; `use` "
                "is for further names in `active_plugins`"
            )
    values: dict[str, Any] = {}
    delivery, supervision = _NO_DELIVERY, cls.supervision
    listens_to: tuple[type[Event], ...] = ()
    with faults.collect():
        delivery = _delivery(instance, table, settings)
        listens_to = _listens_to(instance, delivery, events, settings)
        if listens_to:
            _check_delivery(instance, delivery, listens_to, settings)
    with faults.collect():
        if "supervision" in table:
            supervision = _supervision(instance, table["supervision"], settings)
    with faults.collect():
        key, fields = f"plugins.{name}", settings_fields(cls)
        values = structure_fields(cls, fields, author, key=key, file=settings.file, events=events)
    faults.check()
    return PluginSpec(name, cls, values, delivery, supervision, listens_to)


def _delivery(
    instance: Instance, table: Mapping[str, object], settings: Settings
) -> DeliverySettings:
    name, cls = instance.name, instance.cls
    key = f"plugins.{name}.delivery"
    if issubclass(cls, EventPlugin):
        if "delivery" not in table:
            return cls.delivery
        fields = attrs.fields(DeliverySettings)
        raw, file = table["delivery"], settings.file
        values = structure_fields(DeliverySettings, fields, raw, key=key, file=file)
        return DeliverySettings(**values).over(cls.delivery)
    if "delivery" in table:
        raise ConfigurationError(
            f"{_at(settings, key)}: {name!r} is not an event plugin: nothing is delivered to it"
        )
    return _NO_DELIVERY


_NO_DELIVERY = DeliverySettings()
_RETRIES = ("retry_initial", "retry_multiplier", "retry_max", "retry_for", "max_attempts")
_BATCHES = ("batch_size", "batch_age", "batch_bytes")


def _check_delivery(
    instance: Instance,
    delivery: DeliverySettings,
    listens_to: tuple[type[Event], ...],
    settings: Settings,
) -> None:
    """Refuse what these events do not have, and what this plugin would not heed."""
    name, cls = instance.name, instance.cls
    key = _at(settings, f"plugins.{name}.delivery")
    fields = {field.name for event in listens_to for field in attrs.fields(event)}
    ordering_key = delivery.ordering_key
    if ordering_key not in (None, PARTITION_KEY, *fields):
        raise ConfigurationError(
            f"{key}.ordering_key: no event that {name!r} listens to has a field "
            f"{ordering_key!r}: {nearest(str(ordering_key), [*fields, PARTITION_KEY])}"
        )
    if delivery.filter is not None:
        try:
            check_filter(delivery.filter, listens_to)
        except ConfigurationError as error:
            raise ConfigurationError(f"{key}.filter: {error}") from None
    policy = DeliveryPolicy.decide(delivery, *(event.__delivery__ for event in listens_to))
    for word in _RETRIES:
        if getattr(delivery, word) is not None and not policy.retry:
            raise ConfigurationError(f"{key}.{word}: nothing is tried again without `retry = true`")
    for word in _BATCHES:
        if getattr(delivery, word) is not None and not issubclass(cls, BatchPlugin):
            raise ConfigurationError(f"{key}.{word}: {name!r} is not a BatchPlugin")


def _supervision(instance: Instance, table: object, settings: Settings) -> SupervisionSettings:
    values = structure_fields(
        SupervisionSettings,
        attrs.fields(SupervisionSettings),
        table,
        key=f"plugins.{instance.name}.supervision",
        file=settings.file,
    )
    return attrs.evolve(instance.cls.supervision, **values)


def _listens_to(
    instance: Instance, delivery: DeliverySettings, events: EventTypes, settings: Settings
) -> tuple[type[Event], ...]:
    name, cls = instance.name, instance.cls
    if not issubclass(cls, EventPlugin):
        return ()
    types = {
        event.__event_name__: event
        for listened in cls.listens_to
        for event in events.matching(listened)
    }
    if delivery.events is None:
        return tuple(types.values())
    key = _at(settings, f"plugins.{name}.delivery.events")
    if not delivery.events:
        raise ConfigurationError(f"{key}: names no event; leave it out for all of them")
    chosen: list[type[Event]] = []
    for word in dict.fromkeys(delivery.events):
        event = events.get(word)
        if event is None:
            raise ConfigurationError(f"{key}: no event is named {word!r}: {nearest(word, events)}")
        if not issubclass(event, cls.listens_to):  # Some types have to be named.
            listens_to = ", ".join(types)
            raise ConfigurationError(f"{key}: {name!r} listens to {listens_to}, not to {word}")
        chosen.append(event)
    return tuple(chosen)


def _at(settings: Settings, key: str) -> str:
    return key if settings.file is None else f"{settings.file}: {key}"


def _check_what_nobody_reads(settings: Settings, instances: Sequence[Instance]) -> None:
    """Tell of what the operator has set in vain: that of a plugin that is switched off is not."""
    for variable in settings.unknown_variables:
        _log.warning(
            "unknown environment variable", variable=variable, hint=nearest(variable, VARIABLES)
        )
    names = [instance.name for instance in instances]
    used = [settings.table(name) for name in names]
    finder, faults = Finder(settings.plugins_directory), Faults()
    for section, table in settings.plugins.items():
        if any(table is known for known in used):
            continue
        if "use" in table:  # Nobody else can be meant than what would be started by it.
            _log.warning(
                "settings of a plugin that is not active",
                table=f"[plugins.{section}]",
                hint=nearest(section, names),
            )
            continue
        with faults.collect():
            key = _at(settings, f"plugins.{section}")
            if section in settings.active_plugins:
                own = [each.name for each in instances if section in each.cls.__module__.split(".")]
                reason = "this is a file's name, and its plugins have others"
                raise ConfigurationError(f"{key}: {reason}: {nearest(section, own or names)}")
            if get_close_matches(section, names) and not finder.has(section):
                raise ConfigurationError(f"{key}: no such plugin: {nearest(section, names)}")
    faults.check()


def _nodes(instances: Iterable[Instance]) -> list[Node]:
    active = {instance.name: instance.cls for instance in instances}
    faults = Faults()
    nodes: list[Node] = []
    for name, cls in active.items():
        with faults.collect():
            needs = tuple(_resolve(name, need, active) for need in cls.needs)
            nodes.append(Node(name, tier_of(cls), needs))
    faults.check()
    return nodes


def _resolve(name: str, need: type[Plugin] | str, active: Mapping[str, type[Plugin]]) -> str:
    """The name of a plugin that is needed.

    By its class, that is the one that has its class's own name, or the only one of the class.
    """
    needed = need if isinstance(need, str) else need.name
    if not isinstance(need, str) and active.get(needed) is not need:
        same = [other for other, cls in active.items() if cls is need]
        if len(same) == 1:
            return same[0]
        if same:
            raise ConfigurationError(
                f"{name!r} needs {where(need)}, of which there are {' and '.join(map(repr, same))}:"
                " name one of them in `needs`"
            )
    if needed not in active:
        raise ConfigurationError(
            f"{name!r} needs {needed!r}, which is not active: {nearest(needed, active)}"
        )
    if not isinstance(need, str) and active[needed] is not need:
        raise ConfigurationError(
            f"{name!r} needs {where(need)}, but the active {needed!r} is {where(active[needed])}"
        )
    return needed
