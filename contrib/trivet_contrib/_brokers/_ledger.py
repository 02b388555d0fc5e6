"""Which messages are in hand, and what the broker is still to be told.

Owns the decision of what a message has come to, out of the fates of its event.
Never knows how messages come, nor how the broker is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import trio

from trivet import Delivery, Event, Fate, Receipt, Refusal

from ._client import Received

FAILED, IN_FLIGHT = Fate.FAILED, Fate.IN_FLIGHT
ALIVE = frozenset(fate for fate in Fate if fate.alive)
NOT_NOW = frozenset({Fate.REJECTED, Fate.ABANDONED})
"""Whoever says so has not had the event, and may have it later."""

LONGEST_REASON = 500
"""Characters of why a message is dead."""


class InHand(Receipt):
    """A message from its arrival to the end of its event at the last subscriber."""

    __slots__ = ("_has_news", "_is_published", "_ledger", "delivery", "message", "refusals", "seen")

    def __init__(
        self, message: Received, delivery: Delivery[Event], ledger: Ledger, now: float
    ) -> None:
        # Nothing of what a publisher that waits would need: this one is told.
        self.fates = {}
        self.message = message
        self.delivery = delivery
        self.seen = now
        """When the broker was last told, or has said, that it is here."""
        self.refusals: Mapping[str, Refusal] = {}
        """Why subscribers will never take it."""
        self._ledger = ledger
        self._is_published = self._has_news = False

    @property
    def size(self) -> int:
        """Bytes of memory, by an estimate."""
        return len(self.message.body) + self.delivery.size

    def settle(self, subscriber: str, fate: Fate) -> None:
        """See `Receipt`."""
        if fate is IN_FLIGHT:
            return  # It is as alive as before.
        self.fates[subscriber] = fate
        if fate not in ALIVE:
            self._has_news = True
            if self._is_published:
                self._ledger.look_at(self)

    def keep(self, subscriber: str) -> None:
        """See `Receipt`. What is in a store is done here."""

    def published(self, refusals: Mapping[str, Refusal]) -> None:
        """All subscribers have decided."""
        self._is_published, self.refusals = True, refusals
        if self._has_news or self._ledger.durable or not self.fates:
            self._ledger.look_at(self)

    def take_back(self) -> None:
        """It is to be published again."""
        self._is_published = self._has_news = False
        self.fates.clear()


class Ledger:
    """What a source has in hand.

    Args:
        durable: the subscribers who have an event on the disk when it is queued.
        delivery_limit: how often a message may fail.
        on_dead: called with what is put to the dead letters, and why.
    """

    def __init__(
        self,
        durable: frozenset[str],
        delivery_limit: int,
        on_dead: Callable[[Received, str], None],
    ) -> None:
        self.in_hand: dict[str, InHand] = {}
        """By the tags of the messages."""
        self.bytes = 0
        """Memory that these take: the bodies of the messages, and the events, by an estimate."""
        self.again: deque[InHand] = deque()
        """Of them those that not every subscriber had room for."""
        self.done: list[Received] = []
        self.failed: list[Received] = []
        self.dead: list[tuple[Received, str]] = []
        """What the broker is to be told."""
        self.ended = 0
        """How many events have ended."""
        self.durable = durable
        self._limit = delivery_limit
        self._on_dead = on_dead
        self._told = trio.lowlevel.ParkingLot()
        self._fewer = trio.lowlevel.ParkingLot()

    @property
    def is_settled(self) -> bool:
        """Whether the broker has heard of everything that has ended."""
        return not (self.done or self.failed or self.dead)

    async def wait_for_news(self) -> None:
        """Wait until the broker is to be told something."""
        if self.is_settled:
            await self._told.park()

    async def wait_for_fewer(self) -> None:
        """Wait until less is in hand."""
        await self._fewer.park()

    def add(self, message: Received, delivery: Delivery[Event], now: float) -> InHand:
        """A message has come, and is going to be published."""
        record = InHand(message, delivery, self, now)
        delivery.receipt, delivery.is_plain = record, False
        self.in_hand[message.tag] = record
        self.bytes += record.size
        return record

    def look_at(self, record: InHand) -> None:
        """Something has become of an event: is it all?"""
        fates, durable = record.fates, self.durable
        is_refused, has_failed = not fates, False
        for name, fate in fates.items():
            if fate in ALIVE:
                if name not in durable:
                    return
            elif fate in NOT_NOW:
                is_refused = True
            elif fate is FAILED:
                has_failed = True
        tag = record.message.tag
        if self.in_hand.get(tag) is not record:
            return
        if not is_refused:
            del self.in_hand[tag]
            self.bytes -= record.size
            record.delivery.receipt = None  # Each of the two would keep the other.
            self._end(record, has_failed=has_failed)
        elif record not in self.again:
            record.take_back()
            self.again.append(record)
        if self._fewer:
            self._fewer.unpark_all()

    def _end(self, record: InHand, *, has_failed: bool) -> None:
        message = record.message
        self.ended += 1
        if not has_failed and not record.refusals:
            self.done.append(message)
        elif not has_failed:
            reasons = [f"{name} cannot take it: {why}" for name, why in record.refusals.items()]
            self.bury(message, "; ".join(sorted(reasons)))
        elif message.deliveries < self._limit:
            self.failed.append(message)
        else:
            names = sorted(name for name, fate in record.fates.items() if fate is FAILED)
            self.bury(message, f"failed at {', '.join(names)}")
        if self._told:
            self._told.unpark_all()

    def bury(self, message: Received, reason: str) -> None:
        """Put a message to the dead letters."""
        if len(reason) > LONGEST_REASON:  # A name in it may be as long as a message.
            reason = f"{reason[:LONGEST_REASON]}…"
        self._on_dead(message, reason)
        self.dead.append((message, reason))
        if self._told:
            self._told.unpark_all()

    def forget(
        self,
        done: Sequence[Received] = (),
        failed: Sequence[Received] = (),
        dead: Sequence[tuple[Received, str]] = (),
    ) -> None:
        """The broker has heard of these, which are the oldest."""
        del self.done[: len(done)], self.failed[: len(failed)], self.dead[: len(dead)]
