"""The admission to one inbox: which events come in, which wait for room, and which never come in.

Owns the room, the publishers that wait for it, and the duplicates of events that are being stored.
Never knows what becomes of an event that is in; a publisher's patience is the bus's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import trio

from .._events._delivery import Delivery, Identity
from .._events._delivery_settings import DeliveryPolicy, OnFull
from .._events._event import Event
from .._events._fates import Fate
from .._events._filters import Matches
from .._events._outcome import Refusal
from .._faults._advice import explained
from .._faults._errors import TrivetError
from .._inbox._fast_path import FastPath
from .._store._commit import Writing
from ._backing import Backing, Parts
from ._pending_offer import PendingOffer

# To look an enum's member up by its name takes longer than to count an event.
QUEUED, FILTERED = Fate.QUEUED, Fate.FILTERED

CLOSED = "the inbox is closed"
FILTERS = "events are filtered"
WAITING = "publishers wait for room"
FEW = 64
"""Queued events, below which an inbox that drops the oldest gets more into memory."""


class Admission:
    """The publishers' side of an inbox.

    A publisher that has to wait for room does so in a queue here, and whoever takes an event out
    lets the first of them in. So an event is counted as accepted at the instant in which it enters.

    Args:
        parts: the inbox's.
        path: the inbox's fast path, which is closed while anything is to be minded here.
        backing: the inbox's.
        drop: ends an event that has to make room for another.
    """

    def __init__(
        self,
        parts: Parts,
        path: FastPath,
        backing: Backing,
        drop: Callable[[Delivery[Event]], None],
    ) -> None:
        self._plugin = parts.plugin
        self._parts = parts
        self._queue = parts.queue
        self._counts = parts.counts
        self._memory = parts.memory
        self._repeats = parts.repeats
        self._log = parts.log
        self._path = path
        self._backing = backing
        self._drop = drop
        policy = parts.policy
        self.buffer: float = math.inf if policy.buffer is None else policy.buffer
        self.buffer_bytes: int = policy.buffer_bytes
        self.is_closed: bool = False
        self._wants: Matches | None = None
        self._waiting: deque[PendingOffer] = deque()
        self._bytes_waiting = 0
        """Memory of the events from outside that wait for room."""
        self._is_making_room = False
        """Whether room is made for one event, and is not for those that wait."""
        self._let_in_late: dict[Delivery[Event], PendingOffer] = {}
        """The offers of events that have waited for room, and are being stored."""
        self._duplicates: dict[Identity, list[PendingOffer]] = {}
        """The offers of duplicates, by the identity of each event that is being stored."""

    @trio.lowlevel.enable_ki_protection
    def offer(self, delivery: Delivery[Event]) -> Fate | Refusal | Writing | PendingOffer | None:
        """Take the event in if there is room for it.

        Returns:
            Its fate; why it can never come in; the record of it, where it has to be stored first;
            the pending offer of a duplicate of one that is being stored; or None where there is no
            room.
        """
        path = self._path
        if path.is_open:
            # As below, all in one: what most events come to that are not plain.
            counts = self._counts
            size, memory = delivery.size, self._memory
            own = counts.bytes + size
            if (
                len(path.ready) < self.buffer
                and own <= self.buffer_bytes
                and (own + size <= memory.free or not size)
            ):
                given = delivery.given
                if given is not None and not self._repeats.admits(given, delivery):
                    return self._repeated(delivery, given)
                counts.accepted += 1
                counts.bytes = own
                memory.free -= size
                path.ready.append(delivery)
                if delivery.receipt is not None:
                    delivery.receipt.settle(self._plugin, QUEUED)
                if path.parked:
                    path.readers.wake()
                return QUEUED
        elif self._backing.outlives and (why := self._backing.refusal(delivery)) is not None:
            # First of all: whoever lets it in later is not the one whose fault it is.
            return self._refuse_for_good(delivery, why)
        if self.is_closed or self._wants is not None or delivery.given or delivery.size:
            decision = self._screen(delivery)
            if decision is not None:
                return decision
        if self._waiting or not self._has_room(delivery):
            return None
        return self._let_in(delivery)

    def heed(self, policy: DeliveryPolicy) -> None:
        """Have the room that a policy says; fewer than are inside is no reason to drop any."""
        self.buffer = math.inf if policy.buffer is None else policy.buffer
        self.buffer_bytes = policy.buffer_bytes

    @property
    def wants(self) -> Matches | None:
        """The filter of the events; all are delivered where this is None."""
        return self._wants

    @wants.setter
    def wants(self, wants: Matches | None) -> None:
        """Set by the runtime, before the plugin starts, and by a reload."""
        self._wants = wants
        self._path.mind(FILTERS, wants is not None)

    @trio.lowlevel.disable_ki_protection
    def is_wanted(self, delivery: Delivery[Event]) -> bool:
        """Whether the filter lets the event through."""
        if self._wants is None:
            return True
        try:
            return self._wants(delivery.event)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: ASYNC103 - it awaits nothing
            # A filter that is broken must not lose what it was not asked to lose.
            self._parts.failures.log(
                self._log.error,
                "filter failed",
                error,
                delivery.identity(),
                plugin=self._plugin,
                event=delivery.event.__event_name__,
                whole={"exc_info": explained(error)},
            )
            return True  # noqa: ASYNC104

    # The room.

    @property
    def room(self) -> float:
        """How many events more there is room for."""
        if self._waiting or self._backing.is_near_limit:
            return 0
        return self.buffer - self._taken

    @property
    def room_bytes(self) -> float:
        """How many bytes more there is room for."""
        if self._waiting:
            return 0
        backing = self._backing
        return max(0, min(self.buffer_bytes - backing.bytes_taken, backing.room_bytes))

    def fits(self, size: int, besides: int = 0) -> bool:
        """Whether an inbox without a backing has so many bytes of room.

        Args:
            size: the event's.
            besides: bytes of the program's memory that are spoken for.
        """
        own = self._counts.bytes + size
        return own <= self.buffer_bytes and own + size + besides <= self._memory.free

    def may_wait(self, delivery: Delivery[Event]) -> bool:
        """Whether an event may wait for room: the waiting ones are bounded in memory as well."""
        size, memory = delivery.size, self._memory
        return (
            self._bytes_waiting + size <= self.buffer_bytes
            and memory.bytes_waiting + size <= memory.limit
        )

    @property
    def _taken(self) -> int:
        """How many events take room."""
        queue = self._queue
        return len(queue.ready) + queue.held + queue.backing_off + self._backing.taken

    def _has_room(self, delivery: Delivery[Event]) -> bool:
        queue = self._queue
        free = self.buffer - len(queue.ready) - queue.held - queue.backing_off
        return self._backing.has_room(delivery, free, self.buffer_bytes)

    @trio.lowlevel.enable_ki_protection
    def overflow(self, delivery: Delivery[Event], policy: OnFull) -> Fate | Writing | PendingOffer:
        """Decide about an event for which there is no room."""
        if (known := self._duplicate(delivery)) is not None:
            return known  # Another publisher of the same event got in meanwhile.
        if not self._waiting and self._has_room(delivery):
            return self._let_in(delivery)  # An event before it has made more room than it needed.
        if policy == "reject":
            return self._refuse(delivery)
        if policy == "drop_oldest":
            self._make_room(delivery)
            fits = self._has_room(delivery)
            decision = self._let_in(delivery) if fits else self._refuse(delivery)
            self.admit()  # A large event that was dropped may have left more room than this needs.
            self._memory.let_in()
            return decision
        return self._end_at_once(delivery, Fate.DROPPED)

    def _make_room(self, delivery: Delivery[Event]) -> None:
        """Drop the oldest, as many as one event needs, and only for that one."""
        backing = self._backing
        needed = backing.bytes_fixed + delivery.size
        freed = backing.bytes_taken - backing.bytes_fixed
        if needed > self.buffer_bytes or delivery.size > backing.room_bytes + freed:
            return  # Nothing is lost in vain.
        self._is_making_room = True
        self._memory.keep(True)
        try:
            while not self._has_room(delivery):
                oldest = self._queue.pop_oldest()
                if oldest is not None:
                    self._drop(oldest)
                    if self._queue.waiting < FEW:
                        self._backing.refill()  # The next events have to drop some, too.
                elif self._taken < self.buffer or not self._backing.has_room(
                    delivery, math.inf, math.inf
                ):
                    self._backing.refill()
                    break  # It is for want of something else.
                elif not self._backing.drop_oldest():
                    break
        finally:
            self._is_making_room = False
            self._memory.keep(False)

    # The publishers that wait for it.

    @trio.lowlevel.enable_ki_protection
    def queue_up(self, delivery: Delivery[Event]) -> PendingOffer:
        """Wait for room behind the publishers that wait already."""
        offer = PendingOffer(delivery)
        self._backing.begins_to_wait(delivery)
        self._waiting.append(offer)
        self._bytes_waiting += delivery.size
        self._memory.bytes_waiting += delivery.size
        self._wait(True)
        self.admit()  # An event before it may have made more room than it needed.
        return offer

    @trio.lowlevel.enable_ki_protection
    def withdraw(self, offer: PendingOffer) -> None:
        """Leave the queue, if still in it; nothing is counted."""
        if offer.is_waiting and offer in self._waiting:
            self._waiting.remove(offer)
            self._waits_no_more(offer)
            self.admit()  # There may have been no room for this one only.

    @trio.lowlevel.enable_ki_protection
    def admit(self) -> None:
        """Let the publishers that wait in, the first one first, as far as there is room."""
        if self._is_making_room:
            return
        while self._waiting and self._has_room(self._waiting[0].delivery):
            offer = self._waiting.popleft()
            if not self._duplicate(offer.delivery, offer):
                if self._let_in(offer.delivery) is QUEUED:
                    offer.decide(QUEUED)
                else:
                    offer.has_room = True
                    self._let_in_late[offer.delivery] = offer
            self._waits_no_more(offer)

    def _waits_no_more(self, offer: PendingOffer) -> None:
        self._bytes_waiting -= offer.delivery.size
        self._memory.bytes_waiting -= offer.delivery.size
        self._backing.waits_no_more(offer.delivery)
        self._wait(bool(self._waiting))

    def _wait(self, is_so: bool) -> None:
        """Note whether publishers wait."""
        self._path.mind(WAITING, is_so)
        self._memory.await_room(self, is_so)

    def awaiting(self) -> list[Delivery[Event]]:
        """The events of publishers that wait for room."""
        return [offer.delivery for offer in self._waiting]

    @property
    def is_awaited(self) -> bool:
        """Whether a publisher waits for room."""
        return bool(self._waiting)

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Let nothing more in."""
        self.is_closed = True
        self._path.mind(CLOSED, True)
        while self._waiting:
            offer = self._waiting.popleft()
            self._waits_no_more(offer)
            offer.decide(self._refuse(offer.delivery))

    @trio.lowlevel.enable_ki_protection
    def reopen(self) -> None:
        """Let events in again."""
        self.is_closed = False
        self._path.mind(CLOSED, False)

    # The decisions.

    def _screen(self, delivery: Delivery[Event]) -> Fate | Refusal | PendingOffer | None:
        """The decision about an event that is refused, filtered or a duplicate; None for others."""
        if self.is_closed:
            return self._refuse(delivery)
        if self._wants is not None and not self.is_wanted(delivery):
            return self._leave_out(delivery)
        known = self._duplicate(delivery)
        if known is None and delivery.size > self.buffer_bytes:
            reason = f"about {delivery.size} bytes, and the inbox takes {self.buffer_bytes}"
            return self._refuse_for_good(delivery, Refusal(reason, is_too_large=True))
        return known

    def _duplicate(
        self, delivery: Delivery[Event], offer: PendingOffer | None = None
    ) -> Fate | PendingOffer | None:
        """The fate of a duplicate; None if the event is new.

        The duplicate of an event that is being stored is decided about when that is.
        """
        event = delivery.given
        if event is None:
            return None
        if event in self._duplicates:
            offer = offer or PendingOffer(delivery)
            offer.has_room = True
            self._duplicates[event].append(offer)
            return offer
        if not self._repeats.knows(event):
            return None
        if offer is not None:
            offer.decide(Fate.DUPLICATE)
        return self._repeated(delivery, event)

    def _repeated(self, delivery: Delivery[Event], event: Identity) -> Fate:
        self._counts.accepted += 1
        self._counts.duplicate += 1
        self._repeats.follow(delivery, event, self._plugin)
        if delivery.receipt is not None:
            self._backing.excuse(delivery.receipt)
        return Fate.DUPLICATE

    def _let_in(self, delivery: Delivery[Event]) -> Fate | Writing:
        """Have an event accepted; returns the record where it has to be stored first."""
        writing = self._backing.accept(delivery, self._stored)
        if writing is None:
            self._accepted([delivery])
            return QUEUED
        if delivery.given is not None and self._repeats.window:
            self._duplicates[delivery.given] = []
        return writing

    def _stored(self, deliveries: Sequence[Delivery[Event]], error: TrivetError | None) -> None:
        """Decide about events that have been stored, or cannot be, and about their duplicates."""
        if error is None:
            self._accepted(deliveries)
        else:
            for delivery in deliveries:
                self._refuse(delivery)
        if self._let_in_late or self._duplicates:
            self._decide_others(deliveries, is_stored=error is None)
        self.admit()  # What an event takes while it is being stored is free.

    def _accepted(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """Count events that are in, and tell the plugin."""
        self._counts.accepted += len(deliveries)
        for delivery in deliveries:
            if not delivery.is_plain:
                if (event := delivery.given) is not None:
                    self._repeats.take_in(event)
                if delivery.receipt is not None:
                    delivery.receipt.settle(self._plugin, QUEUED)
                    self._backing.excuse(delivery.receipt)
        readers = self._parts.readers
        for _ in range(min(len(readers.parked), len(deliveries))):
            readers.wake()

    def _decide_others(self, deliveries: Iterable[Delivery[Event]], *, is_stored: bool) -> None:
        """Decide about the offers that had waited for room, and the duplicates of events."""
        for delivery in deliveries:
            if (offer := self._let_in_late.pop(delivery, None)) is not None:
                offer.decide(QUEUED if is_stored else Fate.REJECTED)
            event = delivery.given
            for duplicate in () if event is None else self._duplicates.pop(event, ()):
                if is_stored:
                    self._duplicate(duplicate.delivery, duplicate)
                else:
                    duplicate.decide(self._refuse(duplicate.delivery))

    def _leave_out(self, delivery: Delivery[Event]) -> Fate:
        """Accept an event that is not wanted, and end it; as `_end_at_once`, without its calls."""
        self._counts.accepted += 1
        self._counts.filtered += 1
        if delivery.receipt is not None:
            delivery.receipt.settle(self._plugin, FILTERED)
        return FILTERED

    def _end_at_once(self, delivery: Delivery[Event], fate: Fate) -> Fate:
        """Accept an event and end it."""
        self._counts.accepted += 1
        self._counts.add(fate)
        delivery.settle(self._plugin, fate)
        return fate

    def _refuse(self, delivery: Delivery[Event]) -> Fate:
        self._counts.rejected += 1
        delivery.settle(self._plugin, Fate.REJECTED)
        return Fate.REJECTED

    def _refuse_for_good(self, delivery: Delivery[Event], why: Refusal) -> Refusal:
        """Refuse an event that can never come in, however much room there is."""
        self._counts.unacceptable += 1
        delivery.settle(self._plugin, Fate.UNACCEPTABLE)
        self._parts.log.warning("event is unacceptable", **delivery.identity(), reason=str(why))
        return why
