"""InfluxDB's write API, in version 2 and in version 1.

Owns the requests and the connections.
Never knows Trivet, nor which statuses mean success.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import httpx

from .._http._answers import Answer, ssl_context
from .._http._poster import Poster, open_poster
from .._turns import off_loop
from ._lines import Point, to_lines


@attrs.frozen(kw_only=True)
class Target:
    """The place that points are written to, and the credentials for it."""

    path: str
    """The path of the write API, below the server's URL."""
    parameters: Mapping[str, str]
    """The parameters of the query."""
    authorization: str | None = attrs.field(default=None, repr=False)
    """The value of the header `Authorization`."""
    login: tuple[str, str] | None = attrs.field(default=None, repr=False)
    """The name and password of a user, instead of a token."""


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
    login = (username, password or "") if username else None  # In a header: logs show URLs.
    return Target(path="/write", parameters=parameters, login=login)


@attrs.frozen
class InfluxClient:
    """Writes points, over connections that are kept alive between requests."""

    poster: Poster
    tags: Mapping[str, str]
    compressed: bool

    def lines_of(self, points: Iterable[Point]) -> bytes:
        """Points in line protocol.

        Raises:
            PointError: one of the points cannot be written.
        """
        return to_lines(points, self.tags)

    async def write(self, body: bytes) -> Answer:
        """Write points in one request.

        Args:
            body: the lines of the points. Without lines InfluxDB checks the credentials alone.

        Raises:
            httpx.HTTPError: there was no answer.
            trio.TooSlowError: there was no answer within `timeout`.
        """
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self.compressed and body:
            headers["Content-Encoding"] = "gzip"
            # Lines are repetitive: level 1 will do.
            body = await off_loop(len(body), partial(gzip.compress, body, 1, mtime=0))
        return await self.poster.post(body, headers)


@asynccontextmanager
async def open_client(
    url: str,
    target: Target,
    *,
    timeout: float,  # noqa: ASYNC109 - of each request
    tags: Mapping[str, str],
    compressed: bool,
    ca_file: Path | None = None,
) -> AsyncGenerator[InfluxClient]:
    """A client whose connections end with the block.

    Args:
        url: the URL of the server.
        target: the bucket or database to write to.
        timeout: seconds for one request.
        tags: tags of each point.
        compressed: whether requests are compressed.
        ca_file: a PEM file of authorities to trust instead of the usual ones.
    """
    place = httpx.URL(f"{url.rstrip('/')}{target.path}", params=dict(target.parameters))
    transport = httpx.AsyncHTTPTransport(verify=ssl_context(ca_file), limits=httpx.Limits())
    token = target.authorization
    opened = open_poster(
        transport,
        place,
        timeout=timeout,
        headers={} if token is None else {"Authorization": token},
        login=target.login,
    )
    async with opened as poster:
        yield InfluxClient(poster, tags, compressed)
