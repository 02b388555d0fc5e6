"""The webhook as a plugin: every event that it gets becomes a CloudEvent.

Owns the settings, and what an answer means for an event.
Never knows bytes and connections; those are the client's.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import attrs
import httpx
import trio
from attrs.validators import deep_iterable, gt
from msgspec import UNSET

from trivet import (
    Batch,
    BatchPlugin,
    Delivery,
    DeliverySettings,
    Event,
    PermanentError,
    RetryAfter,
    TrivetError,
    current_delivery,
)

from ._addresses import AddressRefusedError
from ._client import Answer, CloudEvent, WebhookClient, open_client
from ._signature import secret_key


class WebhookError(TrivetError):
    """The receiver did not take an event, and may take it another time."""


class WebhookRefusedError(WebhookError, PermanentError):
    """The receiver will not take an event, however often it is posted."""


def _is_http_url(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("an http or https URL is needed, such as 'https://example.org/events'")


def _are_headers(
    _plugin: object, _field: attrs.Attribute[dict[str, str]], value: dict[str, str]
) -> None:
    for name, text in value.items():
        # What the server would refuse, and what would say the value in the refusal.
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError("a header's name has letters, digits and '-' only")
        if not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", text):
            raise ValueError(f"the value of {name!r} cannot stand in a header")


def _is_secret(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    secret_key(value)


def _is_network(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    ip_network(value)


class Webhook(BatchPlugin[Event]):
    """Posts each event to a URL, or batches of them.

    It listens to every type of event: `events` in `[plugins.webhook.delivery]` chooses among them.
    """

    delivery = DeliverySettings(time_limit=0)  # `timeout` is the limit.

    url: str = attrs.field(validator=_is_http_url, repr=False)
    """Where to post. It may hold a secret, so it stands in no message."""
    headers: dict[str, str] = attrs.field(
        factory=dict[str, str], validator=_are_headers, repr=False
    )
    """Headers to send with each request, such as `Authorization`."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one request, from the connection to the end of the answer."""
    secrets: list[str] = attrs.field(
        factory=list[str], validator=deep_iterable(_is_secret), repr=False
    )
    """With which requests are signed, after Standard Webhooks; while they are changed, the new one
    and the old one."""
    batched: bool = False
    """Whether a request holds a batch of events, always as an array; else it holds one event."""
    allowed_networks: list[str] = attrs.field(
        factory=list[str], validator=deep_iterable(_is_network)
    )
    """Networks, as `"10.1.0.0/16"`, that may be posted to although they are not public."""
    ca_file: Path | None = None
    """Certificates of the authorities to trust instead of the usual ones, as PEM."""

    _client: WebhookClient

    async def initialize(self) -> None:
        """Make the client. Nothing is posted, so a receiver may start later than this."""
        opened = open_client(
            self.url,
            headers=self.headers,
            keys=[secret_key(secret) for secret in self.secrets],
            allowed=[ip_network(network) for network in self.allowed_networks],
            ca_file=self.ca_file,
        )
        self._client = await self.enter(opened)

    async def run(self) -> None:
        """Post what comes, one by one or in batches."""
        if self.batched:
            await super().run()  # As a BatchPlugin does.
        else:
            await super(BatchPlugin, self).run()  # As an EventPlugin does.

    async def handle_event(self, event: Event) -> None:
        """Post one event.

        Raises:
            WebhookError: the receiver did not take it.
            RetryAfter: the same, and it said when it may.
        """
        document = _document(current_delivery())
        await self._post(lambda: self._client.post(document))

    async def handle_batch(self, events: Batch[Event]) -> None:
        """Post several events as one request: all of them are taken, or none.

        Raises:
            WebhookError: the receiver did not take them.
            RetryAfter: the same, and it said when it may.
        """
        documents = [_document(delivery) for delivery in events.deliveries]
        await self._post(lambda: self._client.post_batch(documents))

    async def _post(self, post: Callable[[], Awaitable[Answer]]) -> None:
        try:
            with trio.fail_after(self.timeout):
                answer = await post()
        except trio.TooSlowError:
            error: WebhookError = WebhookError(f"no answer within {self.timeout:g} s")
            self.degrade(str(error))
            raise error from None
        except httpx.HTTPError as cause:
            error = WebhookError(f"no answer: {type(cause).__name__}: {cause}")
            self.degrade(str(error))
            raise error from cause
        except AddressRefusedError as cause:
            error = WebhookRefusedError(f"{cause}, and not within `allowed_networks`")
            self.degrade(str(error))
            raise error from None
        if 200 <= answer.status <= 299:
            self.recover()
            return
        if answer.status not in _ABOUT_THE_EVENT:
            self.degrade(f"the receiver answered {answer.status}")
        raise _fault_of(answer)


_ABOUT_THE_EVENT = (400, 406, 409, 413, 415, 422)
"""Answers that say something about one event, and nothing about how the receiver is."""
_WORTH_ANOTHER_TRY = (408, 409, 423, 425, 429)
"""Answers below 500 that may be others another time."""


def _fault_of(answer: Answer) -> Exception:
    """What to raise for an answer that does not say that the event was taken."""
    said = f"the receiver answered {answer.status}"
    if answer.status < 500 and answer.status not in _WORTH_ANOTHER_TRY:
        return WebhookRefusedError(said)
    if answer.retry_after is not None:
        return RetryAfter(answer.retry_after, said)
    return WebhookError(said)


def _document(delivery: Delivery[Event]) -> CloudEvent:
    return CloudEvent(
        id=delivery.id,
        source=delivery.source,
        type=delivery.event.__event_name__,
        time=delivery.time,
        data=delivery.event,
        partitionkey=UNSET if delivery.key is None else delivery.key,
        traceparent=UNSET if delivery.traceparent is None else delivery.traceparent,
    )
