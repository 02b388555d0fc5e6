"""The fast path through an inbox: of events that need no care, put in and handled without a call.

Owns the switch of the path, and the slots of the workers on it.
Never knows why care may be needed: each part of an inbox closes the path for its own reason.

Two places take the path: `Admission.offer` puts events in, of which `Bus.offer` and, for the only
subscriber, `Publisher.publish` have a copy inline, since its call would cost as much as the rest;
`_workers.handle_plain` handles them. They do all in one what the inbox does with care; tests
compare the two after every step.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from .._events._delivery import Delivery, Identity
from .._events._event import Event
from ._counts import Counts
from ._latencies import TIMED_EVERY, Latencies, Sampling
from ._readers import Readers


class Slot:
    """The event that one worker is handling.

    It is not among the others in flight, so that a worker that goes on to the next event writes
    nothing else. Whoever ends or keeps it meanwhile takes it out, and says so.
    """

    __slots__ = (
        "delivery",
        "is_late",
        "needs_care",
        "sampling",
        "since",
        "untimed",
        "was_taken",
    )

    def __init__(self) -> None:
        self.delivery: Delivery[Any] | None = None
        self.since: float = math.inf
        """The time at which it was handed out; 0 where the path is not timed, and infinity while
        nothing is handled."""
        self.was_taken: bool = False
        """Whether the event was ended or kept while its handler ran, or is late; the worker resets
        it."""
        self.needs_care: bool = False
        """Whether the event has to be looked at when it was handled: it is not plain, was taken, or
        the path was closed meanwhile; the worker resets it."""
        self.is_late: bool = False
        """Whether the handler was cancelled, since it took too long."""
        self.untimed: int = TIMED_EVERY - 1
        """Events to handle before the next one that is timed for others."""
        self.sampling: Sampling = Sampling()
        """The choice of the events that are timed."""

    def take(self) -> None:
        """Take the event out."""
        self.delivery = None
        self.was_taken = self.needs_care = True

    def cut_off(self) -> None:
        """Note that the handler was cancelled, since it took too long; the event stays."""
        self.is_late = self.was_taken = self.needs_care = True


class FastPath:
    """The shared part of one inbox.

    Args:
        plugin: the subscriber's name.
        ready: the inbox's events, in order.
        readers: the readers that wait.
        counts: the inbox's.
        buffer: how many events may wait; None for no such limit.
        is_timed: whether the length of an attempt matters.
        mark: marks an event that has an id, and is not known, as taken in; returns the mark.
        stay: puts an event that its worker has left among the others in flight, with the time at
            which it was handed out.
    """

    __slots__ = (
        "_reasons",
        "buffer",
        "counts",
        "finish",
        "is_open",
        "is_timed",
        "latencies",
        "mark",
        "parked",
        "plugin",
        "readers",
        "ready",
        "room",
        "slots",
        "stay",
    )

    def __init__(
        self,
        plugin: str,
        *,
        ready: deque[Delivery[Any]],
        readers: Readers,
        counts: Counts,
        buffer: int | None,
        is_timed: bool,
        mark: Callable[[Identity, Delivery[Event]], object],
        stay: Callable[[Delivery[Event], float], None],
    ) -> None:
        self.plugin: str = plugin
        self.ready: deque[Delivery[Any]] = ready
        self.readers: Readers = readers
        self.parked: deque[trio.lowlevel.Task] = readers.parked
        self.counts: Counts = counts
        self.buffer: int
        self.is_timed: bool
        self.mark: Callable[[Identity, Delivery[Event]], object]
        self.finish: Callable[[Delivery[Event]], None]
        """Ends an event that was handled, and is not plain; the inbox sets it."""
        self.stay: Callable[[Delivery[Event], float], None] = stay
        self.latencies: Latencies = Latencies()
        """The latencies of the inbox's events, on the path and off it."""
        self.slots: list[Slot] = []
        """The slots of the workers on the path."""
        self.is_open: bool = True
        """Whether the order is all that has to be minded, for events that are plain too."""
        self.room: int = 0
        """Events that may wait while another one is only to be put behind them: none while the path
        is closed, or a reader is to be woken."""
        self._reasons: set[str] = set()
        readers.on_change = self._decide
        self.heed(buffer, is_timed=is_timed, mark=mark)

    def heed(
        self,
        buffer: int | None,
        *,
        is_timed: bool,
        mark: Callable[[Identity, Delivery[Event]], object],
    ) -> None:
        """Go by these arguments from now on; see the class."""
        self.buffer = sys.maxsize if buffer is None else buffer
        self.is_timed = is_timed
        self.mark = mark
        self._decide()

    def mind(self, reason: str, is_so: bool) -> None:
        """Close the path for a reason, or open it again where that was the last one."""
        if is_so:
            self._reasons.add(reason)
        else:
            self._reasons.discard(reason)
        self.is_open = not self._reasons
        for slot in self.slots:
            slot.needs_care = True
        self._decide()

    def _decide(self) -> None:
        self.room = self.buffer if self.is_open and not self.parked else 0

    def enter(self, slot: Slot) -> Slot:
        """Add the slot of a worker that enters the path."""
        self.slots.append(slot)
        return slot

    def leave(self, slot: Slot) -> None:
        """Remove the slot of a worker that leaves the path; its event stays in flight."""
        self.slots.remove(slot)
        if slot.delivery is not None:
            self.stay(slot.delivery, slot.since)
