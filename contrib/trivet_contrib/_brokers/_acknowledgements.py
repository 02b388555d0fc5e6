"""The messages in flight, and the reports that the broker is still to get about them.

Owns the decision how a message ends, from the fates of its event at the subscribers.
Never knows how messages come, nor how the broker is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import trio

from trivet import Delivery, Event, Fate, Receipt, Refusal

from ._client import Received

QUEUED, IN_FLIGHT, FAILED = Fate.QUEUED, Fate.IN_FLIGHT, Fate.FAILED
ALIVE = frozenset(fate for fate in Fate if fate.alive)
PUBLISH_AGAIN = frozenset({Fate.REJECTED, Fate.ABANDONED})
"""A subscriber with one of these fates has not had the event, and may have it later."""

NO_REFUSALS: Mapping[str, Refusal] = MappingProxyType({})
LONGEST_REASON = 500
"""Characters of a dead letter's reason, at most."""


class InFlight(Receipt):
    """A message from its arrival until its event has ended at the last subscriber."""

    __slots__ = (
        "_acknowledgements",
        "_has_news",
        "_is_published",
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
        self.message = message
        self.delivery = delivery
        self.extended_at = now
        """The time of the delivery, or of the last report that the message is in flight."""
        self.size = len(message.body) + delivery.size
        """Bytes of memory, an estimate."""
        self.refusals: Mapping[str, Refusal] = NO_REFUSALS
        """The subscribers that can never take the event, each with the reason."""
        self._acknowledgements = acknowledgements
        self._is_published = self._has_news = False

    def settle(self, subscriber: str, fate: Fate) -> None:
        """See `Receipt`."""
        if fate is IN_FLIGHT:
            return  # The event is as alive as before.
        self.fates[subscriber] = fate
        if fate is not QUEUED and fate not in ALIVE:
            self._has_news = True
            if self._is_published:
                self._acknowledgements.check(self)

    def keep(self, subscriber: str) -> None:
        """See `Receipt`. An event that is in a store is done here."""

    def on_published(self, refusals: Mapping[str, Refusal]) -> None:
        """Note that all subscribers have decided about the event."""
        self._is_published, self.refusals = True, refusals
        if self._has_news or self._acknowledgements.durable or not self.fates:
            self._acknowledgements.check(self)

    def reset(self) -> None:
        """Forget the fates, before the event is published again."""
        self._is_published = self._has_news = False
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
        self._reporters = trio.lowlevel.ParkingLot()
        self._waiting_for_room = trio.lowlevel.ParkingLot()

    @property
    def is_reported(self) -> bool:
        """Whether the broker knows of every message that has ended."""
        return not (self.done or self.failed or self.dead)

    async def wait_for_reports(self) -> None:
        """Wait until there is something to report to the broker."""
        if self.is_reported:
            await self._reporters.park()

    async def wait_for_end(self) -> None:
        """Wait until a message leaves the messages in flight, or is to be published again."""
        await self._waiting_for_room.park()

    def add(self, message: Received, delivery: Delivery[Event], now: float) -> InFlight:
        """Count a message as in flight; its event is published next."""
        record = InFlight(message, delivery, self, now)
        delivery.receipt, delivery.is_plain = record, False
        self.in_flight[message.tag] = record
        self.bytes += record.size
        return record

    def check(self, record: InFlight) -> None:
        """End a message if its event has ended at every subscriber."""
        fates = record.fates
        values = fates.values()
        if not ALIVE.isdisjoint(values) and not self._is_ended(fates):
            return
        tag = record.message.tag
        if self.in_flight.get(tag) is not record:
            return
        if fates and PUBLISH_AGAIN.isdisjoint(values):
            del self.in_flight[tag]
            self.bytes -= record.size
            record.delivery.receipt = None  # The two refer to each other: a reference cycle.
            self._end(record, has_failed=FAILED in values)
        elif record not in self.to_publish:
            record.reset()
            self.to_publish.append(record)
        if self._waiting_for_room:
            self._waiting_for_room.unpark_all()

    def _is_ended(self, fates: Mapping[str, Fate]) -> bool:
        """Whether the event is alive only where it is on disk."""
        return all(fate not in ALIVE or name in self.durable for name, fate in fates.items())

    def _end(self, record: InFlight, *, has_failed: bool) -> None:
        message = record.message
        self.ended += 1
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
        if self._reporters:
            self._reporters.unpark_all()

    def dead_letter(self, message: Received, reason: str) -> None:
        """Have a message moved to the dead letters."""
        if len(reason) > LONGEST_REASON:  # A name in it may be as long as a message.
            reason = f"{reason[:LONGEST_REASON]}…"
        self._on_dead_letter(message, reason)
        self.dead.append((message, reason))
        if self._reporters:
            self._reporters.unpark_all()

    def reported(
        self,
        done: Sequence[Received] = (),
        failed: Sequence[Received] = (),
        dead: Sequence[tuple[Received, str]] = (),
    ) -> None:
        """Forget the oldest reports, which the broker has got."""
        del self.done[: len(done)], self.failed[: len(failed)], self.dead[: len(dead)]
