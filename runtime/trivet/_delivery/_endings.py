"""The ends of the events of one inbox: each is counted once, and everybody is told.

Owns what an end changes, and those who wait for one.
Never knows why an event has ended, nor how it was handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import trio

from .._events._delivery import Delivery, Identity
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import FIRST, History
from .._inbox._fast_path import FastPath
from ._backing import Backing, Parts

# To look an enum's member up by its name takes longer than to count an event.
HANDLED = Fate.HANDLED

Watch: TypeAlias = Callable[[Delivery[Event], Fate, History], None]
"""Is told of an event, of its fate, and of its failed attempts. It must neither wait nor raise."""
WATCHED = "somebody looks at what becomes of events"


class Endings:
    """The ends of the events of one inbox.

    Args:
        parts: the inbox's.
        path: the inbox's fast path.
        backing: the inbox's.
        is_closed: says whether nothing more comes in.
    """

    def __init__(
        self, parts: Parts, path: FastPath, backing: Backing, is_closed: Callable[[], bool]
    ) -> None:
        self._plugin = parts.plugin
        self._parts = parts
        self._counts = parts.counts
        self._repeats = parts.repeats
        self._histories = parts.in_flight.histories
        self._path = path
        self._backing = backing
        self._is_closed = is_closed
        self._idle: trio.Event | None = None
        self._watches: list[Watch] = []

    @contextmanager
    def watched(self, watch: Watch) -> Generator[None]:
        """Tell the end of each attempt within this block.

        The fast path is closed meanwhile, so that an event at which nobody looks costs no more.
        """
        self._watches.append(watch)
        self._path.mind(WATCHED, True)
        try:
            yield
        finally:
            self._watches.remove(watch)
            self._path.mind(WATCHED, bool(self._watches))

    def tell(self, delivery: Delivery[Event], fate: Fate, history: History = FIRST) -> None:
        """Tell those who look on what has become of an event."""
        for watch in self._watches:
            watch(delivery, fate, history)

    # Of events in flight.

    def finish(self, delivery: Delivery[Event], fate: Fate, history: History | None = None) -> None:
        """End an event that is in flight; see `end`. One that is not stays as it is."""
        if self._parts.in_flight.release(delivery):
            self._parts.queue.done(delivery)
            self.end(delivery, fate, history)
            self._go_on()

    def finish_handled(self, deliveries: Iterable[Delivery[Event]]) -> None:
        """End events that are in flight, and have been handled, unless they are kept."""
        if finished := self._parts.in_flight.release_all(deliveries):
            self._parts.queue.done(*finished)
            self._end_handled(finished)
            if self._watches:
                for delivery in finished:
                    self.tell(delivery, HANDLED)
            self._go_on(len(finished))

    def _go_on(self, ended: int = 1) -> None:
        """Tell those who wait for the end of what was in flight."""
        if self._parts.readers.parked:
            self._wake_followers(ended)
        self.tell_idle()

    def _wake_followers(self, ended: int) -> None:
        """Wake those who may take now what waited for events; or nothing is left at all."""
        readers = self._parts.readers
        if self._is_closed():
            readers.wake_all()
        elif self._parts.policy.ordering_key is not None:
            for _ in range(min(ended, len(readers.parked))):
                readers.wake()

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while len(self._parts.in_flight):
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()

    def tell_idle(self) -> None:
        """Tell who waits for that if nothing is in flight."""
        if self._idle is not None and not len(self._parts.in_flight):
            self._idle.set()
            self._idle = None

    # Of any event.

    def end(self, delivery: Delivery[Event], fate: Fate, history: History | None = None) -> None:
        """Count the end of an event that was inside, and tell everybody.

        Args:
            delivery: the event, which is in no other part of the inbox any more.
            fate: its end.
            history: its failed attempts, where they are not those that were known before.
        """
        path, counts = self._path, self._counts
        if fate is HANDLED:
            counts.handled += 1
        else:
            counts.add(fate)
        if path.is_open and delivery.is_plain:
            return
        known = self._histories.pop(delivery, FIRST) if self._histories else FIRST
        counts.bytes -= (size := delivery.size)
        event = delivery.given
        may_come_again = event is not None and self._repeats.ended(event, fate, self._plugin)
        if delivery.receipt is not None:
            delivery.receipt.settle(self._plugin, fate)
        if not path.is_open:
            if may_come_again and event is not None:
                self._backing.forget(event)
            self._backing.ended(delivery, fate, history or known)
        if self._watches:
            self.tell(delivery, fate, history or known)
        if size:
            self._freed(size)

    def _end_handled(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """End events that have been handled, each step for all of them; see `end`."""
        path, histories = self._path, self._histories
        self._counts.handled += len(deliveries)
        if path.is_open:
            deliveries = [delivery for delivery in deliveries if not delivery.is_plain]
            if not deliveries:
                return
        size = 0
        events: list[Identity] = []
        for delivery in deliveries:
            if histories:
                histories.pop(delivery, None)
            size += delivery.size
            if delivery.given is not None:
                events.append(delivery.given)
            if delivery.receipt is not None:
                delivery.receipt.settle(self._plugin, HANDLED)
        self._counts.bytes -= size
        if events:
            self._repeats.handled_all(events, self._plugin)
        if not path.is_open:
            self._backing.handled_together(deliveries)
        if size:
            self._freed(size)

    def finish_quickly(self, delivery: Delivery[Event]) -> None:
        """End an event that was handled on the fast path, and is not plain.

        As `end`, of what it may come to there: the event has an id, a receipt or a size.
        """
        if self._histories or not self._path.is_open:
            self.end(delivery, HANDLED)
            return
        counts, size = self._counts, delivery.size
        counts.handled += 1
        counts.bytes -= size
        if delivery.given is not None:
            self._repeats.ended(delivery.given, HANDLED, self._plugin)
        if delivery.receipt is not None:
            delivery.receipt.settle(self._plugin, HANDLED)
        if size:
            self._freed(size)

    def drop(self, delivery: Delivery[Event]) -> None:
        """End an event that makes room for another."""
        self.end(delivery, Fate.DROPPED)
        self._parts.readers.wake_all()  # For what had to wait for that one.

    def _freed(self, size: int) -> None:
        """Let those in that wait for the memory that was freed."""
        if not self._path.is_open:
            self._parts.room_made()
        memory = self._parts.memory
        memory.free += size
        if memory.waiters:
            memory.let_in()
