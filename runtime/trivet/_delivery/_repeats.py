"""Which events a subscriber has had lately, so that a repetition is not delivered to it again.

Owns the memory of sources and ids, and the publishers of repetitions that wait for the original.
Never knows inboxes; only events whose publisher gave them an id of its own can be repeated.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import trio

from .._envelope import Delivery, Receipt
from .._events import Event
from .._fates import GOOD, Fate

AT_MOST = 100_000
"""Events that one subscriber remembers; beyond it the oldest are forgotten before their time."""

Identity = tuple[str, str]
"""An event's source and id."""


def identity(delivery: Delivery[Event]) -> Identity | None:
    """By what a repetition of it would be known; None where there can be none."""
    given = delivery.given_id
    return None if given is None else (delivery.source, given)


class Repeats:
    """The events that one subscriber has had.

    Args:
        window: seconds for which an event is remembered.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        # Of a plain dict, the first one is looked for among all that were deleted before it.
        self._until: OrderedDict[Identity, float] = OrderedDict()
        self._first_until = math.inf
        """No later than the first of those."""
        self._alive: set[Identity] = set()
        self._followers: dict[Identity, list[Receipt]] = {}
        """Of those that are alive, the ones that were repeated."""

    def knows(self, event: Identity) -> bool:
        """Whether the subscriber has it, or has had it within the window."""
        if event in self._alive:
            return True
        until = self._until.get(event)
        return until is not None and until > trio.current_time()

    def note(self, event: Identity, until: float) -> None:
        """The subscriber has had it, and it is remembered until then."""
        remembered = self._until
        before = len(remembered)
        remembered[event] = until
        if len(remembered) == before:
            remembered.move_to_end(event)
        elif before >= AT_MOST:
            remembered.popitem(last=False)
        self._first_until = min(self._first_until, until)

    def take_in(self, event: Identity) -> None:
        """The subscriber has it from now on."""
        if not self.window:
            return
        now = trio.current_time()
        if self._first_until <= now:
            self._forget_before(now)
        self.note(event, now + self.window)
        self._alive.add(event)

    def _forget_before(self, now: float) -> None:
        """Forget those whose time is over, which are the oldest."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        self._first_until = next(iter(self._until.values()), math.inf)

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
        if fate in GOOD or fate is Fate.DEAD_LETTERED:
            return False
        return self._until.pop(event, None) is not None

    def keep(self, subscriber: str) -> None:
        """Those that are alive stay in the store, and nothing becomes of them now."""
        for receipts in self._followers.values():
            for receipt in receipts:
                receipt.keep(subscriber)
