"""Addresses for the management of a program, apart from those for everybody."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from structlog.testing import capture_logs

from trivet import (
    BackgroundPlugin,
    ConfigurationError,
    Event,
    Secret,
    TokenSettings,
    create_app,
    listening,
    route,
    websocket_route,
)
from trivet.testing import open_plugins

from .clients import UPGRADE, ask, connect, get, status, until

SECRET = "of-all-the-doors-here"
TOKEN: Any = TokenSettings(name="all", scopes=["ingest", "read", "admin"], secret=Secret(SECRET))
GOOD = {"Authorization": f"Bearer {SECRET}"}
SHARED = {"/livez", "/startupz", "/readyz", "/openapi.json", "/asyncapi.json"} | {
    "/sign-in",
    "/sign-out",
}


class OrderPlaced(Event):
    number: int = 0


class Shop(BackgroundPlugin):
    @route("/shop")
    async def shop(self) -> str:
        return "open"

    @websocket_route("/news")
    async def news(self) -> None:
        return


@attrs.frozen
class Sides:
    """A client of each address."""

    public: httpx.AsyncClient
    management: httpx.AsyncClient


@asynccontextmanager
async def both(*, headers: Mapping[str, str] = GOOD, **settings: Any) -> AsyncGenerator[Sides]:
    """Serve a program with an address for management; clients send these headers."""
    settings.setdefault("tokens", [TOKEN])
    async with (
        open_plugins(Shop, event_types=[OrderPlaced], **settings) as runtime,
        listening(runtime, "127.0.0.1:0", management_bind="127.0.0.1:0") as (public, management),
        httpx.AsyncClient(base_url=public, headers=headers) as one,
        httpx.AsyncClient(base_url=management, headers=headers) as other,
    ):
        yield Sides(one, other)


async def routes_at(client: httpx.AsyncClient) -> dict[str, list[str]]:
    """The methods of each path of the document at an address."""
    paths: dict[str, dict[str, Any]] = (await client.get("/openapi.json")).json()["paths"]
    return {path: [*methods] for path, methods in paths.items()}


def filled(path: str) -> str:
    """A path with values for its variables."""
    return path.replace("{name}", "order_placed")


async def test_each_address_describes_what_it_serves() -> None:
    """The document of each address has the paths that it serves: management has `/plugins`,
    `/metrics` and all below `/-/`, the other one events and the plugins' routes, and both have what
    is left."""
    async with both() as sides:
        public, management = await routes_at(sides.public), await routes_at(sides.management)
    assert set(public) & set(management) == SHARED
    own = set(management) - SHARED
    outside = {path for path in own if not path.startswith("/-/")}
    assert outside == {"/plugins", "/metrics"}
    assert "/-/plugins/{name}/restart" in own
    assert set(public) - SHARED == {"/events", "/events/{name}", "/shop", "/news"}


@pytest.mark.parametrize("headers", [GOOD, {}], ids=["with a token", "without a token"])
async def test_an_address_says_nothing_of_the_other_ones_routes(headers: dict[str, str]) -> None:
    """Each route is answered 404 at the other address, whichever method, token and spelling, and
    with the words for a path at which nothing is."""
    async with both() as known:
        documents = [await routes_at(known.public), await routes_at(known.management)]
    async with both(headers=headers) as sides:
        for client, other in (
            (sides.public, documents[1]),
            (sides.management, documents[0]),
        ):
            for path in map(filled, set(other) - SHARED):
                for spelled in (path, f"{path}/", f"/{path}", path.replace("s", "%73")):
                    for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
                        answer = await client.request(method, f"{client.base_url}{spelled}")
                        assert answer.status_code == 404, (method, spelled)
                nothing = (await client.post("/nothing")).text
                said = (await client.post(path)).text
                assert said == nothing.replace("/nothing", path)


async def test_the_own_routes_of_each_address() -> None:
    """At its own address each side answers, under the same tokens."""
    async with both() as sides:
        assert (await sides.public.get("/shop")).text == "open"
        assert (await sides.public.post("/events/order_placed", json={})).status_code == 202
        assert (await sides.management.get("/plugins")).status_code == 200
        assert (await sides.management.get("/-/plugins/shop")).status_code == 200
        for client in (sides.public, sides.management):
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/asyncapi.json")).status_code == 200
            assert (await client.get("/sign-in")).status_code == 200
    async with both(headers={}) as sides:
        assert (await sides.management.get("/-/plugins")).status_code == 401
        assert (await sides.management.get("/plugins")).status_code == 401
        wrong = {"Host": "evil.example"}
        assert (await sides.management.get("/plugins", headers=wrong)).status_code == 421
        cross = {"Sec-Fetch-Site": "cross-site"}
        restart = "/-/plugins/shop/restart"
        assert (await sides.management.post(restart, headers=cross)).status_code == 403
        assert (await sides.management.get("/livez", headers=wrong)).status_code == 200


async def test_websockets() -> None:
    """A websocket of a plugin is opened at the address of the plugins' routes only."""
    async with (
        open_plugins(Shop) as runtime,
        listening(runtime, "127.0.0.1:0", management_bind="127.0.0.1:0") as (public, management),
    ):
        handshake = UPGRADE % b"/news" + b"\r\n"
        async with await connect(public) as stream:
            await stream.send_all(handshake)
            assert b" 101 " in await until(stream, b"\r\n\r\n")
        assert status(await ask(management, handshake)) == 404


async def test_signing_in() -> None:
    """A browser that signs in goes on to the page where it is served, and to the form elsewhere."""
    async with both(headers={}) as sides:
        for client, following in ((sides.public, "/sign-in"), (sides.management, "/-/")):
            answer = await client.post("/sign-in", data={"token": SECRET})
            assert answer.status_code == 303
            assert answer.headers["Location"] == following
            assert (await client.get(following)).status_code == 200


async def test_connections_of_management_count_for_themselves() -> None:
    """A service whose clients have all connections that there are can still be managed."""
    async with both(max_connections=1) as sides:
        public = str(sides.public.base_url)
        async with await connect(public) as stream:
            await stream.send_all(get(b"/livez"))
            await until(stream, b"alive")
            assert status(await ask(public, get(b"/livez"))) == 503
            assert (await sides.management.get("/plugins")).status_code == 200


async def test_a_unix_socket_for_management(tmp_path: Path) -> None:
    """Management may be at a Unix socket, for users of the machine alone."""
    path = tmp_path / "socket"
    async with (
        open_plugins(Shop) as runtime,
        listening(runtime, "127.0.0.1:0", management_bind=f"unix:{path}") as urls,
        httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://localhost"
        ) as client,
    ):
        assert urls[1] == f"http://unix:{path}"
        assert (await client.get("/plugins")).status_code == 200
        assert (await client.get("/shop")).status_code == 404


async def test_others_reach_the_address() -> None:
    """Without tokens an address for management that other machines reach is an error, too."""
    async with open_plugins(Shop) as runtime:
        with pytest.RaisesGroup(
            pytest.RaisesExc(ConfigurationError, match=r"^management_bind: other machines reach")
        ):
            async with listening(runtime, "127.0.0.1:0", management_bind="0.0.0.0:0"):
                raise AssertionError("it is served")


async def test_somebody_elses_server() -> None:
    """A program whose settings have an address for management is not managed at the addresses of
    another server, and a warning says so."""
    async with open_plugins(Shop, tokens=[TOKEN], management_bind="127.0.0.1:0") as runtime:
        with capture_logs() as lines:
            client = create_app(runtime).test_client()
        assert [line["event"] for line in lines] == [
            "management is not served: only `trivet serve` has its `management_bind`"
        ]
        assert (await client.get("/plugins", headers=GOOD)).status_code == 404
        assert (await client.get("/-/plugins", headers=GOOD)).status_code == 404
        assert (await client.get("/shop", headers=GOOD)).status_code == 200
        async with (
            listening(runtime, "127.0.0.1:0") as (url,),
            httpx.AsyncClient(base_url=url, headers=GOOD) as asking,
        ):
            assert (await asking.get("/plugins")).status_code == 404


async def test_tls(trusted: object) -> None:
    """TLS is spoken at a TCP address for management, too."""
    settings = trusted.settings  # type: ignore[attr-defined]
    async with both(tls=settings) as sides:
        assert sides.management.base_url.scheme == "https"
        assert (await sides.management.get("/plugins")).status_code == 200


async def test_a_path_below_a_root() -> None:
    """Behind a proxy that serves the program below a path, management is told by the rest of it."""
    async with both(root_path="/trivet") as sides:
        for prefix in ("", "/trivet"):
            assert (await sides.public.get(f"{prefix}/plugins")).status_code == 404
            assert (await sides.management.get(f"{prefix}/plugins")).status_code == 200
            with trio.fail_after(60):
                assert (await sides.public.get(f"{prefix}/shop")).status_code == 200
