"""The deadlines of a stop, one for each stage.

Owns the deadlines, all of them known the moment the stop begins.
Never knows what is stopped; hosts and the server ask for their deadline.
"""

from __future__ import annotations

import attrs

from .._program._settings import ShutdownSettings


@attrs.frozen
class StopPlan:
    """The deadlines of one stop, on Trio's clock.

    Deadlines are limits, not waits: a stop in which nothing hangs takes as long as its work.

    >>> plan = StopPlan(begun=100.0, levels=2, settings=ShutdownSettings())
    >>> plan.requests_until, plan.drain_until, plan.close_until(0), plan.close_until(1)
    (105.0, 117.0, 120.0, 123.0)
    """

    begun: float
    """The moment at which the stop began, in seconds."""
    levels: int
    """The number of levels of plugins, which stop one after the other."""
    settings: ShutdownSettings

    @property
    def requests_until(self) -> float:
        """The deadline of requests that are being answered."""
        return self.begun + self.settings.requests

    @property
    def drain_until(self) -> float:
        """The deadline of the inboxes."""
        return self.requests_until + self.settings.drain

    def hurried(self, now: float) -> StopPlan:
        """The same stop without further time for requests and inboxes, as if begun earlier."""
        return attrs.evolve(self, begun=min(self.begun, now - self.drain_until + self.begun))

    def close_until(self, level: int) -> float:
        """The deadline for the plugins of this level to close; the first level to stop is 0.

        Each level has its share of the time, so that a plugin that hangs cannot use up the time of
        the plugins that it needs.
        """
        share = min((level + 1) / max(self.levels, 1), 1.0)  # A reload may have brought levels.
        return self.drain_until + self.settings.close * share
