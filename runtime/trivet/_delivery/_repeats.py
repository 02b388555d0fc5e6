"""The events that a subscriber has had lately, so that a duplicate is not delivered to it again.

Owns the memory of sources and ids, and the publishers of duplicates that wait for the original.
Never knows inboxes. Only an event whose publisher gave it an id can have duplicates.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import islice

import trio

from .._events._delivery import Delivery, Identity, Receipt
from .._events._event import Event
from .._events._fates import GOOD, Fate

AT_MOST = 100_000
"""Events that one subscriber remembers, besides those in its memory; beyond that, the oldest are
forgotten before their time."""
REMEMBERED = GOOD | {Fate.DEAD_LETTERED}
HANDLED = Fate.HANDLED  # To look for an enum's member in a set takes a call.

Alive = Delivery[Event] | None
"""The mark of an event that has not ended: any, but a time."""


class Repeats:
    """The events that one subscriber has, or has had.

    Args:
        window: seconds for which an event is remembered after its end; 0 for not at all.
    """

    __slots__ = ("_first", "_followers", "_known", "_now", "_places", "mark", "window")

    def __init__(self, window: float) -> None:
        self.window: float
        self._known: dict[Identity, float | Alive] = {}
        """The time at which each is forgotten, or the mark of one that has not ended."""
        self.mark: Callable[[Identity, Delivery[Event]], object]
        """Marks an event as alive if it is not known, in one call that is not Python's; returns its
        mark, which is the given one only then."""
        # To find the first key of a plain dict takes a search through all deleted ones before it.
        self._places: deque[Identity] = deque()
        """Events that have ended, in the order of time; one that came again may have a place."""
        self._first = -math.inf
        """A time before which none of these is to be forgotten."""
        self._followers: dict[Identity, list[Receipt]] = {}
        """The receipts of the duplicates of events that are alive."""
        self._now: Callable[[], float] = self._first_look
        self.heed(window)

    def heed(self, window: float) -> None:
        """Remember events for `window` seconds after their end, from now on."""
        self.window = window
        self.mark = self._known.setdefault if window else _forgetful

    def _first_look(self) -> float:
        # Trio looks for the clock of its run each time, which takes as long as to read it.
        self._now = trio.lowlevel.current_clock().current_time
        return self._now()

    def knows(self, event: Identity) -> bool:
        """Whether the subscriber has it, or has had it within the window."""
        known = self._known.get(event, -math.inf)
        return not isinstance(known, float) or known > self._now()

    def admits(self, event: Identity, delivery: Delivery[Event]) -> bool:
        """Take in an event that is not known; says whether it was new."""
        if self.mark(event, delivery) is delivery:
            return True
        if self.knows(event):
            return False
        self._known[event] = delivery
        return True

    def take_in(self, event: Identity) -> None:
        """Note that the subscriber has the event from now on."""
        if self.window:
            self._known[event] = None
            self._make_room()

    def take_in_all(self, events: Iterable[Identity]) -> None:
        """Note that the subscriber has the events from now on."""
        if self.window:
            self._known.update(dict.fromkeys(events))
            self._make_room()

    def note(self, event: Identity, until: float) -> None:
        """Remember until `until` that the subscriber has had an event."""
        if isinstance(self._known.get(event, until), float):
            self._known[event] = until
            self._places.append(event)
            self._first = min(self._first, until)
            self._make_room()

    def follow(self, delivery: Delivery[Event], event: Identity, subscriber: str) -> None:
        """Tell the publisher of a duplicate how the original ends, once it does."""
        if isinstance(self._known.get(event, 0.0), float) or delivery.receipt is None:
            delivery.settle(subscriber, Fate.DUPLICATE)
        else:
            delivery.settle(subscriber, Fate.QUEUED)
            self._followers.setdefault(event, []).append(delivery.receipt)

    def ended(self, event: Identity, fate: Fate, subscriber: str) -> bool:
        """Note the end of an event; says whether it is forgotten.

        An event that was handled, or is kept among the dead letters, is not wanted again. Any other
        would be lost if its duplicate were not let in.
        """
        if self._followers:
            for receipt in self._followers.pop(event, ()):
                receipt.settle(subscriber, Fate.DUPLICATE if fate in GOOD else fate)
        if not self.window:
            return False
        if fate is not HANDLED and fate not in REMEMBERED:
            self._known.pop(event, None)
            return True
        now = self._now()
        if now >= self._first:
            self._forget_before(now)
        self._known[event] = now + self.window
        self._places.append(event)
        if len(self._places) > AT_MOST:
            self._forget_first()
        return False

    def handled_all(self, events: Collection[Identity], subscriber: str) -> None:
        """Note that events have ended together, which were handled."""
        if self._followers:
            for event in events:
                self.ended(event, HANDLED, subscriber)
        elif self.window:
            now = self._now()
            if now >= self._first:
                self._forget_before(now)
            self._known.update(dict.fromkeys(events, now + self.window))
            self._places.extend(events)
            for _ in range(len(self._places) - AT_MOST):
                self._forget_first()

    def keep(self, subscriber: str) -> None:
        """Tell the publishers of duplicates that the originals stay in the store for now."""
        for receipts in self._followers.values():
            for receipt in receipts:
                receipt.keep(subscriber)

    # To forget.

    def _forget_before(self, now: float) -> None:
        """Forget the events whose time is over."""
        while self._places:
            first = self._known.get(self._places[0])
            if isinstance(first, float) and first > now:
                self._first = first
                return
            self._forget_first()
        self._first = now + self.window

    def _make_room(self) -> None:
        """Forget the first of too many: of those that have ended, or else of all."""
        known = self._known
        while self._places and len(known) > AT_MOST:
            self._forget_first()
        if len(known) > AT_MOST:  # None has ended. Several at once, because of the search.
            for event in list(islice(known, 1 + AT_MOST // 64)):
                del known[event]

    def _forget_first(self) -> None:
        event = self._places.popleft()
        if isinstance(self._known.get(event), float):
            del self._known[event]


def _forgetful(_: Identity, delivery: Delivery[Event]) -> Delivery[Event]:
    """The mark of an event that nothing is remembered of."""
    return delivery
