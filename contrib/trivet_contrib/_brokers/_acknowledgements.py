"""The messages in flight, and the reports that the broker is still to get about them.

Owns the decision how a message ends, from the fates of its event at the subscribers.
Never knows how messages come, nor how the broker is told.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import trio

from trivet import Delivery, Event, Fate, Outcome, Receipt, Refusal

from ._client import Received

HANDLED, FAILED = Fate.HANDLED, Fate.FAILED
ALIVE = frozenset(fate for fate in Fate if fate.alive)
PUBLISH_AGAIN = frozenset({Fate.REJECTED, Fate.ABANDONED})
"""A subscriber with one of these fates has not had the event, and may have it later."""

NO_REFUSALS: Mapping[str, Refusal] = MappingProxyType({})
LONGEST_REASON = 500
"""Characters of a dead letter's reason, at most."""
UNKNOWN = sys.maxsize
"""The number of subscribers, until all of them have decided."""


class InFlight(Receipt):
    """A message from its arrival until its event has ended at the last subscriber."""

    __slots__ = (
        "_acknowledgements",
        "_subscribers",
        "delivery",
        "extended_at",
        "message",
        "refusals",
        "size",
    )

    def __init__(
        self,
        message: Received,
        delivery: Delivery[Event],
        acknowledgements: Acknowledgements,
        now: float,
    ) -> None:
        # The base class prepares what a waiting publisher needs; here nobody waits.
        self.fates = {}
        """The fates of the subscribers for which the message is done."""
        self.message = message
        self.delivery = delivery
        self.extended_at = now
        """The time of the delivery, or of the last report that the message is in flight."""
        self.size = len(message.body) + delivery.size
        """Bytes of memory, an estimate."""
        self.refusals: Mapping[str, Refusal] = NO_REFUSALS
        """The subscribers that can never take the event, each with the reason."""
        self._acknowledgements = acknowledgements
        self._subscribers = UNKNOWN

    def settle(self, subscriber: str, fate: Fate) -> None:
        """See `Receipt`."""
        if fate is HANDLED and self._subscribers == 1:
            self._acknowledgements.handled(self)
        elif fate not in ALIVE:
            self.fates[subscriber] = fate
            if len(self.fates) >= self._subscribers:
                self._acknowledgements.check(self)

    def failed(self, subscriber: str, error: Exception) -> None:
        """See `Receipt`. The fate says enough, and an error would keep its frames alive."""

    def keep(self, subscriber: str) -> None:
        """See `Receipt`. An event that is in a store is done here."""

    def on_published(self, outcome: Outcome) -> None:
        """Note that all subscribers have decided about the event."""
        fates = outcome.fates
        self._subscribers, self.refusals = len(fates), outcome.refusals
        if self._acknowledgements.durable:
            for name in self._acknowledgements.durable.intersection(fates):
                self.fates.setdefault(name, fates[name])  # On disk, if it has not ended already.
        if len(self.fates) >= len(fates):
            self._acknowledgements.check(self)

    def reset(self) -> None:
        """Forget the fates, before the event is published again."""
        self._subscribers = UNKNOWN
        self.fates.clear()


class Acknowledgements:
    """The messages in flight of one source, and the reports for the broker.

    Args:
        durable: the subscribers that have an event on disk once it is queued.
        delivery_limit: how often a message may fail.
        on_dead_letter: called with each message that becomes a dead letter, and the reason.
    """

    def __init__(
        self,
        durable: frozenset[str],
        delivery_limit: int,
        on_dead_letter: Callable[[Received, str], None],
    ) -> None:
        self.in_flight: dict[str, InFlight] = {}
        """The messages in flight, by tag."""
        self.bytes = 0
        """Memory for the messages in flight: the bodies, and the events by an estimate."""
        self.to_publish: deque[InFlight] = deque()
        """The messages in flight for which some subscriber had no room; published again soon."""
        self.done: list[Received] = []
        """Messages that the broker is to be told to acknowledge."""
        self.failed: list[Received] = []
        """Messages that the broker is to be told to deliver again."""
        self.dead: list[tuple[Received, str]] = []
        """Messages that the broker is to be told to move to the dead letters."""
        self.ended = 0
        """How many events have ended."""
        self.durable = durable
        self._limit = delivery_limit
        self._on_dead_letter = on_dead_letter
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_awaited = False
        """Whether a task may wait; to ask the parking lot takes a call."""

    @property
    def is_reported(self) -> bool:
        """Whether the broker knows of every message that has ended."""
        return not (self.done or self.failed or self.dead)

    async def wait_for_reports(self) -> None:
        """Wait until there is something to report to the broker."""
        while self.is_reported:
            await self.wait_for_change()

    async def wait_for_change(self) -> None:
        """Wait until a message leaves the messages in flight, or is to be published again."""
        self._is_awaited = True
        await self._waiting.park()

    def _tell(self) -> None:
        self._is_awaited = False
        self._waiting.unpark_all()

    def add(self, message: Received, delivery: Delivery[Event], now: float) -> InFlight:
        """Count a message as in flight; its event is published next."""
        record = InFlight(message, delivery, self, now)
        delivery.receipt, delivery.is_plain = record, False
        self.in_flight[message.tag] = record
        self.bytes += record.size
        return record

    def handled(self, record: InFlight) -> None:
        """End a message whose only subscriber has handled its event, as most have; see `check`."""
        tag = record.message.tag
        if self.in_flight.get(tag) is record:
            del self.in_flight[tag]
            self.bytes -= record.size
            self.ended += 1
            record.delivery.receipt = None  # As below.
            self.done.append(record.message)
            if self._is_awaited:
                self._tell()

    def check(self, record: InFlight) -> None:
        """End a message whose event is done at every subscriber, or have it published again."""
        if self.in_flight.get(record.message.tag) is not record:
            return
        if record.fates and PUBLISH_AGAIN.isdisjoint(record.fates.values()):
            del self.in_flight[record.message.tag]
            self.bytes -= record.size
            self.ended += 1
            record.delivery.receipt = None  # The two refer to each other: a reference cycle.
            self._end(record)
        elif record not in self.to_publish:
            record.reset()
            self.to_publish.append(record)
        if self._is_awaited:
            self._tell()

    def _end(self, record: InFlight) -> None:
        """Note what is to be reported about a message."""
        message = record.message
        has_failed = FAILED in record.fates.values()
        if not has_failed and not record.refusals:
            self.done.append(message)
        elif not has_failed:
            reasons = [f"{name} cannot take it: {why}" for name, why in record.refusals.items()]
            self.dead_letter(message, "; ".join(sorted(reasons)))
        elif message.deliveries < self._limit:
            self.failed.append(message)
        else:
            names = sorted(name for name, fate in record.fates.items() if fate is FAILED)
            self.dead_letter(message, f"failed at {', '.join(names)}")

    def dead_letter(self, message: Received, reason: str) -> None:
        """Have a message moved to the dead letters."""
        if len(reason) > LONGEST_REASON:  # A name in it may be as long as a message.
            reason = f"{reason[:LONGEST_REASON]}…"
        self._on_dead_letter(message, reason)
        self.dead.append((message, reason))
        if self._is_awaited:
            self._tell()

    def reported(
        self,
        done: Sequence[Received] = (),
        failed: Sequence[Received] = (),
        dead: Sequence[tuple[Received, str]] = (),
    ) -> None:
        """Forget the oldest reports, which the broker has got."""
        del self.done[: len(done)], self.failed[: len(failed)], self.dead[: len(dead)]
