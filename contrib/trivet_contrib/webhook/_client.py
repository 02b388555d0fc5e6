"""CloudEvents to one URL.

Owns the documents' form (CloudEvents 1.0 as JSON, one or a batch) and the connections.
Never knows Trivet, nor which answers are good ones.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from time import time as wall_time

import attrs
import httpcore
import httpx
import msgspec
from msgspec import UNSET, UnsetType

from .._retry_after import retry_after
from ._addresses import CheckedBackend, Network
from ._signature import message_id, signed_headers

ONE = "application/cloudevents+json"
MANY = "application/cloudevents-batch+json"


@attrs.frozen(kw_only=True)
class CloudEvent:
    """The document. The attributes' meanings are those of the CloudEvents specification."""

    id: str
    source: str
    type: str
    time: datetime
    data: object
    """Whatever msgspec can encode as JSON."""
    partitionkey: str | UnsetType = UNSET
    traceparent: str | UnsetType = UNSET
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


@attrs.frozen
class Answer:
    """What the receiver said."""

    status: int
    """The HTTP status."""
    retry_after: float | None
    """Seconds after which it wants to be asked again, if it said so."""


@attrs.frozen
class WebhookClient:
    """Posts documents to one URL, over connections that are kept alive between them."""

    http: httpx.AsyncClient
    url: str = attrs.field(repr=False)
    keys: Sequence[bytes] = attrs.field(default=(), repr=False)
    """With which to sign."""

    async def post(self, event: CloudEvent) -> Answer:
        """Post one document; see `post_batch`."""
        return await self._post(msgspec.json.encode(event), ONE, message_id(event.id))

    async def post_batch(self, events: Sequence[CloudEvent]) -> Answer:
        """Post several as one document. No limit is in here: an answer may drip for ever.

        Raises:
            httpx.HTTPError: there was no answer.
            AddressRefusedError: the URL's host is at no address that may be connected to.
        """
        parts = [part for event in events for part in (event.source, event.id)]
        return await self._post(msgspec.json.encode(events), MANY, message_id(*parts))

    async def _post(self, body: bytes, content_type: str, id: str) -> Answer:
        headers = {"Content-Type": content_type}
        if self.keys:
            headers |= signed_headers(self.keys, id, int(wall_time()), body)
        async with self.http.stream("POST", self.url, content=body, headers=headers) as answer:
            async for _ in answer.aiter_raw():
                pass  # Its end is waited for, so that the connection is free; nothing is kept.
        return Answer(answer.status_code, retry_after(answer.headers))


class _CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's own, over connections to addresses that were checked."""

    def __init__(self, trust: ssl.SSLContext, allowed: Iterable[Network]) -> None:
        super().__init__(verify=trust)
        # httpx hands no network backend on; the tests would see it if this were not heeded.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust, keepalive_expiry=5.0, network_backend=CheckedBackend(allowed)
        )


@asynccontextmanager
async def open_client(
    url: str,
    *,
    headers: Mapping[str, str],
    keys: Sequence[bytes] = (),
    allowed: Iterable[Network] = (),
    ca_file: Path | None = None,
) -> AsyncGenerator[WebhookClient]:
    """Make a client, whose connections are closed in the end.

    It follows no redirect, and heeds no proxy or password of the environment: events go where the
    settings say, or nowhere.

    Args:
        url: where to post.
        headers: to send with each document.
        keys: with which to sign each document.
        allowed: networks that may be connected to although they are not public.
        ca_file: authorities to trust instead of the usual, as PEM.
    """
    if ca_file is None:
        trust = httpx.create_ssl_context(trust_env=False)
    else:
        trust = ssl.create_default_context(cafile=ca_file)
    async with httpx.AsyncClient(
        headers=dict(headers),
        timeout=httpx.Timeout(None),  # The caller's bound is on the whole, not on each step.
        transport=_CheckedTransport(trust, allowed),
        trust_env=False,
        follow_redirects=False,
    ) as http:
        yield WebhookClient(http, url, keys)
