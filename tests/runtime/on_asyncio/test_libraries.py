"""Plugins with aiohttp, over real sockets."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
import trio
from aiohttp import web

from trivet import (
    App,
    AsyncioPlugin,
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Runtime,
    ShutdownSettings,
)
from trivet.testing import open_plugins


class Fetch(Event):
    url: str
    within: float | None = None


class Server(AsyncioPlugin, BackgroundPlugin):
    """Answers `/now`, and never `/never`; echoes on a websocket, and publishes what is posted."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.asked = trio.Event()
        self.let_go = trio.Event()
        self.url = ""

    async def initialize(self) -> None:
        server = web.Application()
        server.router.add_get("/now", self._now)
        server.router.add_get("/never", self._never)
        server.router.add_get("/echo", self._echo)
        server.router.add_post("/fetch", self._fetch)
        self._runner = web.AppRunner(server, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port, *_ = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _now(self, request: web.Request) -> web.Response:
        return web.Response(text="now")

    async def _never(self, request: web.Request) -> web.Response:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.let_go.set()
        raise AssertionError

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        async for message in connection:
            await connection.send_str(message.data)
        return connection

    async def _fetch(self, request: web.Request) -> web.Response:
        outcome = await self.app.publish(Fetch(**await request.json()), wait=True)
        return web.json_response({"is_handled": outcome.worst is Fate.HANDLED})


class Client(AsyncioPlugin, EventPlugin[Fetch]):
    """Fetches, with one session for as long as it lives."""

    delivery = DeliverySettings(concurrency=4)

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.texts: list[str] = []

    async def initialize(self) -> None:
        self._session = await self.enter(aiohttp.ClientSession())

    async def handle_event(self, event: Fetch) -> None:
        timeout = aiohttp.ClientTimeout(total=event.within)
        async with self._session.get(event.url, timeout=timeout) as answer:
            self.texts.append(await answer.text())

    async def echo(self, url: str, text: str) -> str:
        async with self._session.ws_connect(url) as connection:
            await connection.send_str(text)
            return await connection.receive_str()


async def fetch(runtime: Runtime, path: str, within: float | None = None) -> Fate | None:
    """Let the client fetch a path of the server, and return the result or the error."""
    event = Fetch(runtime.get(Server).url + path, within)
    return (await runtime.publish(event, wait=True)).worst


async def test_client_and_server() -> None:
    """Keep-alive, concurrency, websockets and aiohttp's own time limits work in a plugin."""
    async with open_plugins(Server, Client) as runtime:
        fates: list[Fate | None] = []

        async def one() -> None:
            fates.append(await fetch(runtime, "/now"))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
        assert fates == [Fate.HANDLED] * 20
        own = runtime.get(Client)
        url = f"{runtime.get(Server).url}/echo"
        assert await own.run_on_asyncio(own.echo, url, "tea") == "tea"
        assert await fetch(runtime, "/never", within=0.05) is Fate.FAILED
        assert await fetch(runtime, "/now") is Fate.HANDLED
    assert own.texts == ["now"] * 21


async def test_server_that_publishes() -> None:
    """Handlers of aiohttp, in asyncio tasks that Trivet has not started, can publish."""
    async with open_plugins(Server, Client) as runtime:
        own, url = runtime.get(Client), runtime.get(Server).url

        async def post() -> object:
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{url}/fetch", json={"url": f"{url}/now"}) as answer:
                    return await answer.json()

        assert await own.run_on_asyncio(post) == {"is_handled": True}
    assert own.texts == ["now"]


async def test_a_time_limit_closes_the_connection() -> None:
    """A handler cancelled in a request cleans up: the server sees the connection close."""
    settings = {"client": {"delivery": {"time_limit": 0.2}}}
    async with open_plugins(Server, Client, settings=settings) as runtime:
        assert await fetch(runtime, "/never") is Fate.FAILED
        with trio.fail_after(60):
            await runtime.get(Server).let_go.wait()
        assert runtime.statistics()["client"].timed_out == 1


@pytest.mark.parametrize("is_stop", [True, False])
async def test_the_end_of_a_lifetime_closes_what_is_open(is_stop: bool) -> None:
    """The end of a lifetime closes open requests of clients and of servers."""
    shutdown = ShutdownSettings(drain=0.2)
    async with open_plugins(Server, Client, shutdown=shutdown) as runtime:
        server = runtime.get(Server)
        await runtime.publish(Fetch(f"{server.url}/never"))
        await server.asked.wait()
        if not is_stop:
            runtime.restart("client")
            with trio.fail_after(60):
                await server.let_go.wait()
    assert server.let_go.is_set()
    assert runtime.hosts["client"].status == "stopped"
