"""The events that a subscriber has had lately, so that a duplicate is not delivered to it again.

Owns the memory of sources and ids, and the publishers of duplicates that wait for the original.
Never knows inboxes. Only an event whose publisher gave it an id can have duplicates.
"""

from __future__ import annotations

from collections import deque

import trio

from .._events._delivery import Delivery, Receipt
from .._events._event import Event
from .._events._fates import GOOD, Fate

AT_MOST = 100_000
"""Events that one subscriber remembers; beyond that, the oldest are forgotten before their time."""
REMEMBERED = GOOD | {Fate.DEAD_LETTERED}
HANDLED = Fate.HANDLED  # To look for an enum's member in a set takes a call.

Identity = tuple[str, str]
"""An event's source and id."""


def identity(delivery: Delivery[Event]) -> Identity | None:
    """The source and id of an event; None if its publisher gave it no id."""
    given = delivery.given_id
    return None if given is None else (delivery.source, given)


class Repeats:
    """The events that one subscriber has had.

    Args:
        window: seconds for which an event is remembered after it came.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self._until: dict[Identity, float] = {}
        """The time at which each is forgotten, if it is not alive then."""
        # To find the first key of a plain dict takes a search through all deleted ones before it.
        self._places: deque[tuple[float, Identity]] = deque()
        """The same in the order of time, with some that were forgotten before their turn."""
        self._alive: set[Identity] = set()
        """Events that have not ended, which are known in any case."""
        self._followers: dict[Identity, list[Receipt]] = {}
        """The receipts of their duplicates."""

    def knows(self, event: Identity) -> bool:
        """Whether the subscriber has it, or has had it within the window."""
        if event in self._alive:
            return True
        until = self._until.get(event)
        return until is not None and until > trio.current_time()

    def note(self, event: Identity, until: float) -> None:
        """Remember until `until` that the subscriber has had an event."""
        self._until[event] = until
        self._places.append((until, event))
        if len(self._until) > AT_MOST or len(self._places) > 2 * AT_MOST:
            self._make_room()

    def _make_room(self) -> None:
        """Forget the first of too many."""
        until, places = self._until, self._places
        while len(until) > AT_MOST:
            over, event = places.popleft()
            if until.get(event) == over:
                del until[event]
                self._alive.discard(event)
        if len(places) > 2 * AT_MOST:
            left = [place for place in places if until.get(place[1]) == place[0]]
            places.clear()
            places.extend(left)

    def take_in(self, event: Identity) -> None:
        """Note that the subscriber has the event from now on."""
        if self.window:
            now = trio.current_time()
            if self._places and self._places[0][0] <= now:
                self._forget_before(now)
            self._alive.add(event)
            self.note(event, now + self.window)

    def _forget_before(self, now: float) -> None:
        """Forget the events whose time is over; for those that are alive it begins anew."""
        until, places = self._until, self._places
        while places and places[0][0] <= now:
            over, event = places.popleft()
            if until.get(event) != over:
                continue
            if event in self._alive:
                self.note(event, now + self.window)
            else:
                del until[event]

    def admits(self, event: Identity) -> bool:
        """Take in an event that is not known; says whether it was new."""
        if (event in self._until or event in self._alive) and self.knows(event):
            return False
        self.take_in(event)
        return True

    def revive(self, event: Identity) -> None:
        """Note that the subscriber has an event from before this program."""
        if self.window:
            self._alive.add(event)

    def follow(self, delivery: Delivery[Event], event: Identity, subscriber: str) -> None:
        """Tell the publisher of a duplicate how the original ends, once it does."""
        if event not in self._alive or delivery.receipt is None:
            delivery.settle(subscriber, Fate.DUPLICATE)
        else:
            delivery.settle(subscriber, Fate.QUEUED)
            self._followers.setdefault(event, []).append(delivery.receipt)

    def ended(self, event: Identity, fate: Fate, subscriber: str) -> bool:
        """Note the end of an event; says whether it is forgotten.

        An event that was handled, or is kept among the dead letters, is not wanted again. Any other
        would be lost if its duplicate were not let in.
        """
        self._alive.discard(event)
        if self._followers:
            for receipt in self._followers.pop(event, ()):
                receipt.settle(subscriber, Fate.DUPLICATE if fate in GOOD else fate)
        if fate is HANDLED or fate in REMEMBERED:
            return False
        self._until.pop(event, None)
        return bool(self.window)

    def keep(self, subscriber: str) -> None:
        """Tell the publishers of duplicates that the originals stay in the store for now."""
        for receipts in self._followers.values():
            for receipt in receipts:
                receipt.keep(subscriber)
