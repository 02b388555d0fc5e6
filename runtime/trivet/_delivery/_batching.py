"""Batches out of an inbox.

Owns when a batch is full.
Never knows what kind of inbox it reads, nor what a batch is for.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import msgspec
import trio

from .._envelope import Delivery
from .._events import Event
from .._inbox import Inbox

E = TypeVar("E", bound=Event)


def batched(
    inbox: Inbox[E], *, size: int, within: float, bytes: int | None = None
) -> AsyncIterator[list[E]]:
    """Iterate over an inbox in lists of events.

    A batch closes when it is full or old enough, or when the inbox is closed and empty. To ask
    for the next batch says that the last one is done, all of it.

    Args:
        inbox: what to read.
        size: events in a batch, at most.
        within: seconds after its first event in which a batch closes, full or not.
        bytes: JSON bytes in a batch, at most; an event larger than that is a batch of its own.

    Raises:
        ValueError: for a `size`, `within` or `bytes` that is not positive.
    """
    if size < 1 or within <= 0 or (bytes is not None and bytes < 1):
        raise ValueError("size, within and bytes must be positive")
    return _Batches(inbox, size, within, math.inf if bytes is None else bytes)


class _Batches(AsyncIterator[list[E]], Generic[E]):
    def __init__(self, inbox: Inbox[E], size: int, within: float, max_bytes: float) -> None:
        self._inbox = inbox
        self._size = size
        self._within = within
        self._max_bytes = max_bytes
        self._given: list[Delivery[E]] = []
        self._batch: list[Delivery[E]] = []  # Being filled; it outlives a cancelled wait.
        self._until = math.inf
        self._room = max_bytes
        self._held: Delivery[E] | None = None  # The one that would have been too much.

    async def __anext__(self) -> list[E]:
        for delivery in self._given:
            self._inbox.done(delivery)
        self._given = []
        try:
            await self._fill()
        except trio.EndOfChannel:
            if not self._batch:
                raise StopAsyncIteration from None
        self._given, self._batch = self._batch, []
        return [delivery.event for delivery in self._given]

    async def _fill(self) -> None:
        if not self._batch:
            delivery = await self._first()
            self._until, self._room = trio.current_time() + self._within, self._max_bytes
            self._add(delivery)
        while self._held is None and self._room > 0 and len(self._batch) < self._size:
            following = await self._receive_until(self._until)
            if following is None:
                return
            self._add(following)

    async def _first(self) -> Delivery[E]:
        if self._held is None:
            return await self._inbox.receive()
        await trio.lowlevel.checkpoint()
        delivery, self._held = self._held, None
        return delivery

    def _add(self, delivery: Delivery[E]) -> None:
        weight = self._weight(delivery)
        if self._batch and weight > self._room:
            self._held = delivery
        else:
            self._batch.append(delivery)
            self._room -= weight

    async def _receive_until(self, until: float) -> Delivery[E] | None:
        try:
            return self._inbox.receive_nowait()
        except trio.WouldBlock:
            pass
        with trio.move_on_at(until):
            return await self._inbox.receive()
        return None

    def _weight(self, delivery: Delivery[E]) -> int:
        return 0 if self._max_bytes == math.inf else len(msgspec.json.encode(delivery.event))
