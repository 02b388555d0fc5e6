"""The rest of a coroutine after its first wait: the event loop learns of that wait later."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet._web._begun import Rest

T = TypeVar("T")


def begin(coroutine: Coroutine[Any, Any, T]) -> Rest:
    """The rest of a coroutine, from its first wait on."""
    return Rest(coroutine, coroutine.send(None))


async def add_later(number: int) -> int:
    """A coroutine with two waits."""
    await trio.sleep(1)
    await trio.sleep(1)
    return number + 1


async def test_a_coroutine_that_waits(autojump_clock: MockClock) -> None:
    """The first wait begins when the rest is awaited; others may come between."""
    rest = begin(add_later(1))
    assert trio.current_time() == 0
    assert await rest == 2
    assert trio.current_time() == 2


async def test_a_coroutine_that_is_cancelled(autojump_clock: MockClock) -> None:
    """A cancellation reaches the coroutine where it waits."""
    with trio.move_on_after(1.5) as limit:
        await begin(add_later(1))
    assert limit.cancelled_caught
    assert trio.current_time() == 1.5


async def test_a_coroutine_that_is_given_up() -> None:
    """A rest that is closed ends the coroutine."""
    ended: list[str] = []

    async def wait() -> None:
        try:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        finally:
            ended.append("ended")

    begin(wait()).close()
    assert ended == ["ended"]


async def test_the_stack_of_a_task(autojump_clock: MockClock) -> None:
    """The frames of the coroutine are among those of its task."""

    async def serve() -> None:
        await begin(add_later(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, name="serve")
        await wait_all_tasks_blocked()
        (task,) = [each for each in nursery.child_tasks if each.name == "serve"]
        names = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
    assert names[:2] == ["serve", "add_later"]
