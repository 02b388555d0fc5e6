"""The order in which plugins start, whose reverse is the order in which they stop.

Owns the three tiers, and the levels within a tier that follow from `needs`.
Never knows how a level is started or stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

import attrs

from .._faults._errors import ConfigurationError
from .._plugins._event_plugins import EventPlugin
from .._plugins._plugin import Plugin, SourcePlugin

BACKGROUND, EVENT, SOURCE = range(3)
"""The tiers, from the outermost, which starts first and stops last, to the innermost."""

_TITLES = ("background", "event", "source")

Levels = tuple[tuple[str, ...], ...]
"""Names of plugins, level by level. A level starts side by side, when all earlier ones have."""


@attrs.frozen
class PluginNode:
    """A plugin in the graph of needs."""

    name: str
    """The plugin's name."""
    tier: int
    """`BACKGROUND`, `EVENT` or `SOURCE`."""
    needs: tuple[str, ...] = ()
    """Names of the plugins that start before this one."""


def tier_of(plugin: type[Plugin]) -> int:
    """The tier of a plugin, by its class.

    >>> tier_of(SourcePlugin) == SOURCE
    True
    """
    if issubclass(plugin, EventPlugin):
        return EVENT
    return SOURCE if issubclass(plugin, SourcePlugin) else BACKGROUND


def tiers(nodes: Sequence[PluginNode]) -> tuple[Levels, ...]:
    """The levels of each tier; within a level the order of the nodes is kept.

    >>> disk = PluginNode("disk", BACKGROUND)
    >>> buffer = PluginNode("buffer", BACKGROUND, ("disk",))
    >>> tiers([PluginNode("export", EVENT, ("buffer",)), buffer, disk])
    ((('disk',), ('buffer',)), (('export',),), ())

    Raises:
        ConfigurationError: plugins need each other in a circle, or an outer tier an inner one.
    """
    _refuse_inward_needs(nodes)
    _refuse_cycles(nodes)
    return tuple(
        _levels([node for node in nodes if node.tier == tier])
        for tier in (BACKGROUND, EVENT, SOURCE)
    )


def _refuse_inward_needs(nodes: Sequence[PluginNode]) -> None:
    tier_by_name = {node.name: node.tier for node in nodes}
    faults = [
        f"{node.name!r} ({_TITLES[node.tier]} plugin) needs {need!r} "
        f"({_TITLES[tier_by_name[need]]} plugin), which starts later and stops earlier: needs "
        "point outwards, from source plugins to event plugins to background plugins"
        for node in nodes
        for need in node.needs
        if tier_by_name[need] > node.tier
    ]
    if faults:
        raise ConfigurationError("\n".join(faults))


def _refuse_cycles(nodes: Iterable[PluginNode]) -> None:
    try:
        TopologicalSorter({node.name: node.needs for node in nodes}).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        raise ConfigurationError(
            f"plugins need each other in a circle: {' → '.join(reversed(circle))}"
        ) from None


def _levels(nodes: Sequence[PluginNode]) -> Levels:
    order = {node.name: place for place, node in enumerate(nodes)}
    sorter = TopologicalSorter(
        {node.name: [need for need in node.needs if need in order] for node in nodes}
    )
    sorter.prepare()
    levels: list[tuple[str, ...]] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        levels.append(tuple(sorted(ready, key=order.__getitem__)))
        sorter.done(*ready)
    return tuple(levels)
