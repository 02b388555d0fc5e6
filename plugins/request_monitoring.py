"""Sends the points of every request to the bucket store.

Shows an event plugin: settings, a client that lives as long as the plugin, and a callback.
LUNA's example sends the first point of an event and drops the others. This one sends all.
"""

from __future__ import annotations

from trivet import MonitoringPlugin, MonitoringPoint

from ._buckets import Bucket, open_bucket


class RequestMonitoring(MonitoringPlugin):
    """One object per point, `{"tags": …, "fields": …}`.

    If the store refuses a point, that event has failed. Points that were sent before stay sent.
    """

    url: str = "http://127.0.0.1:5020/1/buckets"
    """The URL of the store's buckets."""
    bucket: str = "plugin_test_bucket"
    """The bucket for the points; created at the start unless it exists."""

    _bucket: Bucket

    async def initialize(self) -> None:
        """Create the bucket. If that fails, the start fails."""
        self._bucket = await self.enter(open_bucket(self.url, self.bucket))

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        """Send each point."""
        for point in points:
            await self._bucket.put({"tags": point.tags, "fields": point.fields})
