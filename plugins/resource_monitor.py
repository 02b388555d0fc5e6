"""Publishes what the process itself uses, as monitoring points.

Shows a background plugin that publishes: its points go to whoever listens to monitoring events,
beside those of the requests.
"""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import psutil
import trio
from attrs.validators import gt

from trivet import BackgroundPlugin, MonitoringEvent, MonitoringPoint

TICK = 0.1
"""Seconds between two looks at how late the event loop is."""


class ResourceMonitor(BackgroundPlugin):
    """One point of the series `resources` each `interval`."""

    interval: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds between two points."""

    async def run(self) -> None:
        """Watch the loop for an interval, publish, and again."""
        process = psutil.Process()
        process.cpu_percent()  # The first call is 0.0 by definition: it begins the first interval.
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
    """Sleep for `interval` seconds in ticks; return by how many seconds the latest was late."""
    worst = 0.0
    due = trio.current_time()
    end = due + interval
    while due < end:
        due = min(trio.current_time() + TICK, end)
        await trio.sleep_until(due)
        worst = max(worst, trio.current_time() - due)
    return worst
