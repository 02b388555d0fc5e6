"""The thread in which an embedded program runs.

Owns its start, its end, and the calls that enter it.
Never knows what the service calls.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import copy_context
from typing import Any, TypeVar

import structlog
import trio

from .._faults._errors import ProgramEndedError
from .._runtime import Runtime
from ._crossing import LAST_WAIT, Call, Wire, tell

T = TypeVar("T")

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


def _see(result: asyncio.Future[Any]) -> None:
    """Take the error of a call whose caller is gone: asyncio would tell of it otherwise."""
    if not result.cancelled():
        result.exception()


class ProgramThread:
    """A program in a thread of its own. Made, begun and ended on asyncio.

    Args:
        opened: opens the program, on Trio.
        patience: seconds for which its end is waited for.
    """

    def __init__(
        self, opened: Callable[[], AbstractAsyncContextManager[Runtime]], patience: float
    ) -> None:
        self._opened = opened
        self._patience = patience
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        """The loop of the service."""
        self._ready: asyncio.Future[None] = self.loop.create_future()
        self._over: asyncio.Future[None] = self.loop.create_future()
        self._thread = threading.Thread(target=self._run, name="trivet program", daemon=True)
        self._host: asyncio.Task[object] | None = None
        self._whole = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._orders = Wire(self._wake)
        self._back = Wire(self.loop.call_soon_threadsafe)
        self._root: trio.lowlevel.Task | None = None
        self._nursery: trio.Nursery
        self._stop: trio.Event
        self._is_ending = False
        self._is_over = False
        self._runtime: Runtime | None = None
        self.failure: BaseException | None = None
        """The error by which the program has ended; None while it runs, and after an orderly
        end."""

    @property
    def runtime(self) -> Runtime:
        """The program."""
        if self._runtime is None:
            raise ProgramEndedError("the program has not begun")
        return self._runtime

    # On asyncio.

    async def begin(self, host: asyncio.Task[object]) -> None:
        """Start the thread; returns when the program runs, or raises why it does not.

        Args:
            host: the task that is cancelled if the program ends by itself.
        """
        self._host = host
        self._thread.start()
        await asyncio.shield(self._ready)

    async def end(self) -> None:
        """Stop the program, and wait for the end of its thread.

        A cancellation of the caller cuts the stop short, and is raised at the end.
        """
        self._is_ending = True
        self._order(self._stop.set if self._runtime is not None else self._whole.cancel)
        until, is_cancelled = self.loop.time() + self._patience, False
        while not self._over.done() and self.loop.time() < until:
            try:
                await asyncio.wait([self._over], timeout=until - self.loop.time())
            except asyncio.CancelledError:  # noqa: ASYNC103 - it is raised at the end
                is_cancelled = True
                if self._runtime is not None:
                    self._order(self._runtime.hurry)
        if self._over.done():
            self._thread.join()
        else:
            _log.critical("an embedded program has not ended", left=self._what_is_left())
        if is_cancelled:
            raise asyncio.CancelledError

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await `function()` on Trio, with the caller's context variables.

        Raises:
            ProgramEndedError: the program has ended.
        """
        call, context = Call(function, self.loop, self._back), copy_context()

        def start() -> None:
            """Begin the call with the caller's context."""
            context.run(self._start, call)

        self._order(start, call.refuse)
        try:
            return await asyncio.shield(call.result)
        except asyncio.CancelledError:
            if call.result.cancelled():
                raise ProgramEndedError("the program has ended") from None  # noqa: ASYNC104
            self._order(call.scope.cancel)
            call.result.add_done_callback(_see)
            with suppress(asyncio.CancelledError):  # The program's loop may be held.
                await asyncio.wait([call.result], timeout=LAST_WAIT)  # noqa: ASYNC102
            raise

    def _order(
        self, order: Callable[[], object], otherwise: Callable[[], object] | None = None
    ) -> None:
        """Have the program's thread call something, if it is still there."""
        try:
            self._orders.send(order)
        except trio.RunFinishedError:
            if otherwise is not None:
                otherwise()

    def _wake(self, take: Callable[[], None]) -> None:
        if self._token is None:  # It looks for itself when it has begun.
            raise trio.RunFinishedError
        self._token.run_sync_soon(take)

    def _ended(self, error: BaseException | None) -> None:
        """Take note that the thread is at its end."""
        if not self._ready.done():
            self._ready.set_exception(error or ProgramEndedError("the program has not begun"))
            self._ready.exception()  # Whoever waited for it may have been cancelled.
        else:
            self.failure = error
            if not self._is_ending and self._host is not None:
                self._host.cancel()
        self._over.set_result(None)

    def _what_is_left(self) -> str:
        if self._runtime is None or self._root is None:
            return "the start"
        return "".join(self._runtime.what_is_left(self._root))

    # On Trio.

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            trio.run(self._live)
        except BaseException as error:  # noqa: ASYNC103 - the service gets it
            failure = error
        tell(self.loop, self._ended, failure)

    async def _live(self) -> None:
        self._root, self._stop = trio.lowlevel.current_root_task(), trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        if self._is_ending:  # Whoever ends the program had no token yet.
            return
        failure: Exception | None = None
        with self._whole:
            async with trio.open_nursery() as self._nursery:
                try:
                    async with self._opened() as self._runtime:
                        tell(self.loop, self._ready.set_result, None)
                        await self._stop.wait()
                except Exception as error:
                    failure = error
                finally:
                    self._is_over = True
                    self._nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _start(self, call: Call[Any]) -> None:
        if self._is_over:
            call.refuse()
        else:
            self._nursery.start_soon(call.live)
