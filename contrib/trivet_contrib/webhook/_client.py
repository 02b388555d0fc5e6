"""CloudEvents to one URL.

Owns the requests (one document, or an array of them), their signatures, and the connections.
Never knows Trivet, the content of a document, nor which statuses mean success.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from time import time as wall_time

import attrs
import httpcore
import httpx

from .._http._answers import Answer, ssl_context
from .._http._poster import Poster, open_poster
from .._turns import off_loop
from ._addresses import CheckedBackend, Network
from ._library import CheckedTransport
from ._signature import message_id, signed_headers

DOCUMENT_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"


@attrs.frozen
class WebhookClient:
    """Posts documents to one URL, over connections that are kept alive between them."""

    poster: Poster
    backend: CheckedBackend
    keys: Sequence[bytes] = attrs.field(default=(), repr=False)
    """The keys to sign with."""

    @property
    def url(self) -> httpx.URL:
        """The URL to post to."""
        return self.poster.url

    async def check(self) -> None:
        """Look up the URL's host. A name that is unknown now may be known later.

        Raises:
            AddressRefusedError: the host has no address that may be connected to.
        """
        with suppress(httpcore.ConnectError):
            await self.backend.check(self.url.host, self.url.port or 0)

    async def post(
        self, document: bytes, identity: Iterable[str], traceparent: str | None = None
    ) -> Answer:
        """Post one document.

        Args:
            document: a CloudEvent as JSON.
            identity: texts that together identify the document, for its signature.
            traceparent: the W3C trace context of its event; none by default.

        Raises:
            httpx.HTTPError: there was no answer.
            trio.TooSlowError: there was no answer within `timeout`.
            AddressRefusedError: the URL's host has no address that may be connected to.
        """
        return await self._post([document], DOCUMENT_TYPE, identity, traceparent)

    async def post_batch(self, documents: Sequence[bytes], identity: Iterable[str]) -> Answer:
        """Post documents in an array, even a single one; see `post`."""
        return await self._post(documents, BATCH_TYPE, identity)

    async def _post(
        self,
        documents: Sequence[bytes],
        content_type: str,
        identity: Iterable[str],
        traceparent: str | None = None,
    ) -> Answer:
        size = sum(map(len, documents))
        work = partial(self._sealed, documents, content_type, identity)
        body, headers = await off_loop(size, work)
        if traceparent is not None:
            headers["traceparent"] = traceparent
        return await self.poster.post(body, headers)

    def _sealed(
        self, documents: Sequence[bytes], content_type: str, identity: Iterable[str]
    ) -> tuple[bytes, dict[str, str]]:
        """The body of a request, and its headers with the signature."""
        is_batch = content_type == BATCH_TYPE
        body = b"[%b]" % b",".join(documents) if is_batch else documents[0]
        headers = {"Content-Type": content_type}
        if self.keys:
            signed_id = message_id(*identity)
            headers |= signed_headers(self.keys, signed_id, int(wall_time()), body)
        return body, headers


@asynccontextmanager
async def open_client(
    url: str,
    *,
    timeout: float,  # noqa: ASYNC109 - of each request
    headers: Mapping[str, str],
    keys: Sequence[bytes] = (),
    allowed: Iterable[Network] = (),
    ca_file: Path | None = None,
) -> AsyncGenerator[WebhookClient]:
    """A client whose connections end with the block.

    Args:
        url: the URL to post to.
        timeout: seconds for one request.
        headers: headers to send with each document.
        keys: keys to sign each document with.
        allowed: networks that may be connected to although they are not public.
        ca_file: a PEM file of authorities to trust instead of the usual ones.
    """
    backend = CheckedBackend(allowed)
    transport = CheckedTransport(ssl_context(ca_file), backend)
    async with open_poster(transport, httpx.URL(url), timeout=timeout, headers=headers) as poster:
        yield WebhookClient(poster, backend, keys)
