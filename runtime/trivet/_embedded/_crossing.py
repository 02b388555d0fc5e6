"""Calls between a loop of asyncio's and a run of Trio's in another thread.

Owns both directions. A call that is cancelled on its caller's side is cancelled on the other, and
its end is waited for, unless the other loop is held.
Never knows what is called.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LAST_WAIT = 1.0
"""Seconds for a cancelled call to end in the other loop, which may be held, or have ended."""


class Wire:
    """Functions that one thread hands to another, to be called there in order.

    The other thread is woken once for all that wait: to wake it takes longer than most of them.

    Args:
        wake: has the other thread call a function soon.
    """

    def __init__(self, wake: Callable[[Callable[[], None]], object]) -> None:
        self._wake = wake
        self._functions: deque[Callable[[], object]] = deque()
        self._is_woken = False

    def send(self, function: Callable[[], object]) -> None:
        """Have a function called. What `wake` raises is raised here."""
        self._functions.append(function)
        if self._is_woken:
            return
        self._is_woken = True
        try:
            self._wake(self._take)
        except BaseException:  # The other thread has ended, and took all that came before.
            self._functions.clear()
            self._is_woken = False
            raise

    def _take(self) -> None:
        self._is_woken = False  # First: whatever comes from now on wakes again.
        while self._functions:
            self._functions.popleft()()


class Call(Generic[T]):
    """A call from asyncio to Trio.

    Args:
        function: called on Trio.
        loop: the caller's.
        back: the wire to that loop.
    """

    def __init__(
        self, function: Callable[[], Awaitable[T]], loop: asyncio.AbstractEventLoop, back: Wire
    ) -> None:
        self._function = function
        self._back = back
        self.result: asyncio.Future[T] = loop.create_future()
        """The result; cancelled where the call has none, since the program has ended."""
        self.scope: trio.CancelScope = trio.CancelScope()
        """The scope of the call, on Trio."""

    async def live(self) -> None:
        """Call the function, and tell the caller what came of it."""
        told: Callable[[], object] = self.result.cancel
        try:
            with self.scope:
                value = await self._function()
                told = partial(self.result.set_result, value)
        except trio.Cancelled:
            raise
        except StopIteration as error:  # A future cannot have it.
            told = partial(self.result.set_exception, stopped(error))
        except Exception as error:
            told = partial(self.result.set_exception, error)
        finally:
            self._tell(told)

    def refuse(self) -> None:
        """Tell the caller that there is nobody to call."""
        self._tell(self.result.cancel)

    def _tell(self, told: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # A loop that is closed needs to know nothing.
            self._back.send(partial(self._settle, told))

    def _settle(self, told: Callable[[], object]) -> None:
        if not self.result.done():
            told()


def stopped(error: StopIteration) -> RuntimeError:
    """The error that Python itself makes of a StopIteration that leaves a coroutine."""
    failure = RuntimeError("the call raised StopIteration")
    failure.__cause__ = error
    return failure


def tell(loop: asyncio.AbstractEventLoop, function: Callable[[*Ts], object], *args: *Ts) -> None:
    """Have asyncio's loop call a function soon; a loop that is closed needs to know nothing."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)


async def on_asyncio(
    loop: asyncio.AbstractEventLoop, function: Callable[[*Ts], Awaitable[T]], *args: *Ts
) -> T:
    """Await `function(*args)` on asyncio, from Trio.

    Raises:
        ConnectionAbortedError: asyncio has cancelled it, or its loop is closed.
    """
    token, over = trio.lowlevel.current_trio_token(), trio.Event()
    made: list[asyncio.Task[T]] = []

    async def run() -> T:
        """The call itself, as a coroutine."""
        return await function(*args)

    def end(_: object) -> None:
        """Wake the caller."""
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(over.set)

    def begin() -> None:
        """Make the task, in the thread of its loop."""
        made.append(loop.create_task(run()))
        made[0].add_done_callback(end)

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError as error:
        raise ConnectionAbortedError("the service's loop is closed") from error
    try:
        await over.wait()
    except trio.Cancelled:
        tell(loop, lambda: made[0].cancel())  # noqa: PLW0108 - it may not be made yet
        with trio.move_on_after(LAST_WAIT, shield=True):
            await over.wait()
        raise
    if made[0].cancelled():
        raise ConnectionAbortedError("the service has cancelled the call")
    return made[0].result()
