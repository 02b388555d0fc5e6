"""One CloudEvent to one URL.

Owns the document's form (CloudEvents 1.0, structured mode, JSON) and the connections.
Never knows Trivet, nor which answers are good ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import attrs
import httpx
import msgspec
from msgspec import UNSET, UnsetType

CONTENT_TYPE = "application/cloudevents+json"


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
class WebhookClient:
    """Posts documents to one URL, over connections that are kept alive between them."""

    http: httpx.AsyncClient
    url: str

    async def post(self, event: CloudEvent) -> int:
        """Post one document. There is no time limit in here: an answer may drip for ever.

        Returns:
            The HTTP status of the answer.

        Raises:
            httpx.HTTPError: there was no answer.
        """
        answer = await self.http.post(self.url, content=msgspec.json.encode(event))
        return answer.status_code


@asynccontextmanager
async def open_client(url: str, *, headers: Mapping[str, str]) -> AsyncGenerator[WebhookClient]:
    """Make a client, whose connections are closed in the end.

    It follows no redirect, and heeds no proxy or password of the environment: events go where the
    settings say, or nowhere.

    Args:
        url: where to post.
        headers: to send with each document.
    """
    async with httpx.AsyncClient(
        headers={**headers, "Content-Type": CONTENT_TYPE},
        timeout=httpx.Timeout(None),  # The caller's bound is on the whole, not on each step.
        trust_env=False,
        follow_redirects=False,
    ) as http:
        yield WebhookClient(http, url)
