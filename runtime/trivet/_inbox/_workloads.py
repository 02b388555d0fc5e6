"""The work of a plugin's workers: the events of its inbox, one by one or batch by batch.

Owns the meaning of a handler's exception for the events it was given.
Never knows the tasks that do the work, nor what limits their time: those are `_workers`'.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from .._events._delivery import Delivery
from .._events._delivery_settings import DeliveryPolicy
from .._events._event import Event
from ._batching import Batch, batched
from ._fast_path import Slot
from ._inbox import Deliveries, Inbox
from ._workers import Pieces, Workload, handle_plain

E = TypeVar("E", bound=Event)


class OneByOne(Workload[Delivery[E]]):
    """The events of an inbox, one by one."""

    def __init__(self, inbox: Inbox[E], handle: Callable[[E], Awaitable[None]]) -> None:
        self._inbox = inbox
        if (tracing := inbox.tracing) is not None:
            handle = tracing.each(inbox.fast_path.plugin, handle)
        self._handle = handle

    def pieces(self) -> Pieces[Delivery[E]]:
        """See `Workload`."""
        return _Deliveries(self._inbox, self._handle)

    def handle(self, piece: Delivery[E]) -> Awaitable[None]:
        """See `Workload`."""
        return self._handle(piece.event)

    def fail(self, piece: Delivery[E], error: Exception) -> None:
        """See `Workload`."""
        self._inbox.reject(piece, error)

    def expire(self, piece: Delivery[E]) -> None:
        """See `Workload`."""
        self._inbox.expire(piece)

    def deadline(self, piece: Delivery[E]) -> float:
        """See `Workload`."""
        return piece.deadline

    def identity(self, piece: Delivery[E]) -> dict[str, object]:
        """See `Workload`."""
        return piece.identity()


class ByBatch(Workload[Batch[E]]):
    """The events of an inbox in batches. The deadline of one event does not cancel a batch."""

    def __init__(
        self,
        inbox: Inbox[E],
        handle: Callable[[Batch[E]], Awaitable[None]],
        policy: DeliveryPolicy,
    ) -> None:
        self._inbox = inbox
        if (tracing := inbox.tracing) is not None:
            handle = tracing.batches(inbox.fast_path.plugin, handle)
        self._handle = handle
        self._policy = policy

    def pieces(self) -> Pieces[Batch[E]]:
        """See `Workload`."""
        policy = self._policy
        return _Batches(
            batched(
                self._inbox,
                size=policy.batch_size,
                within=policy.batch_age,
                bytes=policy.batch_bytes,
            )
        )

    def handle(self, piece: Batch[E]) -> Awaitable[None]:
        """See `Workload`."""
        return self._handle(piece)

    def fail(self, piece: Batch[E], error: Exception) -> None:
        """See `Workload`."""
        self._inbox.reject_all(piece.deliveries, error)

    def expire(self, piece: Batch[E]) -> None:
        """See `Workload`."""
        raise AssertionError("a batch has no deadline")

    def deadline(self, piece: Batch[E]) -> float:
        """See `Workload`."""
        return math.inf

    def identity(self, piece: Batch[E]) -> dict[str, object]:
        """See `Workload`."""
        return {"events": len(piece)}


class _Deliveries(Deliveries[E], Pieces[Delivery[E]]):
    def __init__(self, inbox: Inbox[E], handle: Callable[[E], Awaitable[None]]) -> None:
        super().__init__(inbox)
        self._handle = handle
        self.slot = Slot()

    async def run_ahead(self) -> None:
        """See `Pieces`."""
        self._settle()
        await handle_plain(self._inbox, self._handle, self.slot)


class _Batches(Pieces[Batch[E]]):
    def __init__(self, batches: AsyncIterator[Batch[E]]) -> None:
        self._batches = batches
        self.slot = Slot()

    async def run_ahead(self) -> None:
        """See `Pieces`: a batch has to be gathered first."""

    def take(self) -> None:
        """See `Pieces`."""

    async def wait(self) -> Batch[E] | None:
        """See `Pieces`."""
        return await anext(self._batches, None)
