"""LUNA's example of an event sending plugin. What differs is names; the bodies are kept."""

from __future__ import annotations

from aiohttp import ClientSession

from trivet import App, AsyncioPlugin, EventSendingPlugin, SendingEvent


class EventSending(AsyncioPlugin, EventSendingPlugin):
    """Sends events to the third-party source. LUNA's times are text, ours are not."""

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

    async def send_events(self, event: SendingEvent) -> None:
        self.log.debug(
            f"Plugin 'EventsOnFinishExampleClass' get events, request_id: {event.request_id}, "
            f"event_create_time: {event.create_event_time}, event_end_time: {event.end_event_time}"
        )
        msg = {
            "handler_id": event.handler_id,
            "account_id": event.account_id,
            "Luna-Request-Id": event.request_id,
            "events": event.events,
            "event_create_time": str(event.create_event_time),
            "event_end_time": str(event.end_event_time),
        }
        async with ClientSession() as session:
            async with session.post(f"{self.url}/{self.bucket}/objects", json=msg) as resp:
                self.log.debug(str(resp.status))
                self.log.debug(await resp.text())
