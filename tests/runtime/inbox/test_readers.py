"""The readers that wait at an inbox."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from trio.testing import wait_all_tasks_blocked

from trivet._inbox._readers import Readers


@asynccontextmanager
async def parked(readers: Readers, count: int) -> AsyncGenerator[list[int]]:
    """So many readers that wait; the list has those that were woken."""
    woken: list[int] = []

    async def read(number: int) -> None:
        await readers.park()
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(read, number)
            await wait_all_tasks_blocked()
        yield woken
        nursery.cancel_scope.cancel()


async def test_the_reader_that_has_waited_longest_is_woken_first() -> None:
    """Each call wakes one reader, in the order in which they came."""
    readers = Readers()
    async with parked(readers, 3) as woken:
        readers.wake()
        await wait_all_tasks_blocked()
        assert woken == [0]
        readers.wake()
        await wait_all_tasks_blocked()
        assert woken == [0, 1]


async def test_all_readers_are_woken_at_once() -> None:
    """No reader is left, and none is woken twice."""
    readers = Readers()
    async with parked(readers, 3) as woken:
        readers.wake_all()
        readers.wake()
        await wait_all_tasks_blocked()
        assert sorted(woken) == [0, 1, 2]
        assert not readers.parked


async def test_a_reader_that_is_cancelled_is_not_woken() -> None:
    """A cancelled reader leaves the park, and the next one is woken in its place."""
    readers = Readers()
    with trio.move_on_after(0):
        await readers.park()
    async with parked(readers, 1) as woken:
        readers.wake()
        await wait_all_tasks_blocked()
        assert woken == [0]
