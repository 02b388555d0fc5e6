"""A client on asyncio behind the interface that plugins use on Trio.

Owns the crossing between the two: one for each call, however many messages the call is about.
Never knows a particular broker, nor the library that speaks to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar, TypeVarTuple, Unpack

import trio

from ._client import Consumer, Message, Producer, Received

CLOSING = 1.0
"""Seconds for closing a connection in order; after that it is dropped."""

CANCEL_AGAIN = 0.05
"""Seconds after which a task that has not ended is cancelled again."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class RunOnAsyncio(Protocol):
    """A function that awaits something on asyncio, as `AsyncioPlugin.run_on_asyncio` does."""

    async def __call__(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on asyncio."""
        ...


@asynccontextmanager
async def consumer_on_asyncio(
    run: RunOnAsyncio, manager: AbstractAsyncContextManager[Consumer]
) -> AsyncGenerator[Consumer]:
    """A consumer on asyncio as a consumer on Trio."""
    async with _entered(run, manager) as consumer:
        yield _Consumer(run, consumer)


@asynccontextmanager
async def producer_on_asyncio(
    run: RunOnAsyncio, manager: AbstractAsyncContextManager[Producer]
) -> AsyncGenerator[Producer]:
    """A producer on asyncio as a producer on Trio."""
    async with _entered(run, manager) as producer:
        yield _Producer(run, producer)


@asynccontextmanager
async def _entered(run: RunOnAsyncio, manager: AbstractAsyncContextManager[T]) -> AsyncGenerator[T]:
    """The value of a manager that is entered and left on asyncio, in two tasks.

    The manager does not learn how the block ended.
    """
    value = await run(_cancelled_again, manager.__aenter__)
    try:
        yield value
    finally:
        with trio.move_on_after(CLOSING, shield=True):
            await run(manager.__aexit__, None, None, None)


async def _cancelled_again(function: Callable[[], Awaitable[T]]) -> T:
    """Await a function; a cancellation is repeated until the function has ended.

    Libraries connect by `asyncio.wait_for`. Before Python 3.12 it loses a cancellation that comes
    together with its result, and a stop would wait for an answer of a broker that hangs.
    """
    task = asyncio.ensure_future(function())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:  # noqa: ASYNC103 - or an opened connection would stay open
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=CANCEL_AGAIN)  # noqa: ASYNC102 - cancelled once
        return task.result()  # noqa: ASYNC104 - it raises, if the cancellation ended the task


class _Consumer(Consumer):
    def __init__(self, run: RunOnAsyncio, consumer: Consumer) -> None:
        self.missing_guarantees = consumer.missing_guarantees
        self.visibility = consumer.visibility
        self._run = run
        self._consumer = consumer

    async def fetch(self, count: int) -> list[Received]:
        return await self._run(self._consumer.fetch, count)

    async def acknowledge(self, messages: Sequence[Received]) -> int:
        return await self._run(self._consumer.acknowledge, messages)

    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        return await self._run(self._consumer.retry, messages)

    async def dead_letter(self, messages: Sequence[tuple[Received, str]]) -> None:
        await self._run(self._consumer.dead_letter, messages)

    async def extend(self, messages: Sequence[Received]) -> None:
        await self._run(self._consumer.extend, messages)

    async def release(self) -> None:
        await self._run(self._consumer.release)


class _Producer(Producer):
    def __init__(self, run: RunOnAsyncio, producer: Producer) -> None:
        self.missing_guarantees = producer.missing_guarantees
        self._run = run
        self._producer = producer

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        await self._run(self._producer.send, messages, taken)
