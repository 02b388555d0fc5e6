"""The shop sells whatever its plugins do, and each plugin can be tested without the shop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from shop.app import app, lifespan
from shop.events import OrderPlaced
from trivet.testing import OpenPlugins, client

HERE = Path(__file__).parent


async def test_points_are_counted(open_service: OpenPlugins) -> None:
    """A customer has a point for each full five euros of an order."""
    settings = {"loyalty": {"euros_per_point": 5.0}}
    async with open_service("loyalty", directory=HERE / "plugins", settings=settings) as runtime:
        for total in (4.99, 12.5):
            await runtime.publish(OrderPlaced.example(customer="ann", total=total), wait=True)
        answer = await client(runtime).get("/loyalty/ann")
        assert await answer.get_json() == {"points": 2}


def test_an_order_is_placed_although_a_plugin_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that raises costs the buyer nothing, nor the other plugin."""
    monkeypatch.chdir(HERE)

    async def buy() -> None:
        transport = httpx.ASGITransport(app)
        # Without tokens the plugins' routes answer this machine alone, by its own names.
        async with (
            lifespan(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as shop,
        ):
            for total in (0, 10):
                order = {"customer": "ben", "total": total}
                assert (await shop.post("/orders", params=order)).status_code == 201
            assert (await shop.get("/plugins/readyz")).status_code == 200
            assert (await shop.get("/plugins/loyalty/ben")).status_code == 200

    asyncio.run(buy())
