"""InfluxDB's write API: that of version 2, and that of version 1.

Owns the requests and the connections.
Never knows Trivet, nor which answers are good ones.
"""

from __future__ import annotations

import gzip
import re
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx
import msgspec

from .._retry_after import retry_after
from ._lines import Point, to_lines

LONGEST_REASON = 300
"""Characters of what the server says, at most."""
_LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are kept, to look for the reason."""


@attrs.frozen(kw_only=True)
class Target:
    """Where points go, and who brings them."""

    path: str
    """Of the write API, below the server's URL."""
    parameters: Mapping[str, str]
    """Of the query."""
    authorization: str | None = attrs.field(default=None, repr=False)
    """The header's value."""
    login: tuple[str, str] | None = attrs.field(default=None, repr=False)
    """A user's name and password, otherwise."""


def version_2(bucket: str, *, org: str | None, token: str | None) -> Target:
    """A bucket, by the API of version 2, which version 3 has too."""
    parameters = {"bucket": bucket, "precision": "ns"} | ({"org": org} if org else {})
    authorization = f"Token {token}" if token else None
    return Target(path="/api/v2/write", parameters=parameters, authorization=authorization)


def version_1(
    database: str, *, retention_policy: str | None, username: str | None, password: str | None
) -> Target:
    """A database, by the API of version 1."""
    parameters = {"db": database, "precision": "ns"}
    if retention_policy:
        parameters["rp"] = retention_policy
    login = (username, password or "") if username else None  # In a header: a URL is in logs.
    return Target(path="/write", parameters=parameters, login=login)


@attrs.frozen
class Answer:
    """What InfluxDB said."""

    status: int
    """The HTTP status."""
    reason: str
    """In its own words, in one line; it may be empty."""
    retry_after: float | None
    """Seconds after which it wants to be asked again, if it said so."""


@attrs.frozen
class InfluxClient:
    """Writes points, over connections that are kept alive between requests."""

    http: httpx.AsyncClient
    target: Target
    tags: Mapping[str, str]
    compressed: bool

    async def write(self, points: Iterable[Point]) -> Answer:
        """Write some points in one request. There is no time limit in here.

        Raises:
            PointError: one of them cannot be written.
            httpx.HTTPError: there was no answer.
        """
        body = to_lines(points, self.tags)
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self.target.authorization is not None:
            headers["Authorization"] = self.target.authorization
        if self.compressed:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, 1, mtime=0)  # Lines repeat themselves: more costs only time.
        request = self.http.build_request(
            "POST",
            self.target.path,
            params=dict(self.target.parameters),
            content=body,
            headers=headers,
        )
        login = httpx.USE_CLIENT_DEFAULT if self.target.login is None else self.target.login
        answer = await self.http.send(request, auth=login, stream=True)
        try:
            said = b""
            async for chunk in answer.aiter_raw():
                said += chunk[: _LONGEST_ANSWER - len(said)]
        finally:
            await answer.aclose()
        return Answer(answer.status_code, _reason(said), retry_after(answer.headers))


def _reason(body: bytes) -> str:
    """What version 2 calls the message, and version 1 the error; otherwise all of it."""
    try:
        document: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        document = body.decode("utf-8", "replace")
    match document:
        case {"message": str(text)} | {"error": str(text)} | str(text):
            pass
        case _:
            text = ""
    return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+", " ", text).strip()[:LONGEST_REASON]


@asynccontextmanager
async def open_client(
    url: str,
    target: Target,
    *,
    tags: Mapping[str, str],
    compressed: bool,
    ca_file: Path | None = None,
) -> AsyncGenerator[InfluxClient]:
    """Make a client, whose connections are closed in the end.

    It follows no redirect, and heeds no proxy or password of the environment.

    Args:
        url: of the server.
        target: what to write into.
        tags: of each point.
        compressed: whether requests are compressed.
        ca_file: authorities to trust instead of the usual, as PEM.
    """
    if ca_file is None:
        trust = httpx.create_ssl_context(trust_env=False)
    else:
        trust = ssl.create_default_context(cafile=ca_file)
    async with httpx.AsyncClient(
        base_url=url,
        timeout=httpx.Timeout(None),  # The caller's bound is on the whole, not on each step.
        verify=trust,
        trust_env=False,
        follow_redirects=False,
    ) as http:
        yield InfluxClient(http, target, tags, compressed)
