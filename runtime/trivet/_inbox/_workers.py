"""The tasks that handle a plugin's events, and the limit of the time that one event may take.

Owns the loops that call handlers, their time stamps, and the cancellation of a late handler.
Never knows what a handler does, nor what becomes of an event that has failed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import structlog
import trio

from .._events._delivery import Delivery, delivery_of_task
from .._events._event import Event
from .._events._fates import Fate
from .._faults._errors import HandlerTimeoutError
from .._faults._frames import Authors, lines_of
from ._fast_path import FastPath, Slot
from ._inbox import Inbox
from ._quantum import CATCH_UP, CHECK_EVERY, SECONDS

HANDLED, IN_FLIGHT = Fate.HANDLED, Fate.IN_FLIGHT
set_delivery = delivery_of_task.set  # A look-up on an imported name takes as long as the call.

E = TypeVar("E", bound=Event)
W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)


workers: WeakKeyDictionary[trio.lowlevel.Task, str] = WeakKeyDictionary()
"""The tasks that handle events, each with the name of its plugin."""


class Pieces(Protocol[W_co]):
    """One worker's pieces of work. To ask for the next piece says that the last one is done."""

    async def run_ahead(self) -> None:
        """Do the pieces whose time and end need not be watched, if there are any."""
        ...

    def take(self) -> W_co | None:
        """The next piece if it is there; None too where it is everyone else's turn."""
        ...

    async def wait(self) -> W_co | None:
        """Wait for the next piece; None where none is left. Always a checkpoint."""
        ...


class Workload(Protocol[W]):
    """The work of a plugin: events one by one, or batch by batch."""

    def pieces(self) -> Pieces[W]:
        """One worker's share."""
        ...

    def handle(self, piece: W) -> Awaitable[None]:
        """Do a piece."""
        ...

    def fail(self, piece: W, error: Exception) -> None:
        """Note that a piece has failed, or took too long."""
        ...

    def expire(self, piece: W) -> None:
        """Note that a piece was not done by its deadline."""
        ...

    def deadline(self, piece: W) -> float:
        """The time on Trio's clock after which nobody needs a piece."""
        ...

    def identity(self, piece: W) -> dict[str, object]:
        """The facts of a piece for a log line."""
        ...


async def work(
    workload: Workload[W],
    *,
    plugin: str,
    crew: int,
    time_limit: float,
    home: str = "",
    log: structlog.typing.FilteringBoundLogger,
) -> None:
    """Do the work, `crew` pieces side by side, until none is left.

    Args:
        workload: the work.
        plugin: the name of its plugin.
        crew: the number of tasks.
        time_limit: seconds for one piece; infinity for no limit.
        home: the module, or the package, of the plugin's code.
        log: the plugin's.
    """
    members = [_Worker(workload, time_limit, Authors(home)) for _ in range(crew)]
    async with trio.open_nursery() as watching:
        if time_limit < math.inf:
            watching.start_soon(_watch, members, time_limit, log)
        async with trio.open_nursery() as nursery:
            for worker in members:
                nursery.start_soon(worker.work, plugin)
        watching.cancel_scope.cancel()


async def _watch(
    crew: list[_Worker[W]], time_limit: float, log: structlog.typing.FilteringBoundLogger
) -> None:
    """Cancel workers that are late.

    The watch reads the workers' stamps, so that a piece that keeps the limit costs two assignments.
    """
    while True:
        now = trio.current_time()
        for worker in crew:
            if worker.until <= now and not worker.cut_off():
                log.error("handler does not end although it was cancelled", **worker.identity())
        # A worker that begins from now on is late no sooner than after the time limit.
        next_end = min(worker.until for worker in crew)
        await trio.sleep_until(min(next_end, now + time_limit))


class _Worker(Generic[W]):
    """One task that does one piece after the other.

    All pieces are done in one scope, until a piece is late: then that scope is cancelled, and the
    worker goes on in a new one.
    """

    def __init__(self, workload: Workload[W], time_limit: float, authors: Authors) -> None:
        self._workload = workload
        self._authors = authors
        self._time_limit = time_limit
        self._is_limited = time_limit < math.inf
        self._piece: W | None = None
        self._renew()

    def _renew(self) -> None:
        self._scope = trio.CancelScope()
        self.until = math.inf
        """The time at which the piece that is being done is late."""
        self._is_late = False
        self._has_returned = False
        self._stood_at = ""

    async def work(self, plugin: str) -> None:
        """Work until no piece is left."""
        workers[trio.lowlevel.current_task()] = plugin
        pieces = self._workload.pieces()
        is_done = False
        while not is_done:
            with self._scope:
                is_done = await self._work_in_scope(pieces)
            if self._piece is not None and self._scope.cancel_called:
                self._end(self._piece)
            self._renew()

    async def _work_in_scope(self, pieces: Pieces[W]) -> bool:
        """Do pieces; says whether all are done, or else the scope is spent."""
        workload = self._workload
        while (piece := await self._next(pieces)) is not None:
            self._piece = piece
            if self._is_limited:
                self.until = trio.current_time() + self._time_limit
            deadline = workload.deadline(piece)
            if deadline < math.inf:
                self._scope.deadline = deadline
            try:
                await workload.handle(piece)
            except trio.Cancelled as cancelled:
                if self._is_late:
                    lines, authors = lines_of(cancelled), self._authors
                    self._stood_at = f"{authors.place(lines)}\n{authors.stack(lines)}"
                raise
            except Exception as error:
                workload.fail(piece, error)
            if deadline < math.inf or self._is_late:
                if self._scope.cancel_called:  # To be felt by whatever comes next in this scope.
                    self._has_returned = True
                    return False
                self._scope.deadline = math.inf
            self.until = math.inf
        return True

    async def _next(self, pieces: Pieces[W]) -> W | None:
        piece = pieces.take()
        if piece is None:
            self._piece = None
            if not self._is_limited:
                await pieces.run_ahead()
            piece = await pieces.wait()
        return piece

    def _end(self, piece: W) -> None:
        # A piece that ended otherwise at the last moment is not in flight, and stays as it ended.
        self._piece = None
        if self._is_late:
            error = HandlerTimeoutError(f"the handler took longer than {self._time_limit:g} s")
            if self._stood_at:
                error.add_note(f"it stood at {self._stood_at}")
            self._workload.fail(piece, error)
        elif not self._has_returned:
            self._workload.expire(piece)

    def cut_off(self) -> bool:
        """Cancel the late piece; says whether it was not cancelled before."""
        if self._is_late:  # The whole limit has passed again.
            self.until = math.inf
            return False
        self._is_late = True
        self.until += self._time_limit
        self._scope.cancel()
        return True

    def identity(self) -> dict[str, object]:
        """The facts of the piece that is being done, for a log line."""
        return {} if self._piece is None else self._workload.identity(self._piece)


@trio.lowlevel.enable_ki_protection
async def handle_plain(inbox: Inbox[E], handle: Callable[[E], Awaitable[None]]) -> None:
    """Handle events while the fast path is open, and no event has a deadline to be watched.

    The loop does what `receive`, the handler and `accept` do, all in one.

    Args:
        inbox: whose events.
        handle: called with each; what it raises rejects that one.
    """
    path = inbox.fast_path
    if not path.is_open:
        return
    handle = _interruptible(handle)
    ready, slot = path.ready, path.enter()
    try:
        while path.is_open:
            if not ready:
                set_delivery(None)
                await path.readers.park()
            elif ready[0].deadline < math.inf:
                return
            else:
                await _quantum(inbox, handle, slot)
                if ready:
                    await trio.lowlevel.checkpoint()
    finally:
        path.leave(slot)


@trio.lowlevel.enable_ki_protection
async def _quantum(inbox: Inbox[E], handle: Callable[[E], Awaitable[None]], slot: Slot) -> None:
    """Handle events for as long as everyone else can wait."""
    path = inbox.fast_path
    ready, counts, is_timed = path.ready, path.counts, path.is_timed
    until = perf_counter() + SECONDS
    for _ in range(CATCH_UP // CHECK_EVERY):
        for _ in range(CHECK_EVERY):
            slot.delivery = delivery = ready.popleft()
            if is_timed:
                slot.since = trio.current_time()
            if not (delivery.is_plain or _may_be_begun(path, delivery)):
                slot.delivery = None
                return
            set_delivery(delivery)
            try:
                await handle(delivery.event)
            except Exception as error:
                inbox.reject(delivery, error)
            if slot.was_taken:  # It was ended or kept meanwhile.
                slot.was_taken = False
            elif delivery.is_plain:
                counts.handled += 1
            else:
                slot.delivery = None
                path.end(delivery, HANDLED)
            if not ready or not path.is_open:
                slot.delivery = None
                return
        if perf_counter() >= until:
            break
    slot.delivery = None


def _may_be_begun(path: FastPath, delivery: Delivery[Event]) -> bool:
    """Whether an event that was taken out has no deadline; one that has is put back."""
    if delivery.deadline < math.inf:
        path.ready.appendleft(delivery)
        return False
    if delivery.receipt is not None:
        delivery.receipt.settle(path.plugin, IN_FLIGHT)
    return True


def _interruptible(handle: Callable[[E], Awaitable[None]]) -> Callable[[E], Awaitable[None]]:
    """The author's handler, which Ctrl-C ends although its caller is protected."""
    if hasattr(handle, "__code__"):
        trio.lowlevel.disable_ki_protection(handle)
        return handle

    @trio.lowlevel.disable_ki_protection
    async def handle_it(event: E) -> None:
        await handle(event)

    return handle_it
