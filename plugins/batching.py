"""Collects the points of many events and sends them to the bucket store in batches.

Shows two plugins that collaborate: an event plugin receives the points, and a background plugin
owns the batches. The event plugin `needs` the background plugin, which therefore stops after it.
Two plugins are worth while where several feed one. For batches of one plugin's own events, write
`async for batch in batched(self.inbox, …)`.
"""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio
from attrs.validators import ge, gt

from trivet import App, BackgroundPlugin, EventPlugin, MonitoringEvent, MonitoringPoint, route

from ._buckets import Bucket, open_bucket


class Batcher(BackgroundPlugin):
    """One object per batch, `{"points": [{"series": …, "time": …, "tags": …, "fields": …}, …]}`.

    If the store does not accept a batch in time, the batch is counted as failed and logged, and is
    not sent again.
    """

    url: str = "http://127.0.0.1:5020/1/buckets"
    """The URL of the store's buckets."""
    bucket: str = "plugin_test_batches"
    """The bucket for the batches; created at the start unless it exists."""
    size: int = attrs.field(default=100, validator=ge(1))
    """Points in a batch, at most."""
    within: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds after its first point in which a batch is sent, full or not."""
    timeout: float = attrs.field(default=2.0, validator=gt(0))
    """Seconds within which the store has to accept a batch."""

    _bucket: Bucket
    _batch: list[MonitoringPoint] = attrs.field(factory=list[MonitoringPoint])
    _batches_sent: int = 0
    _points_sent: int = 0
    _points_failed: int = 0

    def __init__(self, app: App) -> None:
        """Open the channel here: like an inbox, it survives restarts."""
        super().__init__(app)
        self._sink, self._source = trio.open_memory_channel[MonitoringPoint](10 * self.size)

    async def add(self, points: list[MonitoringPoint]) -> None:
        """Add points to the next batch. If ten batches wait already, the caller waits too."""
        for point in points:
            await self._sink.send(point)

    @route("/batches")
    async def totals(self) -> dict[str, int]:
        """Answer with counts of batches and points since the program started."""
        return {
            "batches_sent": self._batches_sent,
            "points_sent": self._points_sent,
            "points_failed": self._points_failed,
            "points_waiting": self._waiting(),
        }

    async def initialize(self) -> None:
        """Create the bucket. If that fails, the start fails."""
        self._bucket = await self.enter(open_bucket(self.url, self.bucket))

    async def run(self) -> None:
        """Fill a batch, send it, and repeat."""
        while True:
            await self._fill()
            # A stop waits for this: nobody knows whether a cancelled request was stored.
            with trio.CancelScope(shield=True):
                await self._flush()

    async def close(self) -> None:
        """Send the remaining points. Plugins that add points `need` this one, and have stopped."""
        try:
            while self._waiting():
                self._take()
                await self._flush()
        finally:
            if left := self._waiting():
                self.log.error("points are left over", count=left)

    def _waiting(self) -> int:
        return len(self._batch) + self._source.statistics().current_buffer_used

    async def _fill(self) -> None:
        """Wait until the batch is full or old enough."""
        if not self._batch:
            self._batch.append(await self._source.receive())
        with trio.move_on_after(self.within):
            while len(self._batch) < self.size:
                self._batch.append(await self._source.receive())

    def _take(self) -> None:
        """Fill the batch with points that wait already."""
        with suppress(trio.WouldBlock):
            while len(self._batch) < self.size:
                self._batch.append(self._source.receive_nowait())

    async def _flush(self) -> None:
        """Send the batch, or give it up. If `close` is cancelled here, the batch is kept."""
        try:
            with trio.fail_after(self.timeout):
                await self._bucket.put({"points": self._batch})
        except Exception:
            self.log.exception("batch failed", points=len(self._batch))
            self._points_failed += len(self._batch)
        else:
            self._batches_sent += 1
            self._points_sent += len(self._batch)
        self._batch.clear()


class Batching(EventPlugin[MonitoringEvent]):
    """Passes the points of every monitoring event to the batcher.

    An event counts as handled when the batcher has its points; `GET /batches` tells what happened
    to the points. While the batcher is full, events wait in this plugin's inbox, whose overflow
    policy applies.
    """

    needs = (Batcher,)

    async def handle_event(self, event: MonitoringEvent) -> None:
        """Pass the points on."""
        await self.app.get(Batcher).add(event.points)
