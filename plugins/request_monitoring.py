"""Sends the points of every request to the bucket store.

Shows an event plugin: settings, a client for as long as the plugin lives, and a callback.
LUNA's example sends the first point of an event and drops the others. This one sends all.
"""

from __future__ import annotations

from trivet import MonitoringPlugin, MonitoringPoint

from ._buckets import Bucket, open_bucket


class RequestMonitoring(MonitoringPlugin):
    """One object per point, `{"tags": …, "fields": …}`.

    What the store refuses costs that one event. Points of it that were sent before stay sent.
    """

    url: str = "http://127.0.0.1:5020/1/buckets"
    """Where the store's buckets are."""
    bucket: str = "plugin_test_bucket"
    """The bucket for the points; made at the start, unless it exists."""

    _bucket: Bucket

    async def initialize(self) -> None:
        """Create the bucket. Where that fails, so does the start."""
        self._bucket = await self.enter(open_bucket(self.url, self.bucket))

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        """Send each point."""
        for point in points:
            await self._bucket.put({"tags": point.tags, "fields": point.fields})
