"""The webhook as a plugin: every event that it gets becomes a CloudEvent.

Owns the settings, and what counts as taken.
Never knows bytes and connections; those are the client's.
"""

from __future__ import annotations

import attrs
import httpx
import trio
from attrs.validators import gt
from msgspec import UNSET

from trivet import Event, EventPlugin, TrivetError, current_delivery

from ._client import CloudEvent, WebhookClient, open_client


class WebhookError(TrivetError):
    """The receiver did not take an event."""


def _is_http_url(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("an http or https URL is needed, such as 'https://example.org/events'")


class Webhook(EventPlugin[Event]):
    """Posts each event to a URL; an answer outside 200 to 299, or none in time, fails the event.

    It listens to every type of event: `events` in `[plugins.webhook.delivery]` chooses among them.
    """

    url: str = attrs.field(validator=_is_http_url)
    """Where to post. It may hold a secret, so it stands in no message."""
    headers: dict[str, str] = attrs.field(factory=dict[str, str])
    """Headers to send with each event, such as `Authorization`."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one event, from the connection to the end of the answer."""

    _client: WebhookClient

    async def initialize(self) -> None:
        """Make the client. Nothing is posted, so a receiver may start later than this."""
        self._client = await self.enter(open_client(self.url, headers=self.headers))

    async def handle_event(self, event: Event) -> None:
        """Post the event, once.

        Raises:
            WebhookError: the receiver did not take it.
        """
        try:
            with trio.fail_after(self.timeout):
                status = await self._client.post(self._document(event))
        except trio.TooSlowError:
            raise WebhookError(f"no answer within {self.timeout:g} s") from None
        except httpx.HTTPError as error:
            raise WebhookError(f"no answer: {type(error).__name__}: {error}") from error
        if not httpx.codes.is_success(status):
            raise WebhookError(f"the receiver answered {status}")

    def _document(self, event: Event) -> CloudEvent:
        delivery = current_delivery()
        return CloudEvent(
            id=delivery.id,
            source=delivery.source,
            type=event.__event_name__,
            time=delivery.time,
            data=event,
            partitionkey=UNSET if delivery.key is None else delivery.key,
            traceparent=UNSET if delivery.traceparent is None else delivery.traceparent,
        )
