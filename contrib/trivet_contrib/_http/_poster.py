"""Requests to one URL, one after the other: what they have in common is prepared once.

Owns the requests, the options that all of them have, and their time limit.
Never knows Trivet, nor what is sent, nor the meaning of an answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

import attrs
import httpx
import trio

from ._answers import Answer, basic_credentials, reason_in, retry_after

LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer that is read as a reason; a longer answer is none."""


@attrs.frozen
class Poster:
    """Posts bodies to one URL, over connections that are kept alive between them.

    The transport has the requests as they are. A client around it would follow redirects, keep
    cookies, read the environment and log each URL, of which nothing is wanted here, and which costs
    as much as eight requests take to be made.
    """

    url: httpx.URL = attrs.field(repr=False)
    timeout: float
    """Seconds for one request and its answer."""
    _transport: httpx.AsyncBaseTransport
    _headers: list[tuple[bytes, bytes]] = attrs.field(repr=False)
    """The headers of every request."""

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post a body, and read the answer to its end, so that the connection is free again.

        With its status the answer is known; the reason may be cut off by the time limit.

        Args:
            body: the body.
            headers: the headers of this request alone, in ASCII.

        Raises:
            httpx.HTTPError: there was no answer.
            trio.TooSlowError: there was no answer within `timeout`.
        """
        own = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        request = httpx.Request("POST", self.url, headers=self._headers + own, content=body)
        until = trio.current_time() + self.timeout
        with trio.fail_at(until):
            response = await self._transport.handle_async_request(request)
        answer = b""
        try:
            with trio.move_on_at(until), suppress(httpx.HTTPError):
                async for chunk in response.aiter_raw():
                    answer = (answer + chunk)[: LONGEST_ANSWER + 1]
        finally:
            await response.aclose()
        has_reason = not response.is_success and len(answer) <= LONGEST_ANSWER
        reason = reason_in(answer) if has_reason else ""
        return Answer(response.status_code, reason, retry_after(response.headers))


@asynccontextmanager
async def open_poster(
    transport: httpx.AsyncBaseTransport,
    url: httpx.URL,
    *,
    timeout: float,  # noqa: ASYNC109 - of each request
    headers: Mapping[str, str],
    login: tuple[str, str] | None = None,
) -> AsyncGenerator[Poster]:
    """A poster whose connections end with the block.

    Args:
        transport: makes the connections.
        url: the URL to post to.
        timeout: seconds for one request and its answer.
        headers: headers of every request.
        login: a name and a password; by default those in the URL, if any.
    """
    username, password = login or (url.username, url.password)
    made = httpx.Headers(
        {
            "Host": url.netloc.decode("ascii"),
            "Accept": "*/*",
            "Accept-Encoding": "identity",  # Reasons are short, and are read as they come.
            "Connection": "keep-alive",
            "User-Agent": f"python-httpx/{httpx.__version__}",
        }
    )
    made.update(headers)
    if username or password:
        made["Authorization"] = f"Basic {basic_credentials(username, password)}"
    async with transport:
        yield Poster(url, timeout, transport, made.raw)
