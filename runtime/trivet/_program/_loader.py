"""Settings and classes, and the checked program that they make.

Owns the order of all checks, the graph of needs, and warnings about settings that nobody reads.
Never knows how plugins run; its result is data.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

import attrs
import structlog

from .._events._event import Event, source_of
from .._events._types import EventTypes
from .._faults._errors import ConfigurationError, nearest
from .._faults._masking import Secrets
from .._plugins._plugin import Plugin
from ._certificates import digest_of_files, server_context
from ._collector import Faults
from ._finder import Finder, NamedModule, import_named
from ._inspection import (
    NamedClass,
    check_routes,
    collect_event_types,
    collect_plugins,
    event_types_within,
    settings_fields,
)
from ._left_out import active_files, advice_about, leave_out
from ._not_imported import NotImported, check_not_imported, not_imported
from ._order import Levels, PluginNode, tier_of, tiers
from ._overlay import Written
from ._permissions import refuse_writable_code
from ._plugin_tables import CheckedPlugin, check_plugin, place_of_key
from ._secret_files import warn_of_readable_files
from ._settings import VARIABLES, Settings

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.frozen
class Program:
    """A program that has been checked, and can run."""

    settings: Settings
    """The operator's settings."""
    events: EventTypes
    """Every event type that the program knows."""
    plugins: tuple[CheckedPlugin, ...]
    """The plugins, in the order of their activation."""
    tiers: tuple[Levels, ...]
    """Names of plugins by tier, the background plugins' first, and by level; see `_order`."""
    needs: Mapping[str, tuple[str, ...]]
    """For each plugin, the names of the plugins that it needs."""
    tls: ssl.SSLContext | None = attrs.field(default=None, eq=False)
    """The certificate for the TCP addresses; None for plain HTTP."""
    tls_files: str | None = None
    """The SHA-256 of the files that it was read from; a certificate may be renewed in its place."""

    @property
    def homes(self) -> dict[str, str]:
        """For each plugin, the module or the package that has its code."""
        return {plugin.name: plugin.home for plugin in self.plugins}

    def secrets(self) -> Secrets:
        """The secrets of the settings: of the program's own, and of each plugin's."""
        secrets = Secrets()
        # The tables are hidden, and all the same not secret as a whole.
        secrets.of_instance(attrs.evolve(self.settings, plugins={}, written=Written()))
        for checked in self.plugins:
            secrets.names.add(checked.name)
            fields = settings_fields(checked.cls)
            given = {
                field.name: checked.values.get(field.alias or field.name, field.default)
                for field in fields
            }
            secrets.of_fields(fields, given)
        return secrets


def load(
    settings: Settings,
    *,
    plugins: Iterable[type[Plugin]] = (),
    event_types: Iterable[type[Event]] = (),
) -> Program:
    """Find, import and check everything that the settings activate.

    Args:
        settings: the operator's settings.
        plugins: classes to run besides the active plugins of the settings.
        event_types: types to know besides the types that the modules define.

    Raises:
        ConfigurationError: every fault that was found, a line each.
    """
    faults = Faults()
    program = check(settings, faults, plugins=plugins, event_types=event_types)
    faults.check()
    assert program is not None
    return program


def check(
    settings: Settings,
    faults: Faults,
    *,
    plugins: Iterable[type[Plugin]] = (),
    event_types: Iterable[type[Event]] = (),
    mounts: bool = True,
) -> Program | None:
    """Find, import and check everything, and go on after a fault.

    A module or a class with a fault leaves the program incomplete. Then nothing is checked that
    would report its absence as another fault.

    Args:
        settings: see `load`.
        faults: collects the faults.
        plugins: see `load`.
        event_types: see `load`.
        mounts: whether the modules of the plugins' directory are imported anew. Otherwise those
            that are there stay, and only the missing ones are imported.

    Returns:
        The program; None where anything has a fault.
    """
    own = Faults()
    modules, event_modules = _import_all(settings, own, mounts=mounts)
    named = collect_plugins(modules, plugins, own)
    if not own:
        named = leave_out([*named, *not_imported(settings, named)], settings, own)
    events: EventTypes | None = None
    if not own:
        classes = dict.fromkeys(plugin.cls for plugin in named)
        event_modules += modules
        with own.collect():
            events = collect_event_types(event_types, event_modules, classes, settings.open_events)
            if not settings.misses_files:  # The file that defines a name may be left out.
                _check_event_names(settings, events)
    checked: list[CheckedPlugin] = []
    for plugin in named:
        with own.collect():
            if plugin.cls is NotImported:
                checked.append(check_not_imported(plugin, settings))
            else:
                checked.append(check_plugin(plugin, settings, events))
    with own.collect():
        check_routes(named)
    nodes: list[PluginNode] = []
    by_tier: tuple[Levels, ...] = ()
    if events is not None:
        with own.collect():
            nodes = _nodes(named, settings)
            by_tier = tiers(nodes)
        with own.collect():
            _check_unread_settings(settings, named)
    tls: ssl.SSLContext | None = None
    tls_files: str | None = None
    with own.collect():
        tls_files = digest_of_files(settings.tls)  # Before they are read: then none is missed.
        tls = server_context(settings)
    if own or events is None:
        faults.add(own)
        return None
    keys = [] if tls is None else [settings.tls.key or settings.tls.certificate]
    warn_of_readable_files([settings, *(each.values for each in checked)], keys)
    needs = {node.name: node.needs for node in nodes}
    return Program(settings, events, tuple(checked), by_tier, needs, tls, tls_files)


def _import_all(
    settings: Settings, faults: Faults, *, mounts: bool
) -> tuple[list[NamedModule], list[NamedModule]]:
    """Import the modules of the active plugins, and the modules of `event_types`."""
    finder = Finder(settings.plugins_directory)
    if settings.active_plugins or settings.event_types:
        with faults.collect():
            directory = place_of_key(settings, "plugins_directory")
            refuse_writable_code(settings.plugins_directory, directory)
        if faults:
            return [], []  # None of that code may run.
        if mounts or not finder.is_mounted:
            with faults.collect():
                finder.mount()
    plugins: list[NamedModule] = []
    event_modules: list[NamedModule] = []
    event_types = place_of_key(settings, "event_types")
    for name in dict.fromkeys(settings.event_types):
        with faults.collect():
            module = finder.find_event_types(name, event_types)
            import_named(module)
            event_modules.append(module)
    for name in active_files(settings):
        with faults.collect():
            module = _find(name, finder, settings)
            import_named(module)
            plugins.append(module)
    for module in event_modules:
        with faults.collect():
            if not event_types_within(module.module):
                raise ConfigurationError(f"{event_types}: {module.name!r} defines no event type")
    return plugins, event_modules


def _find(name: str, finder: Finder, settings: Settings) -> NamedModule:
    """The module of an active name: the one that `use` in its table names, or that of the name."""
    table = settings.table(name)
    if "use" in table:
        setting = place_of_key(settings, f"plugins.{name}.use")
        return finder.find_used(name, table["use"], setting)
    return finder.find(name)


def _check_event_names(settings: Settings, events: EventTypes) -> None:
    named = [("open_events", name) for name in settings.open_events]
    named += [("event_rates", name) for name in settings.event_rates]
    for index, token in enumerate(settings.tokens):
        named += [(f"tokens[{index}].events", name) for name in token.events or ()]
    faults = [
        f"{place_of_key(settings, key)}: no event is named {name!r}: {nearest(name, events)}"
        for key, name in named
        if name not in events
    ]
    if faults:
        raise ConfigurationError("\n".join(faults))


def _check_unread_settings(settings: Settings, plugins: Sequence[NamedClass]) -> None:
    """Report settings without effect; a table of a plugin that is switched off is no fault."""
    for variable in settings.unknown_variables:
        _log.warning(
            "unknown environment variable", variable=variable, hint=nearest(variable, VARIABLES)
        )
    names = [plugin.name for plugin in plugins]
    used = [settings.table(name) for name in names]
    finder, faults = Finder(settings.plugins_directory), Faults()
    for section, table in settings.plugins.items():
        if any(table is known for known in used) or section in settings.left_out:
            continue
        if "use" in table:  # The table can mean no other plugin.
            _log.warning(
                "settings of a plugin that is not active",
                table=f"[plugins.{section}]",
                hint=nearest(section, names),
            )
            continue
        with faults.collect():
            key = place_of_key(settings, f"plugins.{section}")
            if section in settings.active_plugins and not settings.misses_files:
                own = [each.name for each in plugins if section in each.cls.__module__.split(".")]
                reason = "this is a file's name, and its plugins have others"
                raise ConfigurationError(f"{key}: {reason}: {nearest(section, own or names)}")
            is_misspelt = bool(get_close_matches(section, names)) and not finder.has(section)
            if is_misspelt and not settings.misses_files:
                raise ConfigurationError(f"{key}: no such plugin: {nearest(section, names)}")
    faults.check()


def _nodes(plugins: Iterable[NamedClass], settings: Settings) -> list[PluginNode]:
    active = {plugin.name: plugin.cls for plugin in plugins}
    faults = Faults()
    nodes: list[PluginNode] = []
    for name, cls in active.items():
        with faults.collect():
            needs = tuple(_resolve(name, need, active, settings) for need in cls.needs)
            nodes.append(PluginNode(name, tier_of(cls), needs))
    faults.check()
    return nodes


def _resolve(
    name: str, need: type[Plugin] | str, active: Mapping[str, type[Plugin]], settings: Settings
) -> str:
    """The name of a needed plugin.

    A class means the plugin with the class's own name, or else the only plugin of the class.
    """
    needed = need if isinstance(need, str) else need.name
    if not isinstance(need, str) and active.get(needed) is not need:
        same = [other for other, cls in active.items() if cls is need]
        if len(same) == 1:
            return same[0]
        if same:
            raise ConfigurationError(
                f"{name!r} needs {source_of(need)}, of which there are "
                f"{' and '.join(map(repr, same))}: name one of them in `needs`"
            )
    if needed not in active and settings.disabled_files:
        return next(iter(settings.disabled_files))  # It may be one of that file's.
    if needed not in active:
        raise ConfigurationError(
            f"{name!r} needs {needed!r}, which is not active: "
            + (advice_about(name, needed, settings) or nearest(needed, active))
        )
    if not isinstance(need, str) and active[needed] is not need:
        raise ConfigurationError(
            f"{name!r} needs {source_of(need)}, but the active {needed!r} is "
            f"{source_of(active[needed])}"
        )
    return needed
