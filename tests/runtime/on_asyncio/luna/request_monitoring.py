"""LUNA's example of a monitoring plugin. What differs is names; the coroutines' bodies are kept."""

from __future__ import annotations

from aiohttp import ClientSession

from trivet import App, AsyncioPlugin, MonitoringPlugin, MonitoringPoint


class RequestMonitoringPlugin(AsyncioPlugin, MonitoringPlugin):
    """Sends a request's first point to a third party."""

    url: str = "http://127.0.0.1:5020/1/buckets"
    bucket: str = "plugin_test_bucket"

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.session: ClientSession | None = None

    async def close(self) -> None:
        if self.session:
            await self.session.close()

    async def initialize(self) -> None:
        self.session = ClientSession()
        async with self.session.post(f"{self.url}?bucket={self.bucket}") as resp:
            if resp.status not in (201, 409):
                response = await resp.json()
                raise RuntimeError(f"failed create bucket, {self.bucket}, response: {response}")

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        if not points:
            return
        assert self.session
        point = points[0]
        self.log.debug(
            f"Plugin 'flushPointToMonitoring' get point, request_id: {point.fields['request_id']}, "
            f"start time: {point.time}"
        )
        msg = {"tags": point.tags, "fields": point.fields}
        async with self.session.post(f"{self.url}/{self.bucket}/objects", json=msg) as resp:
            self.log.info(str(resp.status))
            self.log.info(await resp.text())
