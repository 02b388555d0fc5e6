"""Batches out of an inbox.

Owns when a batch is full.
Never knows the kind of its inbox, nor the purpose of a batch.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Generic, Literal, TypeVar

import trio
from msgspec.json import encode

from .._events._delivery import Delivery
from .._events._event import Event
from .._events._turns import off_loop
from ._inbox import Inbox
from ._latencies import TIMED_EVERY

E = TypeVar("E", bound=Event)

ClosedBy = Literal["size", "bytes", "age", "stop"]


class Batch(list[E]):
    """Events that are handled together.

    The events are done when the next batch is asked for. To decide about one of them otherwise,
    call `self.inbox.reject(batch.deliveries[0], error)` before that, or `keep`.
    """

    def __init__(self, deliveries: Sequence[Delivery[E]], closed_by: ClosedBy) -> None:
        super().__init__([delivery.event for delivery in deliveries])
        self.deliveries: tuple[Delivery[E], ...] = tuple(deliveries)
        """The same events in their envelopes."""
        self.closed_by: ClosedBy = closed_by
        """The limit that closed the batch, `"size"`, `"bytes"` or `"age"`; or `"stop"`, where no
        more events will come."""


def batched(
    inbox: Inbox[E], *, size: int, within: float, bytes: int | None = None
) -> AsyncIterator[Batch[E]]:
    """Iterate over an inbox in lists of events.

    A batch closes when it is full or old enough, or when the inbox is closed and empty. Asking for
    the next batch says that the last one is done, except for events that were rejected or kept.

    Args:
        inbox: the inbox.
        size: events in a batch, at most.
        within: seconds after its first event in which a batch closes, full or not.
        bytes: JSON bytes in a batch, at most; an event larger than that is a batch of its own.

    Raises:
        ValueError: `size`, `within` or `bytes` is not positive.
    """
    if size < 1 or within <= 0 or (bytes is not None and bytes < 1):
        raise ValueError("size, within and bytes must be positive")
    return _Batches(inbox, size, within, math.inf if bytes is None else bytes)


class _Batches(AsyncIterator[Batch[E]], Generic[E]):
    def __init__(self, inbox: Inbox[E], size: int, within: float, max_bytes: float) -> None:
        self._inbox = inbox
        self._size = size
        self._within = within
        self._max_bytes = max_bytes
        self._given: tuple[Delivery[E], ...] = ()
        self._since = 0.0
        self._batch: list[Delivery[E]] = []  # Outlives a wait that is cancelled.
        self._until = math.inf
        self._room = max_bytes
        self._held: Delivery[E] | None = None  # The event that did not fit any more.

    async def __anext__(self) -> Batch[E]:
        if self._given:
            self._settle()
        try:
            closed_by = await self._fill()
        except trio.EndOfChannel:
            if not self._batch:
                raise StopAsyncIteration from None
            closed_by = "stop"
        batch, self._batch = Batch(self._in_time(self._batch), closed_by), []
        if not batch:
            return await self.__anext__()
        self._given, self._since = batch.deliveries, trio.current_time()
        return batch

    def _settle(self) -> None:
        """End the last batch."""
        given, self._given = self._given, ()
        path = self._inbox.fast_path
        every = TIMED_EVERY if path.is_open else 1
        path.latencies.add_batch(given, trio.current_time() - self._since, every=every)
        self._inbox.accept_all(given)

    def _in_time(self, deliveries: list[Delivery[E]]) -> list[Delivery[E]]:
        """The events that did not expire while the batch was being filled."""
        now = trio.current_time()
        for delivery in deliveries:
            if delivery.deadline <= now:
                self._inbox.expire(delivery)
        return [delivery for delivery in deliveries if delivery.deadline > now]

    async def _fill(self) -> ClosedBy:
        if not self._batch:
            delivery = await self._first()
            self._until, self._room = trio.current_time() + self._within, self._max_bytes
            await self._add([delivery])
        while self._held is None and self._room > 0 and len(self._batch) < self._size:
            # The room in bytes is known only after each event.
            at_most = self._size - len(self._batch) if self._room == math.inf else 1
            following = self._inbox.take_some(at_most) or await self._receive_until(self._until)
            if not following:
                return "age"
            await self._add(following)
        return "size" if len(self._batch) == self._size else "bytes"

    async def _first(self) -> Delivery[E]:
        if self._held is None:
            return await self._inbox.receive()
        await trio.lowlevel.checkpoint()
        delivery, self._held = self._held, None
        return delivery

    async def _add(self, deliveries: list[Delivery[E]]) -> None:
        if self._room == math.inf:
            self._batch += deliveries
            return
        for delivery in deliveries:
            weight = 0
            with trio.CancelScope(shield=True):  # The event is in flight, and in no batch yet.
                weight = await off_loop(delivery.size, partial(_weight, delivery.event))
            if self._batch and weight > self._room:
                self._held = delivery
            else:
                self._batch.append(delivery)
                self._room -= weight

    async def _receive_until(self, until: float) -> list[Delivery[E]]:
        try:
            return [self._inbox.receive_nowait()]
        except trio.WouldBlock:
            pass
        with trio.move_on_at(until):
            return [await self._inbox.receive()]
        return []


def _weight(event: Event) -> int:
    """The bytes of an event's JSON; 0 if it has none, which its handler will find out."""
    try:
        return len(encode(event))
    except Exception:  # A value's own type may raise anything.
        return 0
