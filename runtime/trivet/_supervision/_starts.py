"""The starts of several plugins, side by side.

Owns the wait until each plugin has started, or the first has failed.
Never knows the order in which a program starts, nor what follows from a failure.
"""

from __future__ import annotations

import attrs
import trio

from ._host import Host


class Starts:
    """The starts of `count` plugins.

    A nursery's `start` would do the same with a nursery and a task more for each plugin.

    Args:
        count: the number of plugins.
    """

    def __init__(self, count: int) -> None:
        self._missing = count
        self.over = trio.Event()
        """Set when all plugins have started, or one has failed."""
        if not count:
            self.over.set()

    def of(self, host: Host) -> trio.TaskStatus[None]:
        """Make the status object that a host calls when it has started, or has failed to."""
        return _Start(self, host)

    def ended(self, host: Host) -> None:
        """Count a host that has started, or has failed to."""
        self._missing -= 1
        if host.start_failed or not self._missing:
            self.over.set()


@attrs.frozen
class _Start(trio.TaskStatus[None]):
    starts: Starts
    host: Host

    def started(self, value: None = None) -> None:
        self.starts.ended(self.host)
