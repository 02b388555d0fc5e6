"""The inbox as a plugin sees it: events to iterate over, and an account of what became of them.

Owns the interface, and the two iterators on top of it.
Never knows how an inbox keeps its events: that is `_delivery._bounded`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Generic

import trio

from .._events._delivery import Delivery, E_co, delivery_of_task
from .._events._delivery_settings import DeliveryPolicy
from .._events._event import Event
from ._counts import InboxStatistics
from ._fast_path import FastPath
from ._latencies import TIMED_EVERY, Sampling
from ._quantum import READ

if TYPE_CHECKING:
    from .._events._tracing import Tracing


class Inbox(ABC, Generic[E_co]):
    """The events that wait for one plugin, in order.

    `async for event in self.inbox` hands the events out. Asking for the next event says that the
    last one is done. If `run()` crashes before that, the event is handed out again after the
    restart, up to the `delivery_limit`. Several tasks may iterate side by side.

    Iteration is sugar for `receive` and `accept`, with which a plugin decides itself when an event
    is done. Within a loop, `reject` ends the last event as failed, and `keep` leaves it in flight.

    Life: the inbox outlives restarts. A stop closes it, and the iteration ends when it is empty.
    """

    policy: DeliveryPolicy
    """The delivery policy of the plugin, decided by the operator, the author and the event types. A
    `run()` of the author's own heeds it."""
    tracing: Tracing | None = None
    """Makes spans of attempts; None where traces are off. Not for plugins."""
    fast_path: FastPath
    """The part that Trivet's bus and workers share with the inbox; not for plugins."""

    @abstractmethod
    async def receive(self) -> Delivery[E_co]:
        """Wait for the next event, in flight until `accept` or `reject`. Always a checkpoint.

        Raises:
            trio.EndOfChannel: the inbox is closed, and no event is left.
        """

    @abstractmethod
    def receive_nowait(self) -> Delivery[E_co]:
        """Take the next event without waiting.

        Raises:
            trio.WouldBlock: no event can be handed out now.
            trio.EndOfChannel: the inbox is closed, and no event is left.
        """

    @abstractmethod
    def take(self) -> Delivery[E_co] | None:
        """Take the next event without waiting; None where `receive_nowait` raises."""

    @abstractmethod
    def take_some(self, at_most: int) -> list[Delivery[E_co]]:
        """Take the next events without waiting, at most `at_most`; the list may be empty."""

    @abstractmethod
    def accept(self, delivery: Delivery[Event]) -> None:
        """End an event that is in flight as handled. An event that has ended stays as it is."""

    @abstractmethod
    def accept_all(self, deliveries: Iterable[Delivery[Event]]) -> None:
        """Accept each of these events that is not kept."""

    @abstractmethod
    def reject(self, delivery: Delivery[Event], error: Exception) -> None:
        """End this attempt at an event that is in flight as failed.

        The delivery's `retry…` settings decide whether and when another attempt follows. A
        `PermanentError` rules it out, and a `RetryAfter` delays it. An event that has ended stays
        as it is.
        """

    @abstractmethod
    def reject_all(self, deliveries: Iterable[Delivery[Event]], error: Exception) -> None:
        """Reject events that have failed together, by one error.

        The log says once that they are tried again.
        """

    @abstractmethod
    def expire(self, delivery: Delivery[Event]) -> None:
        """End an event that is in flight because its deadline is over."""

    @abstractmethod
    def keep(self, delivery: Delivery[Event]) -> None:
        """Keep an event in flight when the next one is asked for, until `accept` or `reject`."""

    @abstractmethod
    def is_kept(self, delivery: Delivery[Event]) -> bool:
        """Whether an event is in flight, and kept there."""

    @abstractmethod
    def statistics(self) -> InboxStatistics:
        """The counters of the inbox at this instant."""

    def __aiter__(self) -> AsyncIterator[E_co]:
        """Iterate over the payloads; the envelope is `current_delivery()`."""
        return _Events(self)

    def deliveries(self) -> Deliveries[E_co]:
        """Iterate over the events in their envelopes."""
        return Deliveries(self)


class Deliveries(AsyncIterator[Delivery[E_co]]):
    """See `Inbox.deliveries`. A quick loop takes events that are there without an `await`."""

    def __init__(self, inbox: Inbox[E_co]) -> None:
        self._inbox = inbox
        self._path = inbox.fast_path
        self._last: Delivery[E_co] | None = None
        self._streak = 0
        self._sampling = Sampling()
        self._untimed = TIMED_EVERY - 1  # Events before the next one that is timed for others.
        self._since: float | None = None  # When the last event was handed out, if it is timed.
        self._weight = 1  # The number of events for which it stands.

    def _settle(self) -> None:
        """End the last event."""
        if self._last is not None:
            last, self._last = self._last, None
            if self._since is not None:
                took = trio.current_time() - self._since
                self._path.latencies.add(last, took, self._weight)
                self._since = None
            if not self._inbox.is_kept(last):
                self._inbox.accept(last)

    def take(self) -> Delivery[E_co] | None:
        """Take the next event if it is there; None also when other tasks have their turn first."""
        self._settle()
        if self._streak == READ:
            return None
        delivery = self._inbox.take()
        if delivery is not None:
            self._streak += 1
            self._last = delivery
            if self._untimed and self._path.is_open:
                self._untimed -= 1
            else:
                self._time(trio.current_time())
            delivery_of_task.set(delivery)
        return delivery

    def _time(self, now: float) -> None:
        """Time the event that was just handed out."""
        self._since = now
        if not self._path.is_open:
            self._weight = 1
        elif self._untimed:
            self._untimed -= 1
            self._weight = self._sampling.for_itself(now)
        else:
            self._untimed = TIMED_EVERY - 1
            self._weight = self._sampling.for_others()

    async def wait(self) -> Delivery[E_co] | None:
        """Wait for the next event; None when no event is left. Always a checkpoint."""
        self._streak = 1
        delivery_of_task.set(None)
        try:
            delivery = self._last = await self._inbox.receive()
        except trio.EndOfChannel:
            return None
        now = trio.current_time()
        if self._untimed and now < self._sampling.again and self._path.is_open:
            self._untimed -= 1
        else:
            self._time(now)
        delivery_of_task.set(delivery)
        return delivery

    async def __anext__(self) -> Delivery[E_co]:
        delivery = self.take() or await self.wait()
        if delivery is None:
            raise StopAsyncIteration
        return delivery


class _Events(AsyncIterator[E_co]):
    def __init__(self, inbox: Inbox[E_co]) -> None:
        self._deliveries = inbox.deliveries()

    async def __anext__(self) -> E_co:
        return (self._deliveries.take() or await self._deliveries.__anext__()).event
