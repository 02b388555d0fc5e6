"""One call from Trio to asyncio, or back.

Owns the translation of a cancellation and of an error from one side to the other.
Never knows the lifetime in which the calls are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar, cast

import trio

from ._patched_loop import PatchedLoop, is_for_asyncio, undo_wait

T = TypeVar("T")


class CallOnAsyncio(Generic[T]):
    """One call on asyncio, for which a Trio task waits.

    An asyncio task makes the call in the very context of the Trio task: the delivery in flight and
    the request are known there, and changes to the context stay.
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
    async def make(self, loop: PatchedLoop) -> T:
        """Make the call; called on Trio."""
        trio_task = trio.lowlevel.current_task()
        asyncio_task = loop.eager_task(self._call(trio_task), trio_task.context)

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            """Cancel the asyncio task, and go on waiting for its end."""
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

    @trio.lowlevel.enable_ki_protection
    async def _call(self, trio_task: trio.lowlevel.Task) -> None:
        self._has_begun = True
        try:
            self._value = await _on_asyncio_only(self._await_function())
        except BaseException as error:  # noqa: ASYNC103 - raised in the Trio task
            self._error = error
        self._is_over = True
        if self._is_waited_for:  # Sooner than asyncio would call a done callback.
            trio.lowlevel.reschedule(trio_task)

    @trio.lowlevel.disable_ki_protection
    async def _await_function(self) -> T:
        if self._raise_cancel is not None:  # Cancelled before it began.
            raise asyncio.CancelledError
        return await self._function(*self._args)

    def _translated(self, error: BaseException) -> BaseException:
        """The error as Trio's side shall see it."""
        if not isinstance(error, asyncio.CancelledError):
            return error
        if self._raise_cancel is None:
            stray = RuntimeError("cancelled on asyncio's side, and not by Trio")
            stray.__cause__ = error
            return stray
        try:
            self._raise_cancel()
        except trio.Cancelled as cancelled:  # noqa: ASYNC103 - the caller raises it
            return cancelled.with_traceback(error.__traceback__)  # noqa: ASYNC104
        raise AssertionError("Trio has not raised the cancellation that it asked for")


class CallOnTrio(asyncio.Future[T]):
    """The result of a call on Trio, awaited on asyncio. Cancelling one side cancels the other."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop=loop)
        self._scope = trio.CancelScope()

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the call on Trio; the future is cancelled when that has ended."""
        if self.done():
            return False
        self._scope.cancel()
        return True

    async def run(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        """Make the call, and settle the future with its result or error; called on Trio."""
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
        except BaseException as error:  # noqa: ASYNC103 - raised on asyncio
            self.set_exception(error)


def guarded_from_trio(coro: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    """A coroutine of the same code, in which awaiting Trio by mistake raises an error."""

    async def guarded() -> T:
        """Run the generator in a coroutine, since tasks accept nothing else."""
        return await _on_asyncio_only(coro)

    guarded.__qualname__ = getattr(coro, "__qualname__", repr(coro))  # For asyncio's messages.
    return guarded()


@coroutine
def _on_asyncio_only(asyncio_coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run a coroutine of asyncio's; where it awaits Trio, undo that wait and raise an error in it.

    Otherwise one wrong `await` in a plugin would end the program.
    """
    resume: Callable[[Any], Any] = asyncio_coro.send
    value: Any = None
    while True:
        try:
            awaited = resume(value)
        except StopIteration as result:
            return cast("T", result.value)
        if is_for_asyncio(awaited):
            try:
                value = yield awaited
                resume = asyncio_coro.send
            except BaseException as error:  # noqa: ASYNC103 - thrown into the coroutine
                value = error
                resume = asyncio_coro.throw
        else:
            undo_wait(awaited)
            value = RuntimeError("Trio's functions cannot be awaited on asyncio: see `run_on_trio`")
            resume = asyncio_coro.throw
