"""The starts of several plugins, side by side.

Owns the wait until each has started, or the first has failed.
Never knows in which order a program starts, nor what becomes of one that has failed.
"""

from __future__ import annotations

import attrs
import trio

from ._host import Host


class Starts:
    """The starts of so many plugins.

    A nursery's `start` would do the same with a nursery and a task more for each of them.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._missing = count
        self.over = trio.Event()
        """Set when all have started, or one has failed."""
        if not count:
            self.over.set()

    def of(self, host: Host) -> trio.TaskStatus[None]:
        """What this one is to tell when it has started, or has failed to."""
        return _Start(self, host)

    def ended(self, host: Host) -> None:
        """This one has told."""
        self._missing -= 1
        if host.start_failed or not self._missing:
            self.over.set()


@attrs.frozen
class _Start(trio.TaskStatus[None]):
    starts: Starts
    host: Host

    def started(self, value: None = None) -> None:
        self.starts.ended(self.host)
