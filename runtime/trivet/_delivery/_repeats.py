"""Which events a subscriber has had lately, so that a repetition is not delivered to it again.

Owns the memory of sources and ids, and the publishers of repetitions that wait for the original.
Never knows inboxes; only events whose publisher gave them an id of its own can be repeated.
"""

from __future__ import annotations

from collections import deque

import trio

from .._events._delivery import Delivery, Receipt
from .._events._event import Event
from .._events._fates import GOOD, Fate

AT_MOST = 100_000
"""Events that one subscriber remembers; beyond it the first are forgotten before their time."""
REMEMBERED = GOOD | {Fate.DEAD_LETTERED}

Identity = tuple[str, str]
"""An event's source and id."""


def identity(delivery: Delivery[Event]) -> Identity | None:
    """By what a repetition of it would be known; None where there can be none."""
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
        """When each is forgotten, if it is not alive then."""
        # Of a plain dict, the first one is looked for among all that were deleted before it.
        self._places: deque[tuple[float, Identity]] = deque()
        """The same in that order, and some that were forgotten before their turn."""
        self._alive: set[Identity] = set()
        """Those that have not ended, which are known in any case."""
        self._followers: dict[Identity, list[Receipt]] = {}
        """Of these, the ones that were repeated."""

    def knows(self, event: Identity) -> bool:
        """Whether the subscriber has it, or has had it within the window."""
        if event in self._alive:
            return True
        until = self._until.get(event)
        return until is not None and until > trio.current_time()

    def note(self, event: Identity, until: float) -> None:
        """The subscriber has had it, and it is remembered until then."""
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
        """The subscriber has it from now on."""
        if self.window:
            now = trio.current_time()
            if self._places and self._places[0][0] <= now:
                self._forget_before(now)
            self._alive.add(event)
            self.note(event, now + self.window)

    def _forget_before(self, now: float) -> None:
        """Forget those whose time is over; of what is alive it begins anew."""
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
        """Take in what is not known; says whether it was not."""
        if (event in self._until or event in self._alive) and self.knows(event):
            return False
        self.take_in(event)
        return True

    def revive(self, event: Identity) -> None:
        """The subscriber has it, since before this program has run."""
        if self.window:
            self._alive.add(event)

    def follow(self, delivery: Delivery[Event], event: Identity, subscriber: str) -> None:
        """Tell whoever repeats an event how that one ends, once it does."""
        if event not in self._alive or delivery.receipt is None:
            delivery.settle(subscriber, Fate.DUPLICATE)
        else:
            delivery.settle(subscriber, Fate.QUEUED)
            self._followers.setdefault(event, []).append(delivery.receipt)

    def ended(self, event: Identity, fate: Fate, subscriber: str) -> bool:
        """The event has come to this end; says whether it is forgotten.

        What was handled, or is kept among the dead letters, is not wanted again. Anything else
        would be lost if its repetition were not let in.
        """
        self._alive.discard(event)
        if self._followers:
            for receipt in self._followers.pop(event, ()):
                receipt.settle(subscriber, Fate.DUPLICATE if fate in GOOD else fate)
        if fate in REMEMBERED:
            return False
        self._until.pop(event, None)
        return bool(self.window)

    def keep(self, subscriber: str) -> None:
        """Those that are alive stay in the store, and nothing becomes of them now."""
        for receipts in self._followers.values():
            for receipt in receipts:
                receipt.keep(subscriber)
