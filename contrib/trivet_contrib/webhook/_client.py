"""CloudEvents to one URL.

Owns the requests (one document, or an array of them), their signatures, and the connections.
Never knows Trivet, what is in a document, nor which answers are good ones.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import time as wall_time

import attrs
import httpcore
import httpx

from .._http._answers import Answer, ask, new_client, trust_in
from ._addresses import CheckedBackend, Network
from ._signature import message_id, signed_headers

ONE = "application/cloudevents+json"
MANY = "application/cloudevents-batch+json"


@attrs.frozen
class WebhookClient:
    """Posts documents to one URL, over connections that are kept alive between them."""

    http: httpx.AsyncClient
    url: httpx.URL = attrs.field(converter=httpx.URL, repr=False)
    backend: CheckedBackend
    timeout: float
    """Seconds for one request."""
    keys: Sequence[bytes] = attrs.field(default=(), repr=False)
    """With which to sign."""

    async def check(self) -> None:
        """Look up the URL's host. One whose name is not known may be so later.

        Raises:
            AddressRefusedError: it is at no address that may be connected to.
        """
        with suppress(httpcore.ConnectError):
            await self.backend.check(self.url.host, self.url.port or 0)

    async def post(self, document: bytes, known_by: Iterable[str]) -> Answer:
        """Post one document.

        Args:
            document: a CloudEvent as JSON.
            known_by: what nothing else has in common with what is posted, for its signature.

        Raises:
            httpx.HTTPError: there was no answer.
            trio.TooSlowError: nor any within `timeout`.
            AddressRefusedError: the URL's host is at no address that may be connected to.
        """
        return await self._post(document, ONE, known_by)

    async def post_batch(self, documents: Sequence[bytes], known_by: Iterable[str]) -> Answer:
        """Post several in an array, were it of one; see `post`."""
        return await self._post(b"[%b]" % b",".join(documents), MANY, known_by)

    async def _post(self, body: bytes, content_type: str, known_by: Iterable[str]) -> Answer:
        headers = {"Content-Type": content_type}
        if self.keys:
            known_as = message_id(*known_by)
            headers |= signed_headers(self.keys, known_as, int(wall_time()), body)
        request = self.http.build_request("POST", self.url, content=body, headers=headers)
        return await ask(self.http, request, self.timeout)


class _CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's own, over connections to addresses that were checked."""

    def __init__(self, trust: ssl.SSLContext, backend: CheckedBackend) -> None:
        super().__init__(verify=trust)
        # httpx hands no network backend on; the tests would see it if this were not heeded.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust,
            max_connections=None,  # As many as there are handlers.
            keepalive_expiry=5.0,
            network_backend=backend,
        )


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
    """Make a client, whose connections are closed in the end.

    Args:
        url: where to post.
        timeout: seconds for one request.
        headers: to send with each document.
        keys: with which to sign each document.
        allowed: networks that may be connected to although they are not public.
        ca_file: authorities to trust instead of the usual, as PEM.
    """
    backend = CheckedBackend(allowed)
    async with new_client(_CheckedTransport(trust_in(ca_file), backend)) as http:
        http.headers.update(headers)
        yield WebhookClient(http, url, backend, timeout, keys)
