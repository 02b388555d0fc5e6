"""The fates of an event at one subscriber.

Owns the one table of fates: a new fate is a new row, and its counter follows.
Never knows how a fate comes about.
"""

from __future__ import annotations

from enum import Enum


class Fate(Enum):
    """The fate of an event at one subscriber; the later in this list, the worse.

    At every instant, the number of events that a subscriber has accepted is the sum of its ended
    and its alive events. Rejected and unacceptable events were never accepted.

    >>> Fate.HANDLED.alive, Fate.QUEUED.alive, Fate.REJECTED.accepted
    (False, True, False)
    """

    HANDLED = "handled"
    """Ended: the plugin has finished the event, and asked for the next one."""
    FILTERED = "filtered"
    """Ended: the subscription's filter left the event out."""
    DUPLICATE = "duplicate"
    """Ended: the subscriber has had an event with this source and id."""
    QUEUED = "queued"
    """Alive: waiting in the inbox."""
    IN_FLIGHT = "in_flight"
    """Alive: with the plugin."""
    BACKING_OFF = "backing_off"
    """Alive: its handler has failed, and the event waits for the next attempt."""
    EXPIRED = "expired"
    """Ended: its deadline was over before it was handled."""
    DROPPED = "dropped"
    """Ended: the inbox was full, and its policy chose this event."""
    ABANDONED = "abandoned"
    """Ended: the plugin stopped for good, or ran out of time, with this event in memory."""
    DEAD_LETTERED = "dead_lettered"
    """Ended: given up, and stored among the dead letters."""
    FAILED = "failed"
    """Ended: given up; an inbox in memory has no dead letters."""
    REJECTED = "rejected"
    """Never accepted: the inbox was full or closed, or its store could not be written."""
    UNACCEPTABLE = "unacceptable"
    """Never accepted, at any time: the inbox cannot hold such an event, and publishing it again is
    useless. The outcome's `refusals` give the reason."""

    @property
    def alive(self) -> bool:
        """Whether this fate may still change."""
        return self in ALIVE

    @property
    def accepted(self) -> bool:
        """Whether the subscriber took the event in."""
        return self not in REFUSED


# By identity: an Enum's own hash is that of its name, and takes longer than the rest of a counter's
# update.
Fate.__hash__ = object.__hash__  # type: ignore[method-assign]

ALIVE = frozenset({Fate.QUEUED, Fate.IN_FLIGHT, Fate.BACKING_OFF})
REFUSED = frozenset({Fate.REJECTED, Fate.UNACCEPTABLE})
ENDED = frozenset(Fate) - ALIVE - REFUSED
GOOD = frozenset({Fate.HANDLED, Fate.FILTERED, Fate.DUPLICATE})
"""Fates that need no action of the publisher."""
SEVERITY = {fate: rank for rank, fate in enumerate(Fate)}
