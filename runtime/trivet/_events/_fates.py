"""What can become of an event at one subscriber.

Owns the one table of fates: whoever adds a fate adds a row, and its counter follows.
Never knows how a fate comes about.
"""

from __future__ import annotations

from enum import Enum


class Fate(Enum):
    """What became of an event at one subscriber; the later in this list, the worse.

    At every instant, what a subscriber has accepted is the sum of its ended and its alive
    events. What was rejected, or is unacceptable, was never accepted.
    """

    HANDLED = "handled"
    """Ended: the plugin asked for the next one."""
    FILTERED = "filtered"
    """Ended: the subscription's filter left it out."""
    DUPLICATE = "duplicate"
    """Ended: the subscriber has it already, by its source and id."""
    QUEUED = "queued"
    """Alive: waiting in the inbox."""
    IN_FLIGHT = "in_flight"
    """Alive: with the plugin."""
    BACKING_OFF = "backing_off"
    """Alive: its handler has failed, and it waits to be tried again."""
    EXPIRED = "expired"
    """Ended: its deadline was over before it was handled."""
    DROPPED = "dropped"
    """Ended: the inbox was full and its policy chose this one."""
    ABANDONED = "abandoned"
    """Ended: the plugin stopped for good, or ran out of time, with this one in memory."""
    DEAD_LETTERED = "dead_lettered"
    """Ended: given up, and put to the dead letters."""
    FAILED = "failed"
    """Ended: given up, with nowhere to keep it."""
    REJECTED = "rejected"
    """Never accepted: the inbox was full, or closed, or could not be written to."""
    UNACCEPTABLE = "unacceptable"
    """Never accepted, and never will be: the inbox cannot hold such an event, so that to publish it
    again is of no use. The outcome's `refusals` say why."""

    @property
    def alive(self) -> bool:
        """Whether something else can still become of it."""
        return self in ALIVE

    @property
    def accepted(self) -> bool:
        """Whether the subscriber took the event in."""
        return self not in REFUSED


# By identity: an Enum's own hash is that of its name, and takes longer than all the rest of a
# counter's update.
Fate.__hash__ = object.__hash__  # type: ignore[method-assign]

ALIVE = frozenset({Fate.QUEUED, Fate.IN_FLIGHT, Fate.BACKING_OFF})
REFUSED = frozenset({Fate.REJECTED, Fate.UNACCEPTABLE})
ENDED = frozenset(Fate) - ALIVE - REFUSED
GOOD = frozenset({Fate.HANDLED, Fate.FILTERED, Fate.DUPLICATE})
"""What a publisher need not worry about."""
SEVERITY = {fate: rank for rank, fate in enumerate(Fate)}
