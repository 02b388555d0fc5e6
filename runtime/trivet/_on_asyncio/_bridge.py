"""The asyncio loop of one plugin's lifetime: calls into it, calls back, and its end.

Owns the loop, the failures of tasks that nobody awaits, and context managers held open on asyncio.
Never knows plugins: the caller gives a logger, and a function for failures.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, TypeGuard, TypeVar, TypeVarTuple, Unpack, cast
from weakref import WeakSet, ref

import structlog
import trio

from .._faults._containment import transparent
from .._faults._stacks import asyncio_stack_of
from ._crossings import CallOnAsyncio, CallOnTrio, guarded_from_trio
from ._patched_loop import Loop, PatchedLoop, Task, loop_around, trio_asyncio, was_never_retrieved

RETRIEVED_WITHIN = 1.0
"""Seconds in which a failed task may still be awaited; after them the plugin fails, too."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@asynccontextmanager
async def open_bridge(
    log: structlog.typing.FilteringBoundLogger, fail: Callable[[BaseException], None]
) -> AsyncGenerator[Bridge]:
    """Run an asyncio loop for the duration of this block, and cancel the tasks that remain.

    Args:
        log: the plugin's logger.
        fail: called in Trio's thread with the failure of a task that nobody awaits.
    """
    async with transparent(trio_asyncio.open_loop()) as loop:
        bridge = Bridge(loop, log, fail)
        await bridge.begin()
        try:
            yield bridge
        finally:
            await bridge.end()  # noqa: ASYNC102 - a cancellation cuts it short, as it has to


class Bridge:
    """Calls from Trio to one asyncio loop, and back. Made by `open_bridge`."""

    def __init__(
        self,
        loop: Loop,
        log: structlog.typing.FilteringBoundLogger,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._nursery: trio.Nursery | None = None
        self._log = log
        self._fail = fail
        self._not_retrieved: WeakSet[Task] = WeakSet()
        self._has_ended = False
        self._thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()
        loop.set_task_factory(self._make_task)
        loop.set_exception_handler(self._handle_exception)
        self._patched = PatchedLoop(loop, fail)

    async def begin(self) -> None:
        """Start the nursery of calls back to Trio; called once, before any other method."""
        is_ready = trio.Event()
        self._loop.run_trio_task(self._keep_nursery, is_ready)
        await is_ready.wait()

    async def _keep_nursery(self, is_ready: trio.Event) -> None:
        """Keep a nursery for calls on Trio open, within the loop's own, which no scope cancels."""
        async with trio.open_nursery() as self._nursery:
            is_ready.set()
            await trio.sleep_forever()

    async def call(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on asyncio, wherever this is called.

        Raises:
            RuntimeError: the lifetime ends, or the call was cancelled on asyncio's side.
        """
        around = loop_around()
        if around is self._loop:
            return await function(*args)
        if self._has_ended:
            raise RuntimeError("the plugin's lifetime ends, and its asyncio loop with it")
        if around is not None:  # Another plugin's loop.
            return await around.trio_as_future(self.call, function, *args)
        return await CallOnAsyncio(function, args).make(self._patched)

    async def call_back(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on Trio, wherever this is called."""
        around = loop_around()
        if around is None:
            return await function(*args)
        if around is not self._loop:  # Another plugin's loop.
            return await around.trio_as_future(function, *args)
        assert self._nursery is not None
        call: CallOnTrio[T] = CallOnTrio(around)
        self._nursery.start_soon(call.run, function, args, name=function)
        return await call

    def held(self, manager: AbstractAsyncContextManager[T]) -> AbstractAsyncContextManager[T]:
        """A context manager like this one, entered here and left on Trio's side.

        Raises:
            RuntimeError: called on asyncio with one of Trio's own.
        """
        if loop_around() is None:
            return manager
        if type(manager).__module__.partition(".")[0] == "trio":
            raise RuntimeError(f"{manager!r} is Trio's: it cannot be entered on asyncio")
        return _Held(self, self._loop, manager)

    async def end(self) -> None:
        """Cancel all tasks, also the ones that ending tasks start, and wait for their ends.

        Cancelled itself, it logs the remaining tasks and their stacks, and waits on.
        """
        self._has_ended = True
        asked: set[Task] = set()
        try:
            while left := self._tasks():
                for task in left - asked:
                    task.cancel()
                asked |= left
                await _until_done(left.pop())
        except trio.Cancelled:
            for task in self._tasks():
                self._log.error(
                    "asyncio task does not end although it was cancelled",
                    task=task.get_name(),
                    stack=asyncio_stack_of(task),
                )
                task.cancel()
            with trio.CancelScope(shield=True):  # The loop cannot end before its tasks.
                while left := self._tasks():
                    await _until_done(left.pop())
            raise
        finally:
            for task in filter(was_never_retrieved, list(self._not_retrieved)):
                self.fail_by(task)

    def _tasks(self) -> set[Task]:
        return asyncio.all_tasks(cast("asyncio.AbstractEventLoop", self._loop))

    def _make_task(self, loop: Any, coro: Coroutine[Any, Any, Any], **keywords: Any) -> Task:
        # `Task` itself refuses an object that is no coroutine.
        task_coro = guarded_from_trio(coro) if asyncio.iscoroutine(coro) else coro
        task = asyncio.Task(task_coro, loop=loop, **keywords)
        task.add_done_callback(partial(self._watch_failure, coro))
        return task

    def _watch_failure(self, coro: Coroutine[Any, Any, Any], task: Task) -> None:
        coro.close()  # It may not have begun: the task was cancelled at once.
        if not was_never_retrieved(task):
            return
        report = partial(self._fail_unless_retrieved, ref(task))
        if self._has_ended:  # The loop goes on until its queue is empty.
            self._loop.call_soon(report)
        else:  # asyncio reports it sooner where nobody has a reference to the task.
            self._not_retrieved.add(task)
            self._loop.call_later(RETRIEVED_WITHIN, report)

    def _fail_unless_retrieved(self, reference: ref[Task]) -> None:
        task = reference()
        if task is not None and was_never_retrieved(task):
            self.fail_by(task)

    def _handle_exception(self, loop: Loop, context: dict[str, Any]) -> None:
        """Handle an error that asyncio can raise nowhere; called in any thread."""
        if threading.get_ident() != self._thread:
            self._token.run_sync_soon(self._handle_exception, loop, context)
            return
        error: BaseException | None = context.get("exception")
        future = context.get("future")
        if error is not None and self._has_ended:  # There may be another lifetime by now.
            self._log.error(f"asyncio, after the end: {context['message']}", exc_info=error)
        elif error is not None and _is_task(future):
            self.fail_by(future)
        elif error is not None and "handle" in context:
            error.add_note(f"in {context['handle']!r}")
            self._fail(error)
        else:  # A connection's error, which its protocol gets too; or something was not closed.
            self._log.error(f"asyncio: {context['message']}", exc_info=error)

    def fail_by(self, task: asyncio.Task[Any]) -> None:
        """Fail the plugin with the exception of this task."""
        error = task.exception()
        assert error is not None
        error.add_note(f"in the asyncio task {task.get_name()!r}, which nothing has awaited")
        self._fail(error)


def _is_task(future: object) -> TypeGuard[Task]:
    return isinstance(future, asyncio.Task)


class _Held(AbstractAsyncContextManager[T]):
    """A context manager that is entered on asyncio and left on Trio; one asyncio task does both."""

    def __init__(self, bridge: Bridge, loop: Loop, manager: AbstractAsyncContextManager[T]) -> None:
        self._bridge = bridge
        self._manager = manager
        self._value: asyncio.Future[T] = loop.create_future()
        self._end: asyncio.Future[None] = loop.create_future()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> T:
        self._task = asyncio.create_task(self._hold(), name=f"holder of {self._manager!r}")
        try:
            await asyncio.wait((self._value, self._task), return_when="FIRST_COMPLETED")
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if not self._value.done():
            await self._task  # It has failed.
        self._task.add_done_callback(self._ended)
        return self._value.result()

    async def _hold(self) -> None:
        async with self._manager as value:
            self._value.set_result(value)
            await self._end

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not (self._end.done() or task.cancelled() or task.exception() is None):
            self._bridge.fail_by(task)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        # A lifetime limits the time of leaving.
        return await self._bridge.call(self._leave, error)  # noqa: ASYNC102

    async def _leave(self, error: BaseException | None) -> bool:
        assert self._task is not None
        if not (self._end.done() or self._task.done()):
            if isinstance(error, Exception):
                self._end.set_exception(error)
            else:
                self._end.set_result(None)
        try:
            await self._task
        except Exception as raised:
            if raised is error:
                return False
            raise
        return isinstance(error, Exception)


@trio.lowlevel.enable_ki_protection
async def _until_done(asyncio_task: Task) -> None:
    trio_task = trio.lowlevel.current_task()

    def reschedule(_: Task) -> None:
        trio.lowlevel.reschedule(trio_task)

    def abort(_: object) -> trio.lowlevel.Abort:
        asyncio_task.remove_done_callback(reschedule)
        is_called_back = asyncio_task.done()  # Then it is too late to remove it.
        return trio.lowlevel.Abort.FAILED if is_called_back else trio.lowlevel.Abort.SUCCEEDED

    asyncio_task.add_done_callback(reschedule)
    await trio.lowlevel.wait_task_rescheduled(abort)
