from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from trivet.testing import open_plugins, serving


@pytest.fixture
async def store() -> AsyncGenerator[str]:
    """The URL of the buckets of a bucket store that is served on loopback."""
    async with open_plugins("bucket_store") as runtime, serving(runtime) as url:
        yield f"{url}/1/buckets"


@pytest.fixture
def stored(store: str) -> Callable[[str], Awaitable[list[Any]]]:
    """A function that asks the store for all objects of a bucket."""

    async def ask(bucket: str) -> list[Any]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{store}/{bucket}/objects", params={"limit": 1000})
        return [kept["object"] for kept in answer.raise_for_status().json()["objects"]]

    return ask
