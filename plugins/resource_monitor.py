"""Publishes the process's use of resources as monitoring points.

Shows a background plugin that publishes: its points reach every subscriber of monitoring events,
as the points of requests do.
"""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import psutil
import trio
from attrs.validators import gt

from trivet import BackgroundPlugin, MonitoringEvent, MonitoringPoint

TICK = 0.1
"""Seconds between two measurements of the event loop's lag."""


class ResourceMonitor(BackgroundPlugin):
    """One point of the series `resources` every `interval` seconds."""

    interval: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds between two points."""

    async def run(self) -> None:
        """Measure for an interval, publish, and repeat."""
        process = psutil.Process()
        process.cpu_percent()  # The first call returns 0.0 and begins the first interval.
        while True:
            lag = await worst_lag(self.interval)
            await self.app.publish(MonitoringEvent([self._point(process, lag)]))

    def _point(self, process: psutil.Process, lag: float) -> MonitoringPoint:
        # These read a few lines of /proc, a tenth of a millisecond: less than a thread would cost.
        with process.oneshot():
            return MonitoringPoint(
                series="resources",
                time=datetime.now(UTC),
                tags={"service": self.app.service},
                fields={
                    "cpu": process.cpu_percent(),  # percent of one core, over the interval
                    "memory": process.memory_info().rss,  # bytes
                    "open_files": process.num_fds(),  # sockets and pipes too, as `ulimit -n` counts
                    "loop_lag": lag,  # seconds
                },
            )


async def worst_lag(interval: float) -> float:
    """Sleep for `interval` seconds in ticks; return the longest delay of a tick in seconds."""
    worst = 0.0
    due = trio.current_time()
    end = due + interval
    while due < end:
        due = min(trio.current_time() + TICK, end)
        await trio.sleep_until(due)
        worst = max(worst, trio.current_time() - due)
    return worst
