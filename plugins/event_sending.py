"""Sends the events that handlers generated to the bucket store, as to a third party.

Shows the second of LUNA's two kinds of event, and code that two plugins share.
"""

from __future__ import annotations

from trivet import EventSendingPlugin, SendingEvent

from ._buckets import Bucket, open_bucket


class EventSending(EventSendingPlugin):
    """One object per event, in the form that LUNA's third parties receive."""

    url: str = "http://127.0.0.1:5020/1/buckets"
    """The URL of the store's buckets."""
    bucket: str = "plugin_test_bucket"
    """The bucket for the events; created at the start unless it exists."""

    _bucket: Bucket

    async def initialize(self) -> None:
        """Create the bucket. If that fails, the start fails."""
        self._bucket = await self.enter(open_bucket(self.url, self.bucket))

    async def send_events(self, event: SendingEvent) -> None:
        """Send all events that one request generated, as one object."""
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
