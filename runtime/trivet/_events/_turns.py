"""Work that grows with what somebody sends, done so that nobody else waits for it.

Owns the pace of such work on the event loop, and the one thread for what is too large for it.
Never knows what is done.
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
"""Seconds for which one task works before every other task has its turn. By the machine's clock, in
tests too: what is measured is work, not waiting."""
LARGE = 64 * 1024
"""Bytes of a document, above which it is not worked on by the event loop. Of the densest documents,
and of those with the longest numbers, so many take about ten milliseconds."""

MANY = 10_000
"""New objects, a search through which would be felt."""

_one = trio.CapacityLimiter(1)
# The work holds the interpreter's lock: several threads would be no faster, and would leave the
# loop less of it.


class Turns:
    """The turns of one task that does many things, each of them small."""

    def __init__(self) -> None:
        self._until = perf_counter() + TURN

    async def next(self) -> None:
        """Let every other task have its turn, if this one has lasted long enough.

        A checkpoint only then: between two of these calls cancellation comes once in a while.
        """
        if perf_counter() >= self._until:
            await trio.lowlevel.checkpoint()
            self._until = perf_counter() + TURN


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Do it in the thread if it is about a document of so many bytes that the loop would be late.

    Not cancelled while it runs: it takes a part of a second at most.
    """
    if size <= LARGE:
        return work()
    return await trio.to_thread.run_sync(_without_searches, work, limiter=_one)


def _without_searches(work: Callable[[], T]) -> T:
    """Do it, and have no garbage looked for meanwhile: what is made is none, and there is much."""
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
            if gc.get_count()[0] > MANY:
                gc.collect(1)  # Here, and not on the loop: it goes through all that was made.
            gc.enable()
