"""When each stage of a stop is over.

Owns the deadlines of a stop, all of them known the moment it begins.
Never knows what is stopped; hosts and the server ask for their deadline.
"""

from __future__ import annotations

import attrs

from .._program._settings import ShutdownSettings


@attrs.frozen
class StopPlan:
    """The deadlines of one stop, on Trio's clock.

    They are limits, not waits: a stop in which nothing hangs takes as long as the work left.

    >>> plan = StopPlan(begun=100.0, levels=2, settings=ShutdownSettings())
    >>> plan.requests_until, plan.drain_until, plan.close_until(0), plan.close_until(1)
    (105.0, 117.0, 120.0, 123.0)
    """

    begun: float
    """When the stop began."""
    levels: int
    """How many levels of plugins are stopped one after the other."""
    settings: ShutdownSettings

    @property
    def requests_until(self) -> float:
        """Requests that are being answered may take until then."""
        return self.begun + self.settings.requests

    @property
    def drain_until(self) -> float:
        """Inboxes may be finished until then."""
        return self.requests_until + self.settings.drain

    def hurried(self, now: float) -> StopPlan:
        """The same stop without any more requests and draining, as if it had begun so long ago."""
        return attrs.evolve(self, begun=min(self.begun, now - self.drain_until + self.begun))

    def close_until(self, level: int) -> float:
        """The plugins of this level may take until then to close; the first to stop is level 0.

        Each level has its share of the time, so that a plugin that hangs cannot use up what the
        plugins that it needs have for themselves.
        """
        return self.drain_until + self.settings.close * (level + 1) / max(self.levels, 1)
