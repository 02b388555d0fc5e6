"""Which events a subscriber has had lately, so that a repetition is not delivered to it again.

Owns the memory of sources and ids, and the publishers of repetitions that wait for the original.
Never knows inboxes; only events whose publisher gave them an id of its own can be repeated.
"""

from __future__ import annotations

import math
from collections import deque

import trio

from .._envelope import Delivery, Receipt
from .._events import Event
from .._fates import GOOD, Fate

AT_MOST = 100_000
"""Events that one subscriber remembers; beyond it the oldest are forgotten before their time."""
ALIVE = math.inf
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
        window: seconds for which an event is remembered after its end.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self._until: dict[Identity, float] = {}
        """When each is forgotten; never, as long as it is alive."""
        # Of a plain dict, the first one is looked for among all that were deleted before it.
        self._order: deque[Identity] = deque()
        """Those, in the order in which they came, and some that are forgotten."""
        self._followers: dict[Identity, list[Receipt]] = {}
        """Of those that are alive, the ones that were repeated."""

    def knows(self, event: Identity) -> bool:
        """Whether the subscriber has it, or has had it within the window."""
        until = self._until.get(event)
        return until is not None and until > trio.current_time()

    def note(self, event: Identity, until: float) -> None:
        """The subscriber has had it, and it is remembered until then."""
        self._until[event] = until
        self._order.append(event)
        if len(self._order) > AT_MOST:
            self._forget_first()

    def take_in(self, event: Identity) -> None:
        """The subscriber has it from now on."""
        if self.window:
            self.note(event, ALIVE)

    def admits(self, event: Identity) -> bool:
        """Take in what is not known; says whether it was not."""
        if event in self._until and self.knows(event):
            return False
        self.take_in(event)
        return True

    def _forget_first(self) -> None:
        self._until.pop(self._order.popleft(), None)

    def follow(self, delivery: Delivery[Event], event: Identity, subscriber: str) -> None:
        """Tell whoever repeats an event how that one ends, once it does."""
        if self._until.get(event) != ALIVE or delivery.receipt is None:
            delivery.settle(subscriber, Fate.DUPLICATE)
        else:
            delivery.settle(subscriber, Fate.QUEUED)
            self._followers.setdefault(event, []).append(delivery.receipt)

    def ended(self, event: Identity, fate: Fate, subscriber: str) -> bool:
        """The event has come to this end; says whether it is forgotten.

        What was handled, or is kept among the dead letters, is not wanted again. Anything else
        would be lost if its repetition were not let in.
        """
        if self._followers:
            for receipt in self._followers.pop(event, ()):
                receipt.settle(subscriber, Fate.DUPLICATE if fate in GOOD else fate)
        if fate not in REMEMBERED:
            return self._until.pop(event, None) is not None
        if event in self._until:
            now = trio.current_time()
            self._until[event] = now + self.window
            while self._order and self._until.get(self._order[0], now) <= now:
                self._forget_first()
        return False

    def keep(self, subscriber: str) -> None:
        """Those that are alive stay in the store, and nothing becomes of them now."""
        for receipts in self._followers.values():
            for receipt in receipts:
                receipt.keep(subscriber)
