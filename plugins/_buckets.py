"""A client for one bucket of the bucket store.

Owns the store's HTTP interface. This file defines no plugin, so it cannot be activated: the
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
    """An existing bucket."""

    client: httpx.AsyncClient
    objects: str
    """The URL to which objects are posted."""

    async def put(self, document: object) -> None:
        """Send one object: any value that msgspec can encode as JSON.

        Raises:
            httpx.HTTPError: the store cannot be reached, or its response is not a 2xx.
        """
        answer = await self.client.post(
            self.objects,
            content=msgspec.json.encode(document),
            headers={"Content-Type": "application/json"},
        )
        answer.raise_for_status()


@asynccontextmanager
async def open_bucket(url: str, name: str) -> AsyncGenerator[Bucket]:
    """Create the bucket unless it exists, and keep a client open for it.

    Args:
        url: the URL of the store's buckets, such as `http://127.0.0.1:5020/1/buckets`.
        name: the bucket's name.

    Raises:
        RuntimeError: the store refuses the bucket.
        httpx.HTTPError: the store cannot be reached.
    """
    # The store is local: requests to it must not go through a proxy named in the environment.
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(url, params={"bucket": name})
        if answer.status_code not in (HTTPStatus.CREATED, HTTPStatus.CONFLICT):
            raise RuntimeError(
                f"cannot create bucket {name!r} at {url}: {answer.status_code}, {answer.text}"
            )
        yield Bucket(client, f"{url}/{name}/objects")
