"""The first wait of a coroutine: when it is noticed, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet._web._first_wait import FirstWait


async def add(number: int) -> int:
    """A coroutine without a wait."""
    return number + 1


async def add_later(number: int) -> int:
    """A coroutine with two waits."""
    await trio.sleep(1)
    await trio.sleep(1)
    return number + 1


class Receiver:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Generator[Any, Any, int]:
        return add_later(1).__await__()


async def test_a_coroutine_without_a_wait() -> None:
    """The result of a coroutine that does not wait comes at once, and nothing is called."""
    noted: list[float] = []
    assert await FirstWait(add(1), lambda: noted.append(1)) == 2
    assert noted == []


@pytest.mark.parametrize("make", [lambda: add_later(1), Receiver])
async def test_the_first_of_two_waits(
    make: Callable[[], Awaitable[int]], autojump_clock: MockClock
) -> None:
    """The function is called once, at the time of the first wait."""
    begun, noted = trio.current_time(), list[float]()
    result = await FirstWait(make(), lambda: noted.append(trio.current_time()))
    assert (result, noted, trio.current_time()) == (2, [begun], begun + 2)


async def test_a_deadline_that_is_set_at_the_first_wait(autojump_clock: MockClock) -> None:
    """A deadline that is set when the wait begins ends it."""
    begun = trio.current_time()
    with trio.CancelScope() as scope:

        def limit() -> None:
            scope.deadline = trio.current_time() + 0.5

        await FirstWait(add_later(1), limit)
    assert scope.cancelled_caught
    assert trio.current_time() == begun + 0.5


@pytest.mark.parametrize("waits", [False, True])
async def test_an_exception_goes_through(waits: bool, autojump_clock: MockClock) -> None:
    """An exception of the coroutine comes out as it is, before a wait and behind one."""

    async def fail() -> None:
        if waits:
            await trio.sleep(1)
        raise ValueError("spilt")

    with pytest.raises(ValueError, match="spilt"):
        await FirstWait(fail(), lambda: None)


async def test_the_stack_of_a_task() -> None:
    """The stack of a task that waits has the frames of the coroutine."""
    tasks: list[trio.lowlevel.Task] = []

    async def inner() -> None:
        await trio.sleep_forever()

    async def outer() -> None:
        tasks.append(trio.lowlevel.current_task())
        await FirstWait(inner(), lambda: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outer)
        await wait_all_tasks_blocked()
        names = [frame.f_code.co_name for frame, _ in tasks[0].iter_await_frames()]
        nursery.cancel_scope.cancel()
    assert names[:3] == ["outer", "inner", "sleep_forever"]
