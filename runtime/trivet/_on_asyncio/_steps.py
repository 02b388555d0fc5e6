"""A step of asyncio's on Trio: one callback of a plugin's loop, called as asyncio would call it.

Owns what is overridden of trio-asyncio's loop, and what a callback finds: which loop is running,
and which library it is on.
Never knows plugins, nor what a step is for.

trio-asyncio replaces the functions by which code asks for the running loop. A library that bound
them before (`from asyncio import get_running_loop`), or that is written in C, asks CPython's own.
So for each step, and no longer, the plugin's loop is the one that runs for CPython, too.
"""

from __future__ import annotations

import _asyncio
import asyncio
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from functools import partial
from importlib import import_module
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

import sniffio
import trio

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Of what it does for Python 3.11.
    trio_asyncio = import_module("trio_asyncio")  # It has no types.

SOON = ("call_soon", "call_soon_threadsafe")
"""The loop's methods whose first argument is what to call."""
UPON = ("call_later", "call_at", "add_signal_handler", "_add_reader", "_add_writer")
"""Those whose second one is. The last two are those of which asyncio's transports know."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Task = asyncio.Task[Any]


class Loop(Protocol):
    """What is used here of trio-asyncio's loop."""

    def call_soon(self, callback: Callable[[], object]) -> asyncio.Handle:
        """As asyncio's."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """As asyncio's."""
        ...

    def create_future(self) -> asyncio.Future[Any]:
        """As asyncio's."""
        ...

    def set_task_factory(self, factory: Callable[..., Task]) -> None:
        """As asyncio's."""
        ...

    def set_exception_handler(
        self, handler: Callable[[Loop, dict[str, Any]], object] | None
    ) -> None:
        """As asyncio's."""
        ...

    def run_trio_task(
        self, proc: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts
    ) -> asyncio.Handle:
        """Start a task of Trio's in the loop's nursery."""
        ...

    def trio_as_future(
        self, proc: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts
    ) -> asyncio.Future[T]:
        """Await this on Trio; the future is the loop's."""
        ...


_running_loop: Callable[[], Loop | None] = getattr(_asyncio, "_get_running_loop")  # noqa: B009
_set_running_loop: Callable[[Loop | None], None] = getattr(_asyncio, "_set_running_loop")  # noqa: B009


def loop_around() -> Loop | None:
    """The loop whose step calls this; None in Trio's code."""
    if sniffio.current_async_library() != "asyncio":
        return None  # Trio itself may be a guest of another loop, which runs for CPython.
    return _running_loop()


class Steps:
    """The steps of one loop.

    Args:
        loop: not used yet.
        fail: told of `SystemExit` and `KeyboardInterrupt`; asyncio lets them through, and on Trio
            they would end the loop for ever.
    """

    def __init__(self, loop: Any, fail: Callable[[BaseException], None]) -> None:
        self.loop = loop
        self._fail = fail
        self._own_task: trio.lowlevel.Task | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._queue: Callable[[asyncio.Handle], asyncio.Handle] = loop._queue_handle
        self._run_in_executor: Callable[..., asyncio.Future[Any]] = loop.run_in_executor
        loop._queue_handle = self._queue_safely
        for name in SOON:
            setattr(loop, name, partial(getattr(loop, name), self.take))
        for name in UPON:
            setattr(loop, name, self._upon(getattr(loop, name)))
        loop.run_in_executor = self._in_executor
        loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._own_task = trio.lowlevel.current_task()

    def take(self, callback: Callable[..., object], *args: object) -> None:
        """Take a step; to be called in Trio's thread, by Trio's code."""
        around, library = _running_loop(), sniffio.thread_local.name
        sniffio.thread_local.name = "asyncio"
        _set_running_loop(self.loop)
        try:
            result = callback(*args)
        except (KeyboardInterrupt, SystemExit) as error:
            self._fail(error)
        else:
            if result is not None and isinstance(result, Coroutine):
                result.close()
                raise TypeError(f"{callback!r} is a coroutine: see `asyncio.create_task`")
        finally:
            _set_running_loop(around)
            sniffio.thread_local.name = library

    def _upon(self, method: Callable[..., T]) -> Callable[..., T]:
        def upon(when: object, callback: Callable[..., object], *args: object, **context: Any) -> T:
            # Trio's task that waits for a file is in the context of the code that asked for it,
            # which may be a request's; trio-asyncio looks for the loop there.
            token = trio_asyncio.current_loop.set(self.loop)
            try:
                return method(when, self.take, callback, *args, **context)
            finally:
                trio_asyncio.current_loop.reset(token)

        return upon

    def _queue_safely(self, handle: asyncio.Handle) -> asyncio.Handle:
        """Queue it, even from a finalizer, which runs anywhere.

        The loop's own task may be about to wait for the queue, which has found it empty; Trio's
        channels do not bear that something is put there meanwhile.
        """
        if _running_loop() is self.loop or not self._is_in_its_own():
            return self._queue(handle)
        self.loop._check_closed()
        self._token.run_sync_soon(self._queue_late, handle)
        return handle

    def _queue_late(self, handle: asyncio.Handle) -> None:
        if not self.loop.is_closed():
            self._queue(handle)

    def _is_in_its_own(self) -> bool:
        """Whether the loop's own task runs, or no task of Trio's: it is another thread."""
        try:
            return trio.lowlevel.current_task() is self._own_task
        except RuntimeError:
            return True

    def _in_executor(
        self, executor: Executor | None, function: Callable[..., T], *args: object
    ) -> asyncio.Future[T]:
        """Run it in a thread of Trio's, or by an executor of the author's, as asyncio does."""
        if executor is None or isinstance(executor, trio_asyncio.TrioExecutor):
            return self._run_in_executor(executor, function, *args)
        return asyncio.wrap_future(executor.submit(function, *args), loop=self.loop)

    def task_of(self, coro: Coroutine[Any, Any, None], context: Context) -> Task:
        """A task of asyncio's that has made its first step, or all of them, here and now.

        So a call that need not wait needs no turn of either loop. It is what Python 3.12 calls an
        eager task, but for the context: this one is the caller's, which is entered already.
        """
        loop: Any = self.loop
        finds_loop = context.get(trio_asyncio.current_loop) is loop
        if not finds_loop:  # A request's context.
            return asyncio.Task(coro, loop=loop, context=context)
        steps: list[Callable[[], object]] = []

        def keep(step: Callable[[], object], *, context: Context) -> None:
            steps.append(step)

        call_soon, loop.call_soon = loop.call_soon, keep
        try:
            task = asyncio.Task(coro, loop=loop, context=context)
        finally:
            loop.call_soon = call_soon
        self.take(steps[0])
        return task
