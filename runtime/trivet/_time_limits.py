"""A limit for the time that a handler takes for one event, at no cost for an event that keeps it.

Owns the stamps of the events that are being handled, and the cancellation of those that are late.
Never knows what a handler does, nor what becomes of an event that has failed.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio

from ._envelope import Delivery
from ._errors import HandlerTimeoutError
from ._inbox import Inbox

Handle = Callable[[Delivery[Any]], Awaitable[None]]


class TimeLimit:
    """The workers of one plugin, and a watch over them.

    A worker has one scope for all its events, until one of them is late: then the watch cancels
    that scope, and the worker goes on in a new one. An event costs two assignments.

    Args:
        inbox: what the workers read.
        handle: handles one event; it deals with what the handler raises.
        seconds: the limit.
        log: the plugin's.
    """

    def __init__(
        self,
        inbox: Inbox[Any],
        handle: Handle,
        seconds: float,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._inbox = inbox
        self._handle = handle
        self._seconds = seconds
        self._log = log
        self._workers: list[_Worker] = []

    async def run(self, workers: int) -> None:
        """Handle events, so many side by side, until the inbox is closed and empty."""
        async with trio.open_nursery() as watching:
            watching.start_soon(self._watch)
            async with trio.open_nursery() as nursery:
                for _ in range(workers):
                    nursery.start_soon(self._work)
            watching.cancel_scope.cancel()

    async def _work(self) -> None:
        worker = _Worker()
        self._workers.append(worker)
        deliveries = self._inbox.deliveries()
        while not worker.is_done:
            with worker.scope:
                async for delivery in deliveries:
                    worker.delivery, worker.until = delivery, trio.current_time() + self._seconds
                    try:
                        await self._handle(delivery)
                    except trio.Cancelled as cancelled:
                        worker.stood_at = "".join(traceback.format_tb(cancelled.__traceback__))
                        raise
                    if worker.is_late:
                        break  # It ended in spite of the cancellation, which is still to be felt.
                    worker.until = math.inf
                else:
                    worker.is_done = True
            if worker.is_late:
                self._fail(worker)
            worker.renew()

    def _fail(self, worker: _Worker) -> None:
        assert worker.delivery is not None
        # One that kept the limit at the last moment is no longer in hand, and stays as it ended.
        self._inbox.fail(
            worker.delivery,
            HandlerTimeoutError(
                f"handle_event() took longer than {self._seconds:g} s; it stood at\n"
                f"{worker.stood_at}"
            ),
        )

    async def _watch(self) -> None:
        while True:
            now = trio.current_time()
            for worker in self._workers:
                if worker.until <= now:
                    self._end(worker)
            # Whoever begins from now on is late no sooner than in so many seconds.
            next_end = min((worker.until for worker in self._workers), default=math.inf)
            await trio.sleep_until(min(next_end, now + self._seconds))

    def _end(self, worker: _Worker) -> None:
        assert worker.delivery is not None
        if worker.is_late:  # The whole limit has passed again.
            self._log.error(
                "handler does not end although it was cancelled", **worker.delivery.identity()
            )
            worker.until = math.inf
        else:
            worker.is_late = True
            worker.until += self._seconds
            worker.scope.cancel()


class _Worker:
    """One task that handles events, one after the other."""

    def __init__(self) -> None:
        self.is_done = False
        self.delivery: Delivery[Any] | None = None
        self.renew()

    def renew(self) -> None:
        """Begin with another scope."""
        self.scope = trio.CancelScope()
        self.until = math.inf
        """When the event in hand is late."""
        self.is_late = False
        self.stood_at = ""
