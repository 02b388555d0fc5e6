"""Sends what handlers generated to the bucket store, as a third party.

Shows the second of LUNA's two kinds of event, and code that two plugins share.
"""

from __future__ import annotations

from trivet import EventSendingPlugin, SendingEvent

from ._buckets import Bucket, open_bucket


class EventSending(EventSendingPlugin):
    """One object per event, in the shape that LUNA's third parties know."""

    url: str = "http://127.0.0.1:5020/1/buckets"
    """Where the store's buckets are."""
    bucket: str = "plugin_test_bucket"
    """The bucket for the events; made at the start, unless it exists."""

    _bucket: Bucket

    async def initialize(self) -> None:
        """Create the bucket. Where that fails, so does the start."""
        self._bucket = await self.enter(open_bucket(self.url, self.bucket))

    async def send_events(self, event: SendingEvent) -> None:
        """Send everything that one request generated, as one object."""
        await self._bucket.put(
            {
                "handler_id": event.handler_id,
                "account_id": event.account_id,
                "Luna-Request-Id": event.request_id,
                "events": event.events,
                "event_create_time": event.create_event_time,
                "event_end_time": event.end_event_time,
            }
        )
