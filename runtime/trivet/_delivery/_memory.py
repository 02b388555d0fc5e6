"""The inbox in memory: a bounded memory channel, and an account of every event that came by.

Owns admission (who gets in when it is full), what is in hand, and the counters.
Never knows other inboxes, nor the supervisor that closes this one.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import attrs
import structlog
import trio

from .._envelope import Delivery
from .._errors import HandlerTimeoutError
from .._events import Event
from .._fates import ENDED, Fate
from .._inbox import Inbox, InboxStatistics
from .._policies import OnFull


@attrs.define(eq=False)
class Admission:
    """A publisher's place in the queue before a full inbox."""

    delivery: Delivery[Event]
    fate: Fate | None = None
    """None while it waits."""
    decided: trio.Event = attrs.field(factory=trio.Event)

    def decide(self, fate: Fate) -> None:
        """Tell the publisher."""
        self.fate = fate
        self.decided.set()


class MemoryInbox(Inbox[Any]):
    """See `Inbox`. One per plugin, for the life of the program.

    Events enter the channel by `send_nowait` only: a publisher that has to wait does so in a
    queue of its own, and whoever takes an event out lets the first of them in. So an event is
    counted as accepted at the instant in which it enters.
    """

    def __init__(self, plugin: str, *, buffer: int, delivery_limit: int) -> None:
        self._plugin = plugin
        self._delivery_limit = delivery_limit
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger(plugin=plugin)
        self._buffer = buffer
        self._send, self._receive = trio.open_memory_channel[Delivery[Event]](buffer)
        self._waiting: deque[Admission] = deque()
        self._returned: deque[Delivery[Event]] = deque()
        self._in_hand: dict[Delivery[Event], None] = {}
        self._counts: Counter[Fate] = Counter()
        self._accepted = 0
        self._timed_out = 0
        self._queued = 0
        self._closed = False
        self.is_read = False
        """Whether the plugin has asked for an event in this lifetime."""

    # The publisher's side.

    def offer(self, delivery: Delivery[Event]) -> Fate | None:
        """Take the event in if there is room: QUEUED, or REJECTED when closed. None when full."""
        if self._closed:
            return self._refuse(delivery)
        if self._waiting:
            return None
        try:
            self._send.send_nowait(delivery)
        except trio.WouldBlock:
            return None
        return self._accept(delivery)

    def queue_up(self, delivery: Delivery[Event]) -> Admission:
        """Wait for room behind the publishers that wait already."""
        admission = Admission(delivery)
        self._waiting.append(admission)
        return admission

    def withdraw(self, admission: Admission) -> None:
        """Leave the queue before the inbox, if still in it; nothing is counted."""
        if admission in self._waiting:
            self._waiting.remove(admission)

    def overflow(self, delivery: Delivery[Event], policy: OnFull) -> Fate:
        """Decide about an event for which there is no room."""
        if policy == "reject":
            return self._refuse(delivery)
        if policy == "drop_oldest":
            if (oldest := self._pop()) is not None:  # None: a reader has just taken the only one.
                self._end(oldest, Fate.DROPPED)
            self._send.send_nowait(delivery)
            return self._accept(delivery)
        self._accepted += 1
        self._end(delivery, Fate.DROPPED)
        return Fate.DROPPED

    def _accept(self, delivery: Delivery[Event]) -> Fate:
        self._accepted += 1
        self._queued += 1
        delivery.settle(self._plugin, Fate.QUEUED)
        return Fate.QUEUED

    def _refuse(self, delivery: Delivery[Event]) -> Fate:
        self._counts[Fate.REJECTED] += 1
        delivery.settle(self._plugin, Fate.REJECTED)
        return Fate.REJECTED

    # The plugin's side.

    async def receive(self) -> Delivery[Event]:
        """See `Inbox`."""
        self.is_read = True
        while True:
            if self._returned:
                await trio.lowlevel.checkpoint()
                try:
                    return self.receive_nowait()
                except trio.WouldBlock:
                    continue  # Another task was quicker.
            delivery = await self._receive.receive()
            self._queued -= 1
            self._admit()
            if self._hand_out(delivery):
                return delivery

    def receive_nowait(self) -> Delivery[Event]:
        """See `Inbox`."""
        self.is_read = True
        while True:
            if self._returned:
                delivery = self._returned.popleft()
            else:
                delivery = self._receive.receive_nowait()
                self._admit()
            self._queued -= 1
            if self._hand_out(delivery):
                return delivery

    def done(self, delivery: Delivery[Event]) -> None:
        """See `Inbox`."""
        if delivery in self._in_hand:
            del self._in_hand[delivery]
            self._end(delivery, Fate.HANDLED)

    def fail(self, delivery: Delivery[Event], error: Exception) -> None:
        """See `Inbox`."""
        if delivery in self._in_hand:
            del self._in_hand[delivery]
            self._end(delivery, Fate.FAILED)
            self._timed_out += isinstance(error, HandlerTimeoutError)
            self._log.error("event failed", **delivery.identity(), exc_info=error)

    def statistics(self) -> InboxStatistics:
        """See `Inbox`."""
        return InboxStatistics(
            accepted=self._accepted,
            queued=self._queued,
            in_hand=len(self._in_hand),
            rejected=self._counts[Fate.REJECTED],
            timed_out=self._timed_out,
            **{fate.value: self._counts[fate] for fate in ENDED},
        )

    # The supervisor's side.

    def close(self) -> None:
        """Let nothing more in. What is inside can still be read; then iteration ends."""
        self._closed = True
        self._send.close()
        while self._waiting:
            admission = self._waiting.popleft()
            admission.decide(self._refuse(admission.delivery))

    def lifetime_ended(self, *, crashed: bool) -> None:
        """Take back what the plugin had in hand when its lifetime ended, for the next one.

        Args:
            crashed: whether that may have been the fault of these events. Those that have been
                handed out as often as the delivery limit allows have failed then.
        """
        self.is_read = False
        for delivery in reversed(self._in_hand):
            if crashed and delivery.attempt >= self._delivery_limit:
                self._end(delivery, Fate.FAILED)
                self._log.error(
                    "event failed: run() crashed too often with it in hand",
                    **delivery.identity(),
                    attempts=delivery.attempt,
                )
            else:
                attempt = delivery.attempt + 1 if crashed else delivery.attempt
                self._returned.appendleft(attrs.evolve(delivery, attempt=attempt))
                self._queued += 1
                delivery.settle(self._plugin, Fate.QUEUED)
        self._in_hand.clear()

    def abandon(self) -> None:
        """Close, and end everything that is still inside: nobody will read it any more."""
        self.close()
        abandoned = [*self._in_hand, *self._returned]
        self._queued -= len(self._returned)
        self._in_hand.clear()
        self._returned.clear()
        while (delivery := self._pop()) is not None:
            abandoned.append(delivery)
        for delivery in abandoned:
            self._end(delivery, Fate.ABANDONED)
        if abandoned:
            self._log.error("events abandoned", count=len(abandoned), first=abandoned[0].id)

    def reopen(self) -> None:
        """Let events in again, after it was abandoned."""
        if self._closed:
            self._closed = False
            self._send, self._receive = trio.open_memory_channel[Delivery[Event]](self._buffer)

    def _pop(self) -> Delivery[Event] | None:
        try:
            delivery = self._receive.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return None
        self._queued -= 1
        return delivery

    def _admit(self) -> None:
        """Let those who wait in, the first one first, as far as there is room.

        A reader that was woken may have left none: the event that woke it went past the buffer.
        """
        while self._waiting:
            try:
                self._send.send_nowait(self._waiting[0].delivery)
            except trio.WouldBlock:
                return
            admission = self._waiting.popleft()
            admission.decide(self._accept(admission.delivery))

    def _hand_out(self, delivery: Delivery[Event]) -> bool:
        if delivery.deadline <= trio.current_time():
            self._end(delivery, Fate.EXPIRED)
            return False
        self._in_hand[delivery] = None
        delivery.settle(self._plugin, Fate.IN_HAND)
        return True

    def _end(self, delivery: Delivery[Event], fate: Fate) -> None:
        self._counts[fate] += 1
        delivery.settle(self._plugin, fate)
