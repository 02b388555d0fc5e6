"""Which events a subscriber has had lately, so that a repetition is not delivered to it again.

Owns the memory of sources and ids, and the publishers of repetitions that wait for the original.
Never knows inboxes; only events whose publisher gave them an id of its own can be repeated.
"""

from __future__ import annotations

from collections import OrderedDict

from .._envelope import Delivery, Receipt, made_here
from .._events import Event
from .._fates import GOOD, Fate

AT_MOST = 100_000
"""Events that one subscriber remembers; beyond it the oldest are forgotten before their time."""

Identity = tuple[str, str]
"""An event's source and id."""


def identity(delivery: Delivery[Event]) -> Identity | None:
    """By what a repetition of it would be known; None where there can be none."""
    given = delivery.given_id
    return None if given is None or made_here(given) else (delivery.source, given)


class Repeats:
    """The events that one subscriber has had.

    Args:
        window: seconds for which an event is remembered.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        # Of a plain dict, the first one is looked for among all that were deleted before it.
        self._until: OrderedDict[Identity, float] = OrderedDict()
        self._alive: dict[Identity, list[Receipt]] = {}

    def knows(self, event: Identity, now: float) -> bool:
        """Whether the subscriber has it, or has had it within the window."""
        return event in self._alive or self._until.get(event, now) > now

    def note(self, event: Identity, until: float) -> None:
        """The subscriber has had it, and it is remembered until then."""
        self._until.pop(event, None)
        self._until[event] = until
        if len(self._until) > AT_MOST:
            self._until.popitem(last=False)

    def take_in(self, event: Identity, now: float) -> None:
        """The subscriber has it from now on."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        self.note(event, now + self.window)
        self._alive[event] = []

    def follow(self, delivery: Delivery[Event], event: Identity, subscriber: str) -> None:
        """Tell whoever repeats an event how that one ends, once it does."""
        followers = self._alive.get(event)
        if followers is None or delivery.receipt is None:
            delivery.settle(subscriber, Fate.DUPLICATE)
        else:
            delivery.settle(subscriber, Fate.QUEUED)
            followers.append(delivery.receipt)

    def ended(self, event: Identity, fate: Fate, subscriber: str) -> bool:
        """The event has come to this end; says whether it is forgotten.

        What was handled, or is kept among the dead letters, is not wanted again. Anything else
        would be lost if its repetition were not let in.
        """
        for receipt in self._alive.pop(event, ()):
            receipt.settle(subscriber, Fate.DUPLICATE if fate in GOOD else fate)
        if fate in GOOD or fate is Fate.DEAD_LETTERED:
            return False
        return self._until.pop(event, None) is not None

    def keep(self, subscriber: str) -> None:
        """Those that are alive stay in the store, and nothing becomes of them now."""
        for receipts in self._alive.values():
            for receipt in receipts:
                receipt.keep(subscriber)
