"""trio-asyncio's loop, patched so that each callback finds its loop and its library.

Owns the inside of other libraries: each private name that is overridden, called or read stands in
`INSIDE`, and in no other module.
Never knows plugins, nor what a callback is for.

trio-asyncio replaces the functions by which code asks for the running loop. A library that bound
them earlier (`from asyncio import get_running_loop`), or that is written in C, asks CPython's own.
Therefore the plugin's loop is CPython's running loop for the duration of each callback, and no
longer.
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
from typing import Any, Literal, Protocol, TypeVar, TypeVarTuple, Unpack

import attrs
import sniffio
import trio

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # About its own support of Python 3.11.
    trio_asyncio = import_module("trio_asyncio")  # It has no types.

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Task = asyncio.Task[Any]


@attrs.frozen
class Inside:
    """One name inside another library that this module counts on."""

    use: Literal["overridden", "called", "read", "set"]
    """The way in which this module uses the name."""
    owner: str
    """The module and class that have the name, as `pkgutil.resolve_name` reads them."""
    name: str
    """The name in that module or class."""
    signature: str | None = None
    """The parameters, without annotations; None for a value."""


_LOOP, _C = "trio_asyncio:TrioEventLoop", "_asyncio"
INSIDE = (
    Inside("overridden", _LOOP, "_queue_handle", "(self, handle)"),
    Inside("overridden", _LOOP, "run_in_executor", "(self, executor, func, *args)"),
    Inside("overridden", _LOOP, "call_soon", "(self, callback, *args, **context)"),
    Inside("overridden", _LOOP, "call_soon_threadsafe", "(self, callback, *args, **context)"),
    Inside("overridden", _LOOP, "call_later", "(self, delay, callback, *args, **context)"),
    Inside("overridden", _LOOP, "call_at", "(self, when, callback, *args, **context)"),
    Inside("overridden", _LOOP, "add_signal_handler", "(self, sig, callback, *args)"),
    Inside("overridden", _LOOP, "_add_reader", "(self, fd, callback, *args)"),
    Inside("overridden", _LOOP, "_add_writer", "(self, fd, callback, *args, _defer_start=False)"),
    Inside("called", _LOOP, "_check_closed", "(self)"),
    Inside("set", "trio_asyncio", "current_loop"),
    Inside("read", "trio_asyncio", "TrioExecutor"),
    Inside("called", _C, "_get_running_loop", "()"),
    Inside("called", _C, "_set_running_loop", "(loop, /)"),
    Inside("read", "asyncio:Task", "_log_traceback"),
    Inside("read", "asyncio:Future", "_asyncio_future_blocking"),
    Inside("set", "sniffio:thread_local", "name"),
    Inside("read", "trio._core._traps", "WaitTaskRescheduled", "(abort_func)"),
)
"""The one list of other libraries' insides; a test compares it with the installed versions."""

CALLBACK_FIRST = ("call_soon", "call_soon_threadsafe")
"""The loop's methods whose first argument is the callback."""
CALLBACK_SECOND = ("call_later", "call_at", "add_signal_handler", "_add_reader", "_add_writer")
"""The loop's methods whose second argument is the callback. asyncio's transports call the last two
under these names."""


class Loop(Protocol):
    """The public part of trio-asyncio's loop that this room uses."""

    def call_soon(self, callback: Callable[[], object]) -> asyncio.Handle:
        """See `asyncio.loop.call_soon`."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """See `asyncio.loop.call_later`."""
        ...

    def create_future(self) -> asyncio.Future[Any]:
        """See `asyncio.loop.create_future`."""
        ...

    def set_task_factory(self, factory: Callable[..., Task]) -> None:
        """See `asyncio.loop.set_task_factory`."""
        ...

    def set_exception_handler(
        self, handler: Callable[[Loop, dict[str, Any]], object] | None
    ) -> None:
        """See `asyncio.loop.set_exception_handler`."""
        ...

    def run_trio_task(
        self, proc: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts
    ) -> asyncio.Handle:
        """Start a Trio task in the loop's nursery."""
        ...

    def trio_as_future(
        self, proc: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts
    ) -> asyncio.Future[T]:
        """Await a function on Trio; the future belongs to this loop."""
        ...


_running_loop: Callable[[], Loop | None] = getattr(_asyncio, "_get_running_loop")  # noqa: B009
_set_running_loop: Callable[[Loop | None], None] = getattr(_asyncio, "_set_running_loop")  # noqa: B009


def loop_around() -> Loop | None:
    """The loop whose callback calls this; None in Trio's code."""
    if sniffio.current_async_library() != "asyncio":
        return None  # Trio itself may be a guest of another loop, which CPython takes as running.
    return _running_loop()


def was_never_retrieved(task: Task) -> bool:
    """Whether the task has failed, and nobody has asked for its exception."""
    return bool(getattr(task, "_log_traceback", False))


def is_for_asyncio(awaited: object) -> bool:
    """Whether a coroutine that yields this waits on asyncio: for a future, or for its next turn."""
    return awaited is None or hasattr(awaited, "_asyncio_future_blocking")


def undo_wait(awaited: object) -> None:
    """Undo a wait on Trio that a coroutine on asyncio has begun.

    Otherwise Trio would take the loop's own task, which goes on, for one that waits.
    """
    abort = getattr(awaited, "abort_func", None)
    if abort is not None:
        abort(_not_cancelled)


def _not_cancelled() -> None:
    raise AssertionError("the task was not cancelled")


class PatchedLoop:
    """The patches of one loop; made before its first callback runs.

    Args:
        loop: trio-asyncio's loop, still unused.
        fail: called with a `SystemExit` or `KeyboardInterrupt` of a callback. asyncio lets both
            through, and on Trio they would end the loop for good.
    """

    def __init__(self, loop: Any, fail: Callable[[BaseException], None]) -> None:
        self.loop = loop
        self._fail = fail
        self._own_task: trio.lowlevel.Task | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._queue: Callable[[asyncio.Handle], asyncio.Handle] = loop._queue_handle
        self._run_in_executor: Callable[..., asyncio.Future[Any]] = loop.run_in_executor
        loop._queue_handle = self._queue_from_anywhere
        for name in CALLBACK_FIRST:
            setattr(loop, name, partial(getattr(loop, name), self.run))
        for name in CALLBACK_SECOND:
            setattr(loop, name, self._patched(getattr(loop, name)))
        loop.run_in_executor = self._in_executor
        loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._own_task = trio.lowlevel.current_task()

    def run(self, callback: Callable[..., object], *args: object) -> None:
        """Run a callback as asyncio would; called in Trio's thread, by Trio's code."""
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

    def _patched(self, method: Callable[..., T]) -> Callable[..., T]:
        def patched(
            when: object, callback: Callable[..., object], *args: object, **context: Any
        ) -> T:
            # The Trio task that waits for a file has the context of the code that asked for it,
            # perhaps a request's; trio-asyncio looks for the loop in that context.
            token = trio_asyncio.current_loop.set(self.loop)
            try:
                return method(when, self.run, callback, *args, **context)
            finally:
                trio_asyncio.current_loop.reset(token)

        return patched

    def _queue_from_anywhere(self, handle: asyncio.Handle) -> asyncio.Handle:
        """Queue a callback, even from a finalizer, which runs at any moment.

        The loop's own task may have found the queue empty and be about to wait for it; Trio's
        channels are not made for an item that is put there in between.
        """
        if _running_loop() is self.loop or not self._is_in_own_task():
            return self._queue(handle)
        self.loop._check_closed()
        self._token.run_sync_soon(self._queue_late, handle)
        return handle

    def _queue_late(self, handle: asyncio.Handle) -> None:
        if not self.loop.is_closed():
            self._queue(handle)

    def _is_in_own_task(self) -> bool:
        """Whether the loop's own task runs, or no Trio task at all, as in another thread."""
        try:
            return trio.lowlevel.current_task() is self._own_task
        except RuntimeError:
            return True

    def _in_executor(
        self, executor: Executor | None, function: Callable[..., T], *args: object
    ) -> asyncio.Future[T]:
        """Run a function in one of Trio's threads, or by an executor of the author's."""
        if executor is None or isinstance(executor, trio_asyncio.TrioExecutor):
            return self._run_in_executor(executor, function, *args)
        return asyncio.wrap_future(executor.submit(function, *args), loop=self.loop)

    def eager_task(self, coro: Coroutine[Any, Any, None], context: Context) -> Task:
        """An asyncio task that has made its first step already, or all of them.

        A call that need not wait takes no turn of either loop. Python 3.12 has eager tasks too,
        but with a context of their own; this one runs in the caller's, which is entered already.
        """
        loop: Any = self.loop
        finds_loop = context.get(trio_asyncio.current_loop) is loop
        if not finds_loop:  # A request's context.
            return asyncio.Task(coro, loop=loop, context=context)
        steps: list[Callable[[], object]] = []

        def keep(step: Callable[[], object], *, context: Context) -> None:
            steps.append(step)

        # A task asks its loop once, while it is made, to call its first step soon.
        call_soon, loop.call_soon = loop.call_soon, keep
        try:
            task = asyncio.Task(coro, loop=loop, context=context)
        finally:
            loop.call_soon = call_soon
        self.run(steps[0])
        return task
