"""The tasks that wait at an inbox for an event.

Owns the park, in which each task waits to be woken, in turn.
Never knows what there is to read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio


class Readers:
    """The readers of one inbox that found nothing."""

    def __init__(self) -> None:
        self.parked: deque[trio.lowlevel.Task] = deque()
        """The tasks that wait; the first one has waited longest."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after each change of these."""

    @trio.lowlevel.enable_ki_protection
    async def park(self) -> None:
        """Wait to be woken."""
        task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            """Wait no more."""
            self.parked.remove(task)
            self.on_change()
            return trio.lowlevel.Abort.SUCCEEDED

        self.parked.append(task)
        self.on_change()
        await trio.lowlevel.wait_task_rescheduled(abort)

    @trio.lowlevel.enable_ki_protection
    def wake(self) -> None:
        """Wake one reader, since there is something to look at."""
        if self.parked:
            trio.lowlevel.reschedule(self.parked.popleft())
            self.on_change()

    @trio.lowlevel.enable_ki_protection
    def wake_all(self) -> None:
        """Wake every reader."""
        while self.parked:
            trio.lowlevel.reschedule(self.parked.popleft())
        self.on_change()
