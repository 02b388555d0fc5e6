"""What an inbox is to a plugin: events to iterate over, and an account of what became of them.

Owns the interface, the two iterators on top of it and the statistics.
Never knows how an inbox keeps its events: that is `_delivery._memory`, and `_delivery._durable`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic

import attrs
import trio

from .._events._delivery import Delivery, E_co, delivery_of_task
from .._events._delivery_settings import DeliveryPolicy
from .._events._event import Event

BURST = 64
"""Events that a reader takes, at most, before it lets every other task have its turn."""


@attrs.frozen(kw_only=True)
class InboxStatistics:
    """One inbox at one instant.

    `accepted` is the sum of what follows it, up to and including `abandoned`.
    """

    accepted: int
    """Events taken in since the program started, and those that a durable inbox had then."""
    queued: int
    """Waiting in the inbox now."""
    in_flight: int
    """With the plugin now."""
    backing_off: int
    """Waiting now to be tried again after a failure."""
    handled: int
    """Ended because the plugin asked for the next one."""
    filtered: int
    """Ended because the filter left them out."""
    duplicate: int
    """Ended because the plugin has had them already."""
    failed: int
    """Ended because the handler raised once too often, or `run()` crashed with them in flight."""
    dead_lettered: int
    """Ended for the same reason, and kept among the dead letters."""
    expired: int
    """Ended because the deadline was over before they were handled."""
    dropped: int
    """Ended by the overflow policy."""
    abandoned: int
    """Ended because the plugin stopped for good with them in memory."""
    bytes: int
    """Memory that the events from outside take which are queued, in flight or backing off now, by
    the estimates that were made before they were decoded."""
    rejected: int
    """Refused, never accepted: the inbox was full or closed, or the store could not be written."""
    unacceptable: int
    """Refused for good, never accepted: the inbox cannot hold such an event."""
    retried: int
    """Attempts that have failed, and were followed or will be followed by another."""
    timed_out: int
    """Attempts that have failed because they took longer than the handler's time limit."""


class Inbox(ABC, Generic[E_co]):
    """The events that wait for one plugin, in order.

    Iterate over it to get them. To ask for the next one says that the last one is done; an event
    whose `run()` crashes before that is handed out again after the restart, up to the delivery
    limit. Iteration ends when the inbox is closed and empty, which is how a plugin learns of a
    stop. Several tasks may each iterate on their own.

    Iteration is sugar for `receive` and `accept`, which are there for who needs to decide himself
    when an event is done. Within a loop `reject` decides otherwise, and `keep` later.
    """

    policy: DeliveryPolicy
    """How its plugin is delivered to, when the operator, the author and the event types have had
    their say. A `run()` of the author's own heeds it."""

    @abstractmethod
    async def receive(self) -> Delivery[E_co]:
        """Wait for the next event; in flight until `accept` or `reject`. Always a checkpoint.

        Raises:
            trio.EndOfChannel: closed, and nothing is left.
        """

    @abstractmethod
    def receive_nowait(self) -> Delivery[E_co]:
        """As `receive`, without waiting.

        Raises:
            trio.WouldBlock: nothing is there now.
            trio.EndOfChannel: closed, and nothing is left.
        """

    @abstractmethod
    async def hand_to(self, handle: Callable[[E_co], Awaitable[None]]) -> None:
        """Have the events handled in turn, while there is nothing to mind but their order.

        Args:
            handle: called with each; what it raises rejects that one.
        """

    @abstractmethod
    def take(self) -> Delivery[E_co] | None:
        """As `receive_nowait`; None where that raises."""

    @abstractmethod
    def take_some(self, at_most: int) -> list[Delivery[E_co]]:
        """As `take`, so many times, or until it returns None."""

    @abstractmethod
    def accept(self, delivery: Delivery[Event]) -> None:
        """End an event that is in flight as handled. One that has ended already stays as it is."""

    @abstractmethod
    def accept_all(self, deliveries: Iterable[Delivery[Event]]) -> None:
        """As `accept` with each of them that is not kept."""

    @abstractmethod
    def reject(self, delivery: Delivery[Event], error: Exception) -> None:
        """End this attempt at an event that is in flight as failed.

        Whether it is handed out again, and when, is for the delivery's `retry…` to say, and for a
        `PermanentError` or a `RetryAfter`. One that has ended already stays as it is.
        """

    @abstractmethod
    def reject_all(self, deliveries: Iterable[Delivery[Event]], error: Exception) -> None:
        """As `reject` with each of them, where one error befell all.

        That they are tried again is logged once.
        """

    @abstractmethod
    def expire(self, delivery: Delivery[Event]) -> None:
        """End an event that is in flight because its deadline is over."""

    @abstractmethod
    def keep(self, delivery: Delivery[Event]) -> None:
        """Keep an event in flight when the next one is asked for, until `accept` or `reject`."""

    @abstractmethod
    def is_kept(self, delivery: Delivery[Event]) -> bool:
        """Whether it is in flight, and kept there."""

    @abstractmethod
    def statistics(self) -> InboxStatistics:
        """What has become of everything so far."""

    def __aiter__(self) -> AsyncIterator[E_co]:
        """Iterate over the payloads; the envelope is `current_delivery()`."""
        return _Events(self)

    def deliveries(self) -> Deliveries[E_co]:
        """Iterate over the events in their envelopes."""
        return Deliveries(self)


class Deliveries(AsyncIterator[Delivery[E_co]]):
    """See `Inbox.deliveries`. Who has to be quick asks for what is there without an `await`."""

    def __init__(self, inbox: Inbox[E_co]) -> None:
        self._inbox = inbox
        self._last: Delivery[E_co] | None = None
        self._streak = 0

    def _settle(self) -> None:
        """The last one is done."""
        if self._last is not None:
            last, self._last = self._last, None
            if not self._inbox.is_kept(last):
                self._inbox.accept(last)

    async def hand_to(self, handle: Callable[[E_co], Awaitable[None]]) -> None:
        """Have those handled for which there is nothing else to mind; see `Inbox.hand_to`."""
        self._settle()
        await self._inbox.hand_to(handle)

    def take(self) -> Delivery[E_co] | None:
        """The next one if it is there; None too where it is everyone else's turn."""
        self._settle()
        if self._streak == BURST:
            return None
        delivery = self._inbox.take()
        if delivery is not None:
            self._streak += 1
            self._last = delivery
            delivery_of_task.set(delivery)
        return delivery

    async def wait(self) -> Delivery[E_co] | None:
        """Wait for the next one; None where nothing is left. Always a checkpoint."""
        self._streak = 1
        delivery_of_task.set(None)
        try:
            delivery = self._last = await self._inbox.receive()
        except trio.EndOfChannel:
            return None
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
