"""asyncio within one lifetime of a plugin: its loop, the way into it, and the way back.

Owns the loop, its tasks of which nobody else knows, and what is held open between two calls.
Never knows plugins: it is told where to log, and whom to tell of a failure.
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
from ._crossings import Answer, Crossing, guarded_from_trio
from ._steps import Loop, Steps, Task, loop_around, trio_asyncio

UNSEEN_FOR = 1.0
"""Seconds after which nobody is expected to ask any more why a task has failed."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@asynccontextmanager
async def open_bridge(
    log: structlog.typing.FilteringBoundLogger, fail: Callable[[BaseException], None]
) -> AsyncGenerator[Bridge]:
    """Run a loop for as long as this block. What is left of its tasks then is cancelled.

    Args:
        log: the plugin's.
        fail: told of the failure of a task of which nobody else knows; in Trio's thread.
    """
    async with transparent(trio_asyncio.open_loop()) as loop:
        bridge = Bridge(loop, log, fail)
        await bridge.begin()
        try:
            yield bridge
        finally:
            await bridge.end()  # noqa: ASYNC102 - a cancellation cuts it short, as it has to


class Bridge:
    """The way from Trio to one loop of asyncio's, and back. Made by `open_bridge`."""

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
        self._unseen: WeakSet[Task] = WeakSet()
        self._has_ended = False
        self._thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()
        loop.set_task_factory(self._make_task)
        loop.set_exception_handler(self._hear)
        self._steps = Steps(loop, fail)

    async def begin(self) -> None:
        """Be ready."""
        is_ready = trio.Event()
        self._loop.run_trio_task(self._answer, is_ready)
        await is_ready.wait()

    async def _answer(self, is_ready: trio.Event) -> None:
        """Have a nursery for what is done on Trio, in that of the loop, which no scope cancels."""
        async with trio.open_nursery() as self._nursery:
            is_ready.set()
            await trio.sleep_forever()

    async def call(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await this on asyncio."""
        around = loop_around()
        if around is self._loop:
            return await function(*args)
        if self._has_ended:
            raise RuntimeError("the plugin's lifetime ends, and its asyncio loop with it")
        if around is not None:  # Another plugin's.
            return await around.trio_as_future(self.call, function, *args)
        return await Crossing(function, args).over(self._steps)

    async def call_back(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await this on Trio."""
        around = loop_around()
        if around is None:
            return await function(*args)
        if around is not self._loop:  # Another plugin's.
            return await around.trio_as_future(function, *args)
        assert self._nursery is not None
        answer: Answer[T] = Answer(around)
        self._nursery.start_soon(answer.find, function, args, name=function)
        return await answer

    def held(self, manager: AbstractAsyncContextManager[T]) -> AbstractAsyncContextManager[T]:
        """What can be left on Trio's side, wherever the manager is entered."""
        if loop_around() is None:
            return manager
        if type(manager).__module__.partition(".")[0] == "trio":
            raise RuntimeError(f"{manager!r} is Trio's: it cannot be entered on asyncio")
        return _Held(self, self._loop, manager)

    async def end(self) -> None:
        """Cancel all tasks, those too that others start as they end; wait for them."""
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
            with trio.CancelScope(shield=True):  # The loop cannot end before them.
                while left := self._tasks():
                    await _until_done(left.pop())
            raise
        finally:
            for task in filter(_is_unseen, list(self._unseen)):
                self.fail_by(task)

    def _tasks(self) -> set[Task]:
        return asyncio.all_tasks(cast("asyncio.AbstractEventLoop", self._loop))

    def _make_task(self, loop: Any, coro: Coroutine[Any, Any, Any], **keywords: Any) -> Task:
        task_coro = (
            guarded_from_trio(coro) if asyncio.iscoroutine(coro) else coro
        )  # Which is refused.
        task = asyncio.Task(task_coro, loop=loop, **keywords)
        task.add_done_callback(partial(self._look_at, coro))
        return task

    def _look_at(self, coro: Coroutine[Any, Any, Any], task: Task) -> None:
        coro.close()  # It has not begun, where the task was cancelled at once.
        if not _is_unseen(task):
            return
        look_again = partial(self._look_again, ref(task))
        if self._has_ended:  # The loop goes on until nothing is to be called back.
            self._loop.call_soon(look_again)
        else:  # Where nobody has a reference to it, asyncio says so sooner.
            self._unseen.add(task)
            self._loop.call_later(UNSEEN_FOR, look_again)

    def _look_again(self, reference: ref[Task]) -> None:
        task = reference()
        if task is not None and _is_unseen(task):
            self.fail_by(task)

    def _hear(self, loop: Loop, context: dict[str, Any]) -> None:
        """Hear of an error of which asyncio does not know whom to tell; from any thread."""
        if threading.get_ident() != self._thread:
            self._token.run_sync_soon(self._hear, loop, context)
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
        else:  # A connection's, of which its protocol is told; or something was not closed.
            self._log.error(f"asyncio: {context['message']}", exc_info=error)

    def fail_by(self, task: asyncio.Task[Any]) -> None:
        """Fail the plugin by this task's failure."""
        error = task.exception()
        assert error is not None
        error.add_note(f"in the asyncio task {task.get_name()!r}, for which nobody has waited")
        self._fail(error)


def _is_task(future: object) -> TypeGuard[Task]:
    return isinstance(future, asyncio.Task)


def _is_unseen(task: Task) -> bool:
    """Whether the task has failed, and nobody has asked why; asyncio itself looks at this."""
    return bool(getattr(task, "_log_traceback", False))


class _Held(AbstractAsyncContextManager[T]):
    """Entered on asyncio, left on Trio; what is in it has one task of asyncio's for both."""

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
            await self._task  # Which has failed.
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
        # A lifetime bounds what it leaves.
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
