"""A bucket of the bucket store, seen by those who send to it.

Owns the store's HTTP interface. It has no plugin, so there is nothing in it to activate: the
plugins beside it import it, as any neighbour, with a relative import.
Never knows what the objects are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus

import attrs
import httpx
import msgspec


@attrs.frozen
class Bucket:
    """A bucket that exists."""

    client: httpx.AsyncClient
    objects: str
    """The URL to which objects are posted."""

    async def put(self, document: object) -> None:
        """Send one object, which is anything that msgspec can write as JSON.

        Raises:
            httpx.HTTPError: the store cannot be reached, or its answer is not a 2xx.
        """
        answer = await self.client.post(
            self.objects,
            content=msgspec.json.encode(document),
            headers={"Content-Type": "application/json"},
        )
        answer.raise_for_status()


@asynccontextmanager
async def open_bucket(url: str, name: str) -> AsyncGenerator[Bucket]:
    """Create the bucket, unless it exists, and hold a client for it.

    Args:
        url: where the store's buckets are, such as `http://127.0.0.1:5020/1/buckets`.
        name: the bucket's name.

    Raises:
        RuntimeError: the store does not want the bucket.
        httpx.HTTPError: the store cannot be reached.
    """
    # The store is a neighbour: a proxy named in the environment has no place on the way to it.
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(url, params={"bucket": name})
        if answer.status_code not in (HTTPStatus.CREATED, HTTPStatus.CONFLICT):
            raise RuntimeError(
                f"cannot create bucket {name!r} at {url}: {answer.status_code}, {answer.text}"
            )
        yield Bucket(client, f"{url}/{name}/objects")
