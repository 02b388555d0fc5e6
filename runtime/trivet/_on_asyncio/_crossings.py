"""One call from Trio to asyncio, or back.

Owns what a cancellation and an error on one side are on the other.
Never knows the lifetime in which the calls are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar, cast

import trio

from ._steps import Steps

T = TypeVar("T")


class Crossing(Generic[T]):
    """One call on asyncio, for which a task of Trio's waits.

    A task of asyncio's makes it in the very context of Trio's task: the delivery in flight and the
    request are known there, and what is set there stays.
    """

    def __init__(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._value: T | None = None
        self._error: BaseException | None = None
        self._has_begun = False
        self._is_over = False
        self._is_waited_for = False
        self._raise_cancel: Callable[[], Any] | None = None

    @trio.lowlevel.enable_ki_protection
    async def over(self, steps: Steps) -> T:
        """Make it; to be called on Trio."""
        trio_task = trio.lowlevel.current_task()
        asyncio_task = steps.task_of(self._call(trio_task), trio_task.context)

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            """Cancel the other side, and wait for it."""
            self._raise_cancel = raise_cancel
            if self._has_begun:
                asyncio_task.cancel()
            return trio.lowlevel.Abort.FAILED

        if not self._is_over:
            self._is_waited_for = True
            await trio.lowlevel.wait_task_rescheduled(abort)
        if self._error is None:
            return cast("T", self._value)
        try:
            raise self._translated(self._error)
        finally:
            self._error = None  # It refers to this frame.

    async def _call(self, trio_task: trio.lowlevel.Task) -> None:
        self._has_begun = True
        try:
            self._value = await _on_asyncio_only(self._called())
        except BaseException as error:  # noqa: ASYNC103 - it is raised in Trio's task
            self._error = error
        self._is_over = True
        if self._is_waited_for:  # Sooner than asyncio would call back.
            trio.lowlevel.reschedule(trio_task)

    @trio.lowlevel.disable_ki_protection
    async def _called(self) -> T:
        if self._raise_cancel is not None:  # Before it began.
            raise asyncio.CancelledError
        return await self._function(*self._args)

    def _translated(self, error: BaseException) -> BaseException:
        """What the error is on Trio's side."""
        if not isinstance(error, asyncio.CancelledError):
            return error
        if self._raise_cancel is None:
            stray = RuntimeError("cancelled on asyncio's side, and not by Trio")
            stray.__cause__ = error
            return stray
        try:
            self._raise_cancel()
        except trio.Cancelled as cancelled:  # noqa: ASYNC103 - it is raised by who asks for it
            return cancelled.with_traceback(error.__traceback__)  # noqa: ASYNC104
        raise AssertionError("Trio has not cancelled what it wanted to")


class Answer(asyncio.Future[T]):
    """What is awaited on Trio, for asyncio. To cancel the one is to cancel the other."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop=loop)
        self._scope = trio.CancelScope()

    def cancel(self, msg: Any | None = None) -> bool:
        """It is cancelled when Trio has ended it."""
        if self.done():
            return False
        self._scope.cancel()
        return True

    async def find(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        """Await it; to be called on Trio."""
        try:
            result: T | None = None
            with self._scope:
                result = await function(*args)
            if self._scope.cancel_called:  # Even if too late: asyncio does not cancel twice.
                super().cancel()
            else:
                self.set_result(cast("T", result))
        except trio.Cancelled:
            super().cancel()
            raise
        except BaseException as error:  # noqa: ASYNC103 - it is raised on asyncio
            self.set_exception(error)


def guarded_from_trio(coro: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    """The same coroutine, but a wrong `await` in it is an error, and no more."""

    async def guarded() -> T:
        """A coroutine, as tasks want one: what it runs is a generator."""
        return await _on_asyncio_only(coro)

    guarded.__qualname__ = getattr(coro, "__qualname__", repr(coro))  # For asyncio's messages.
    return guarded()


@coroutine
def _on_asyncio_only(asyncio_coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run a coroutine of asyncio's; where it awaits Trio, raise, and undo what Trio has noted.

    Otherwise Trio would take the loop's task, which goes on, for one that waits: a wrong `await` of
    one plugin would be the end of the program.
    """
    resume: Callable[[Any], Any] = asyncio_coro.send
    value: Any = None
    while True:
        try:
            awaited = resume(value)
        except StopIteration as result:
            return cast("T", result.value)
        if awaited is None or hasattr(awaited, "_asyncio_future_blocking"):
            try:
                value = yield awaited
                resume = asyncio_coro.send
            except BaseException as error:  # noqa: ASYNC103 - it is thrown into the coroutine
                value = error
                resume = asyncio_coro.throw
        else:
            give_up = getattr(awaited, "abort_func", None)
            if give_up is not None:
                give_up(_never)
            value = RuntimeError("Trio's functions cannot be awaited on asyncio: see `run_on_trio`")
            resume = asyncio_coro.throw


def _never() -> None:
    raise AssertionError("the task was not cancelled")
