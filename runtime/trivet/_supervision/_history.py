"""The last statuses of each plugin, as a program has seen them.

Owns what is kept of a transition, and for how long.
Never knows the cause of a transition; a reload keeps the history of a name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime

import attrs

from .._plugins._status import PluginStatusEvent, Status
from ._host import StatusChange

KEPT = 50
"""Transitions of one plugin that are kept."""
STARTS_KEPT = 1000
"""Moments at which one plugin was started that are kept: a crash loop has few transitions of each
minute in the history."""


@attrs.frozen
class PastStatus:
    """One status that a plugin has had, or has."""

    status: Status
    since: datetime
    reason: str | None
    """The failure, or the plugin's own words in `degrade`, in one line."""


class History:
    """The last transitions of each plugin."""

    def __init__(self) -> None:
        self._by_plugin: dict[str, deque[PastStatus]] = {}
        self._starts: dict[str, deque[datetime]] = {}

    def note(self, change: StatusChange) -> None:
        """Keep a transition, which has just been made."""
        host = change.host
        kept = self._by_plugin.setdefault(host.name, deque(maxlen=KEPT))
        kept.append(PastStatus(change.status, host.since, change.reason))
        if change.status is Status.STARTING:
            starts = self._starts.setdefault(host.name, deque(maxlen=STARTS_KEPT))
            starts.append(host.since)

    def of(self, plugin: str) -> Sequence[PastStatus]:
        """The transitions of a plugin, the earliest first."""
        return tuple(self._by_plugin.get(plugin, ()))

    def starts_since(self, plugin: str, moment: datetime) -> int:
        """The number of times that a plugin has been started since a moment."""
        return sum(each >= moment for each in self._starts.get(plugin, ()))


def event_of(change: StatusChange) -> PluginStatusEvent:
    """The event that tells other plugins of a transition."""
    host = change.host
    return PluginStatusEvent(
        plugin=host.name,
        status=change.status,
        previous=change.previous,
        reason=change.reason,
        restarts=host.restarts,
        critical=host.critical,
    )
