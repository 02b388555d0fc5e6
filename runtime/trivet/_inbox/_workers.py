"""The tasks that handle a plugin's events, and the limit of the time that one event may take.

Owns the loops that call handlers, their time stamps, and the cancellation of a late handler.
Never knows what a handler does, nor what becomes of an event that has failed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import structlog
import trio

from .._events._delivery import delivery_of_task
from .._events._event import Event
from .._events._fates import Fate
from .._faults._errors import HandlerTimeoutError
from .._faults._frames import Authors, lines_of
from ._fast_path import Slot
from ._inbox import Inbox
from ._latencies import TIMED_EVERY
from ._quantum import CATCH_UP, CHECK_EVERY, SECONDS

IN_FLIGHT = Fate.IN_FLIGHT
NEVER = math.inf
set_delivery = delivery_of_task.set  # A look-up on an imported name takes as long as the call.

E = TypeVar("E", bound=Event)
W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)


workers: WeakKeyDictionary[trio.lowlevel.Task, str] = WeakKeyDictionary()
"""The tasks that handle events, each with the name of its plugin."""


class Pieces(Protocol[W_co]):
    """One worker's pieces of work. To ask for the next piece says that the last one is done."""

    slot: Slot
    """The piece that `run_ahead` is doing."""

    async def run_ahead(self) -> None:
        """Do the pieces whose end need not be minded, if there are any, until one is late."""
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
        self._pieces = workload.pieces()
        self._piece: W | None = None
        self._renew()

    def _renew(self) -> None:
        self._scope = trio.CancelScope()
        self._pieces.slot = Slot()
        self._until = math.inf
        self._is_late = False
        self._has_returned = False
        self._stood_at = ""

    async def work(self, plugin: str) -> None:
        """Work until no piece is left."""
        workers[trio.lowlevel.current_task()] = plugin
        is_done = False
        while not is_done:
            with self._scope:
                is_done = await self._work_in_scope()
            if self._scope.cancel_called and (piece := self._in_hand) is not None:
                self._end(piece)
            self._renew()

    @property
    def until(self) -> float:
        """The time at which the piece that is being done is late."""
        if self._is_late or not self._is_limited:
            return self._until
        return min(self._until, self._pieces.slot.since + self._time_limit)

    @property
    def _in_hand(self) -> W | None:
        """The piece that is being done."""
        ahead = cast("W | None", self._pieces.slot.delivery)
        return ahead if self._piece is None else self._piece

    async def _work_in_scope(self) -> bool:
        """Do pieces; says whether all are done, or else the scope is spent."""
        workload = self._workload
        while (piece := await self._next()) is not None:
            self._piece = piece
            if self._is_limited:
                self._until = trio.current_time() + self._time_limit
            deadline = workload.deadline(piece)
            if deadline < math.inf:
                self._scope.deadline = deadline
            try:
                await workload.handle(piece)
            except trio.Cancelled as cancelled:
                self._note_place(cancelled)
                raise
            except Exception as error:
                workload.fail(piece, error)
            if deadline < math.inf or self._is_late:
                if self._scope.cancel_called:  # To be felt by whatever comes next in this scope.
                    self._has_returned = True
                    return False
                self._scope.deadline = math.inf
            self._until = math.inf
        return not self._is_late

    async def _next(self) -> W | None:
        """The next piece; None where none is left, or one that was done ahead is late."""
        piece = self._pieces.take()
        if piece is None:
            self._piece = None
            try:
                await self._pieces.run_ahead()
            except trio.Cancelled as cancelled:
                self._note_place(cancelled)
                raise
            if not self._is_late:
                piece = await self._pieces.wait()
        return piece

    def _note_place(self, cancelled: trio.Cancelled) -> None:
        """Note where a handler that is late stood."""
        if self._is_late:
            lines, authors = lines_of(cancelled), self._authors
            self._stood_at = f"{authors.place(lines)}\n{authors.stack(lines)}"

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
            self._until = math.inf
            return False
        self._until = self.until + self._time_limit
        self._is_late = True
        self._pieces.slot.cut_off()
        self._scope.cancel()
        return True

    def identity(self) -> dict[str, object]:
        """The facts of the piece that is being done, for a log line."""
        piece = self._in_hand
        return {} if piece is None else self._workload.identity(piece)


@trio.lowlevel.enable_ki_protection
async def handle_plain(
    inbox: Inbox[E], handle: Callable[[E], Awaitable[None]], slot: Slot | None = None
) -> None:
    """Handle events while the fast path is open, and no event has a deadline to be watched.

    The loop does what `receive`, the handler and `accept` do, all in one.

    Args:
        inbox: whose events.
        handle: called with each; what it raises rejects that one.
        slot: has the event that is being handled. Where it `is_late`, this returns.
    """
    path = inbox.fast_path
    if not path.is_open:
        return
    handle = _interruptible(handle)
    ready, slot = path.ready, path.enter(slot or Slot())
    try:
        while path.is_open and not slot.is_late:
            if not ready:
                set_delivery(None)
                await path.readers.park()
            elif ready[0].deadline < NEVER:
                return
            else:
                await _quantum(inbox, handle, slot)
                if ready and not slot.is_late:
                    await trio.lowlevel.checkpoint()
    finally:
        path.leave(slot)


@trio.lowlevel.enable_ki_protection
async def _quantum(  # noqa: C901, PLR0912, PLR0915 - a call for each event would cost as much
    inbox: Inbox[E], handle: Callable[[E], Awaitable[None]], slot: Slot
) -> None:
    """Handle events for as long as everyone else can wait."""
    path = inbox.fast_path
    ready, counts, is_timed = path.ready, path.counts, path.is_timed
    now = trio.lowlevel.current_clock().current_time
    sampling, untimed, entered = slot.sampling, slot.untimed, perf_counter()
    until, slot.since = entered + SECONDS, 0.0
    began: float | None = None
    weight = 1
    if untimed and entered >= sampling.again:
        began, weight = now(), sampling.for_itself(entered)
    for _ in range(CATCH_UP // CHECK_EVERY):
        if not untimed:
            began, weight, untimed = now(), sampling.for_others(), TIMED_EVERY
        # An event that is timed is a run by itself: the others need not ask whether they are.
        run = CHECK_EVERY if began is None else 1
        for left in range(untimed - 1, untimed - run - 1 if untimed > run else -1, -1):
            slot.delivery = delivery = ready.popleft()
            if is_timed:
                slot.since = now()
            if not delivery.is_plain:
                if delivery.deadline < NEVER:
                    ready.appendleft(delivery)
                    slot.delivery, slot.since, slot.untimed = None, NEVER, left
                    return
                slot.needs_care = True
                if delivery.receipt is not None:
                    delivery.receipt.settle(path.plugin, IN_FLIGHT)
            set_delivery(delivery)
            try:
                await handle(delivery.event)
            except Exception as error:
                inbox.reject(delivery, error)
            except BaseException:
                if began is not None:
                    path.latencies.add(delivery, now() - began, weight)
                raise
            if slot.needs_care:
                slot.needs_care = False
                if slot.was_taken:
                    slot.was_taken = False
                    if slot.is_late:
                        break
                elif delivery.is_plain:
                    counts.handled += 1
                else:
                    slot.delivery = None
                    path.finish(delivery)
                if not path.is_open:
                    break
            else:
                counts.handled += 1
            if not ready:
                break
        # A run has an event at least.
        untimed = left  # pyright: ignore[reportPossiblyUnboundVariable]
        if began is not None:
            took = now() - began
            path.latencies.add(delivery, took, weight)  # pyright: ignore[reportPossiblyUnboundVariable]
            began = None
        if slot.is_late:
            return
        if not ready or not path.is_open or perf_counter() >= until:
            break
    slot.delivery, slot.since, slot.untimed = None, NEVER, untimed


def _interruptible(handle: Callable[[E], Awaitable[None]]) -> Callable[[E], Awaitable[None]]:
    """The author's handler, which Ctrl-C ends although its caller is protected."""
    if hasattr(handle, "__code__"):
        trio.lowlevel.disable_ki_protection(handle)
        return handle

    @trio.lowlevel.disable_ki_protection
    async def handle_it(event: E) -> None:
        await handle(event)

    return handle_it
