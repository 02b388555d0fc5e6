"""A client on asyncio, for plugins that ask it on Trio.

Owns the crossing: once for each thing that is asked, whatever number of messages it is about.
Never knows any broker, nor which library speaks to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar, TypeVarTuple, Unpack

import trio

from ._client import Consumer, Message, Producer, Received

CLOSING = 1.0
"""Seconds for taking leave of a broker; then the connection is dropped."""

INSIST = 0.05
"""Seconds after which what does not end is cancelled again."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Cross(Protocol):
    """Awaits something on asyncio, as `AsyncioPlugin.run_on_asyncio` does."""

    async def __call__(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` there."""
        ...


@asynccontextmanager
async def consumer_across(
    cross: Cross, manager: AbstractAsyncContextManager[Consumer]
) -> AsyncGenerator[Consumer]:
    """A consumer that is on asyncio, as one on Trio."""
    async with _entered_across(cross, manager) as consumer:
        yield _Consumer(cross, consumer)


@asynccontextmanager
async def producer_across(
    cross: Cross, manager: AbstractAsyncContextManager[Producer]
) -> AsyncGenerator[Producer]:
    """A producer that is on asyncio, as one on Trio."""
    async with _entered_across(cross, manager) as producer:
        yield _Producer(cross, producer)


@asynccontextmanager
async def _entered_across(
    cross: Cross, manager: AbstractAsyncContextManager[T]
) -> AsyncGenerator[T]:
    """What is entered and left in two tasks of asyncio's; it is not told how the block ended."""
    value = await cross(_insisting, manager.__aenter__)
    try:
        yield value
    finally:
        with trio.move_on_after(CLOSING, shield=True):
            await cross(manager.__aexit__, None, None, None)


async def _insisting(function: Callable[[], Awaitable[T]]) -> T:
    """Await it, and cancel it as often as it takes.

    Before Python 3.12 `asyncio.wait_for`, by which libraries connect, loses a cancellation that
    comes together with its result; a stop would wait for an answer of a broker that stands still.
    """
    task = asyncio.ensure_future(function())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:  # noqa: ASYNC103 - or what has opened would not be closed
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=INSIST)  # noqa: ASYNC102 - it is cancelled once
        return task.result()  # noqa: ASYNC104 - it raises, where the task has ended by it


class _Consumer(Consumer):
    def __init__(self, cross: Cross, consumer: Consumer) -> None:
        self.not_promised = consumer.not_promised
        self.visibility = consumer.visibility
        self._cross = cross
        self._consumer = consumer

    async def fetch(self, count: int) -> list[Received]:
        return await self._cross(self._consumer.fetch, count)

    async def acknowledge(self, messages: Sequence[Received]) -> int:
        return await self._cross(self._consumer.acknowledge, messages)

    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        return await self._cross(self._consumer.retry, messages)

    async def bury(self, messages: Sequence[tuple[Received, str]]) -> None:
        await self._cross(self._consumer.bury, messages)

    async def extend(self, messages: Sequence[Received]) -> None:
        await self._cross(self._consumer.extend, messages)

    async def leave(self) -> None:
        await self._cross(self._consumer.leave)


class _Producer(Producer):
    def __init__(self, cross: Cross, producer: Producer) -> None:
        self.not_promised = producer.not_promised
        self._cross = cross
        self._producer = producer

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        await self._cross(self._producer.send, messages, taken)
