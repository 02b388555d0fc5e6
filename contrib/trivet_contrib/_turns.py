"""Work of a sink that grows with the events, in turns, so that no other task waits long.

Owns the pace of such work on the event loop, and the one thread for large events. The runtime
treats documents that come in alike.
Never knows the work.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

import trio

T = TypeVar("T")

TURN = 0.005
"""Seconds for which one task works before every other task has its turn; by the machine's clock, in
tests too, since work is measured and not waiting."""
LARGE = 64 * 1024
"""Bytes of an event, or of a body, above which a thread works on it."""

# Most of the work holds the interpreter's lock: several threads would be no faster.
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

        This is a checkpoint only then.
        """
        if self.is_over():
            await trio.lowlevel.checkpoint()
            self._until = perf_counter() + TURN


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Do the work at once, or in the thread where there are more than `LARGE` bytes.

    The thread is not cancelled: its work takes a fraction of a second.
    """
    if size <= LARGE:
        return work()
    return await trio.to_thread.run_sync(work, limiter=_one_thread)
