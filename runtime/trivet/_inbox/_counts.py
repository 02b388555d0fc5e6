"""The table of one inbox: how many of its events came to which end.

Owns the counters that law 7 adds up: a fate that ends or refuses an event has exactly one.
Never knows where an event is; the inbox says how many are queued, in flight and backing off.
"""

from __future__ import annotations

import attrs

from .._events._fates import ALIVE, Fate


@attrs.frozen(kw_only=True)
class InboxStatistics:
    """One inbox at one instant.

    `accepted` is the sum of what follows it, up to and including `abandoned`.
    """

    accepted: int
    """Events taken in since the program started, and those that a durable inbox had then."""
    queued: int
    """Events that wait in the inbox now."""
    in_flight: int
    """Events that are with the plugin now."""
    backing_off: int
    """Events that wait now to be tried again after a failure."""
    handled: int
    """Events that ended because the plugin asked for the next one."""
    filtered: int
    """Events that ended because the filter left them out."""
    duplicate: int
    """Events that ended because the plugin has had them already."""
    failed: int
    """Events that ended because the handler raised once too often, or `run()` crashed with them in
    flight."""
    dead_lettered: int
    """Events that ended for the same reason, and are kept among the dead letters."""
    expired: int
    """Events that ended because the deadline was over before they were handled."""
    dropped: int
    """Events that the overflow policy ended."""
    abandoned: int
    """Events that ended because the plugin stopped for good with them in memory."""
    bytes: int
    """Memory of the events from outside that are queued, in flight or backing off now, by the
    estimates that were made before they were decoded."""
    rejected: int
    """Events refused, never accepted: the inbox was full or closed, or the store could not be
    written."""
    unacceptable: int
    """Events refused for good, never accepted: the inbox cannot hold such an event."""
    retried: int
    """Attempts that have failed, and were followed or will be followed by another."""
    timed_out: int
    """Attempts that have failed because they took longer than the handler's time limit."""


class Counts:
    """The counters of one inbox. Each is added to where its event comes to that end."""

    __slots__ = (
        "abandoned",
        "accepted",
        "bytes",
        "dead_lettered",
        "dropped",
        "duplicate",
        "expired",
        "failed",
        "filtered",
        "handled",
        "rejected",
        "retried",
        "timed_out",
        "unacceptable",
    )

    def __init__(self) -> None:
        self.accepted: int = 0
        self.handled: int = 0
        self.filtered: int = 0
        self.duplicate: int = 0
        self.failed: int = 0
        self.dead_lettered: int = 0
        self.expired: int = 0
        self.dropped: int = 0
        self.abandoned: int = 0
        self.rejected: int = 0
        self.unacceptable: int = 0
        self.retried: int = 0
        self.timed_out: int = 0
        self.bytes: int = 0
        """Memory of the events from outside that are inside; the only number here that falls."""

    def add(self, fate: Fate) -> None:
        """Count an event that has come to this fate."""
        name = COUNTERS[fate]
        setattr(self, name, getattr(self, name) + 1)

    def at(self, fate: Fate) -> int:
        """How many events have come to this fate."""
        count: int = getattr(self, COUNTERS[fate])
        return count

    def statistics(self, *, queued: int, in_flight: int, backing_off: int) -> InboxStatistics:
        """The table, with the events that are alive."""
        counted: dict[str, int] = {name: getattr(self, name) for name in self.__slots__}
        return InboxStatistics(
            queued=queued, in_flight=in_flight, backing_off=backing_off, **counted
        )


COUNTERS = {fate: fate.value for fate in Fate if fate not in ALIVE}
"""The counter of each fate that an event cannot leave."""
