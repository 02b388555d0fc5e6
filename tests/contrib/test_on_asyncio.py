from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import trio

from trivet import AsyncioPlugin, BackgroundPlugin
from trivet.testing import open_plugins
from trivet_contrib._brokers._client import Message, Producer
from trivet_contrib._brokers._on_asyncio import producer_on_asyncio


class Crosser(AsyncioPlugin, BackgroundPlugin):
    async def run(self) -> None:
        await asyncio.sleep(3600)


class Sent(Producer):
    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        raise AssertionError("nobody sends")


class Door(AbstractAsyncContextManager[Producer]):
    """A connection on asyncio that handles a cancellation as some library does."""

    def __init__(self, *, opens_in_spite: bool) -> None:
        self.opens_in_spite = opens_in_spite
        self.cancelled = 0
        self.closed = 0
        self.asked = trio.Event()

    async def __aenter__(self) -> Producer:
        self.asked.set()
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:  # noqa: ASYNC103 - as libraries do
                self.cancelled += 1
                if self.opens_in_spite:
                    return Sent()  # noqa: ASYNC104
                if self.cancelled == 3:
                    raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closed += 1


async def enter(door: Door) -> None:
    """Enter the connection, and be cancelled meanwhile."""
    async with open_plugins(Crosser) as runtime, trio.open_nursery() as nursery:

        async def go_in() -> None:
            async with producer_on_asyncio(runtime.get(Crosser).run_on_asyncio, door):
                await trio.sleep_forever()

        nursery.start_soon(go_in)
        await door.asked.wait()
        nursery.cancel_scope.cancel()


async def test_a_connection_that_loses_a_cancellation_is_cancelled_again() -> None:
    """A stop does not wait for a task that swallows its cancellation, as `asyncio.wait_for` may."""
    door = Door(opens_in_spite=False)
    await enter(door)
    assert (door.cancelled, door.closed) == (3, 0)


async def test_a_connection_that_opens_too_late_is_closed() -> None:
    """A connection that opens in spite of its cancellation is closed."""
    door = Door(opens_in_spite=True)
    await enter(door)
    assert (door.cancelled, door.closed) == (1, 1)
