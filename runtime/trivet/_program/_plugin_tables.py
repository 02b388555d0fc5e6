"""One plugin's table `[plugins.NAME]`, checked against its class.

Owns the three parts of a table (the author's settings, `delivery`, `supervision`), and how the
operator's values go over the author's.
Never knows the other plugins, nor how a plugin runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .._events._delivery_settings import PARTITION_KEY, DeliveryPolicy, DeliverySettings
from .._events._event import Event, source_of
from .._events._filters import check_filter
from .._events._types import EventTypes
from .._faults._errors import ConfigurationError, nearest
from .._faults._frames import home_of
from .._plugins._event_plugins import BatchPlugin, EventPlugin
from .._plugins._plugin import Plugin
from .._plugins._supervision_settings import SupervisionSettings
from ._collector import Faults
from ._inspection import NamedClass, settings_fields
from ._settings import PROGRAM_KEYS, Settings
from ._structuring import structure_fields


@attrs.frozen
class CheckedPlugin:
    """One plugin of the program whose class and settings are right, before it has an instance."""

    name: str
    """The name of the class, or the operator's for this one instance of the class."""
    cls: type[Plugin]
    """The author's class."""
    values: dict[str, Any]
    """The author's settings, as keywords for the `__init__` that attrs wrote."""
    delivery: DeliverySettings
    """The operator's values over the author's; the values of event types are still to come."""
    supervision: SupervisionSettings
    """The operator's values over the author's."""
    listens_to: tuple[type[Event], ...]
    """The event types, base classes resolved; none for a plugin without an inbox."""

    @property
    def home(self) -> str:
        """The module that has the plugin's code; the package, where that module is private."""
        return home_of(self.cls.__module__)


def check_plugin(
    plugin: NamedClass, settings: Settings, events: EventTypes | None
) -> CheckedPlugin:
    """Check a plugin's table against its class.

    Args:
        plugin: the plugin.
        settings: the operator's settings.
        events: the event types; None while they are not all known, and any name is accepted.

    Raises:
        ConfigurationError: every fault of the table, a line each.
    """
    name, cls = plugin.name, plugin.cls
    table = settings.table(name)
    author = {key: table[key] for key in table if key not in ("use", "delivery", "supervision")}
    faults = Faults()
    with faults.collect():
        if "use" in table and not plugin.is_alias:
            raise ConfigurationError(
                f"{place_of_key(settings, f'plugins.{name}.use')}: {name!r} is {source_of(cls)} "
                "already; `use` is for further names in `active_plugins`"
            )
    values: dict[str, Any] = {}
    delivery, supervision = _NO_DELIVERY, cls.supervision
    listens_to: tuple[type[Event], ...] = ()
    with faults.collect():
        delivery = _delivery(plugin, table, settings)
        if events is not None:
            listens_to = _listens_to(plugin, delivery, events, settings)
        if listens_to:
            _check_delivery(plugin, delivery, listens_to, settings)
    with faults.collect():
        if "supervision" in table:
            supervision = _supervision(plugin, table["supervision"], settings)
    with faults.collect():
        key, fields = f"plugins.{name}", settings_fields(cls)
        values = structure_fields(
            cls,
            fields,
            author,
            key=key,
            file=settings.file,
            written=settings.written,
            events=events,
            program_keys=PROGRAM_KEYS,
        )
    faults.check()
    return CheckedPlugin(name, cls, values, delivery, supervision, listens_to)


def place_of_key(settings: Settings, key: str) -> str:
    """A key with the file that has it, for messages; or the variable that gave it."""
    if key in settings.sources:
        return settings.sources[key]
    return settings.written.place(key, settings.file)


def _delivery(
    plugin: NamedClass, table: Mapping[str, object], settings: Settings
) -> DeliverySettings:
    name, cls = plugin.name, plugin.cls
    key = f"plugins.{name}.delivery"
    if issubclass(cls, EventPlugin):
        if "delivery" not in table:
            return cls.delivery
        fields = attrs.fields(DeliverySettings)
        values = structure_fields(
            DeliverySettings,
            fields,
            table["delivery"],
            key=key,
            file=settings.file,
            written=settings.written,
            program_keys=PROGRAM_KEYS,
        )
        return DeliverySettings(**values).over(cls.delivery)
    if "delivery" in table:
        raise ConfigurationError(
            f"{place_of_key(settings, key)}: {name!r} is not an event plugin: "
            "nothing is delivered to it"
        )
    return _NO_DELIVERY


_NO_DELIVERY = DeliverySettings()
_RETRIES = ("retry_initial", "retry_multiplier", "retry_max", "retry_for", "max_attempts")
_BATCHES = ("batch_size", "batch_age", "batch_bytes")


def _listens_to(
    plugin: NamedClass, delivery: DeliverySettings, events: EventTypes, settings: Settings
) -> tuple[type[Event], ...]:
    name, cls = plugin.name, plugin.cls
    if not issubclass(cls, EventPlugin):
        return ()
    types = {
        event.__event_name__: event
        for listened in cls.listens_to
        for event in events.matching(listened)
    }
    if delivery.events is None:
        return tuple(types.values())
    key = place_of_key(settings, f"plugins.{name}.delivery.events")
    if not delivery.events:
        raise ConfigurationError(f"{key}: names no event; leave it out for all of them")
    chosen: list[type[Event]] = []
    for word in dict.fromkeys(delivery.events):
        event = events.get(word)
        if event is None:
            raise ConfigurationError(f"{key}: no event is named {word!r}: {nearest(word, events)}")
        if not issubclass(event, cls.listens_to):  # `types` lacks events that must be named.
            listens_to = ", ".join(types)
            raise ConfigurationError(f"{key}: {name!r} listens to {listens_to}, not to {word}")
        chosen.append(event)
    return tuple(chosen)


def _check_delivery(
    plugin: NamedClass,
    delivery: DeliverySettings,
    listens_to: tuple[type[Event], ...],
    settings: Settings,
) -> None:
    """Refuse fields that these events do not have, and keys that this plugin would not heed."""
    name, cls = plugin.name, plugin.cls
    key = place_of_key(settings, f"plugins.{name}.delivery")
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


def _supervision(plugin: NamedClass, table: object, settings: Settings) -> SupervisionSettings:
    values = structure_fields(
        SupervisionSettings,
        attrs.fields(SupervisionSettings),
        table,
        key=f"plugins.{plugin.name}.supervision",
        file=settings.file,
        written=settings.written,
        program_keys=PROGRAM_KEYS,
    )
    return attrs.evolve(plugin.cls.supervision, **values)
