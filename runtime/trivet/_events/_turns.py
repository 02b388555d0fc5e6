"""Work that grows with a client's data, in turns, so that no other task waits long.

Owns the pace of such work on the event loop, and the one thread for large documents.
Never knows the work.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

import trio

T = TypeVar("T")

TURN = 0.005
"""Seconds for which one task works before every other task has its turn; by the machine's clock, in
tests too, since work is measured and not waiting."""
LARGE = 64 * 1024
"""Bytes of a document above which a thread works on it. The densest documents of this size, and the
ones with the longest numbers, take about ten milliseconds."""

MANY_OBJECTS = 10_000
"""New objects through which a search for garbage would be noticeable."""

# The work holds the interpreter's lock: several threads would be no faster, and would leave the
# event loop less time with the lock.
_one_thread = trio.CapacityLimiter(1)


class Turns:
    """The turns of one task that has many small pieces of work."""

    def __init__(self) -> None:
        self._until = perf_counter() + TURN

    def is_over(self) -> bool:
        """Whether this task's turn is over; to ask takes less than to await `next`."""
        return perf_counter() >= self._until

    async def next(self) -> None:
        """Let every other task have its turn, if this task has worked for `TURN` seconds.

        This is a checkpoint only then, so that a cancellation may come at a later call.
        """
        if self.is_over():
            await trio.lowlevel.checkpoint()
            self._until = perf_counter() + TURN


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Do the work at once, or in the thread where the document has more than `LARGE` bytes.

    The thread is not cancelled: its work takes a fraction of a second.
    """
    if size <= LARGE:
        return work()
    return await trio.to_thread.run_sync(_with_collector_paused, work, limiter=_one_thread)


def _with_collector_paused(work: Callable[[], T]) -> T:
    """Do the work while the garbage collector pauses: the many new objects are no garbage."""
    with _collector_paused():
        return work()


@contextmanager
def _collector_paused() -> Generator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if gc.get_count()[0] > MANY_OBJECTS:
                gc.collect(1)  # In the thread, and not on the loop: it visits all new objects.
            gc.enable()
