"""A stop and a crash, as clients see them behind the real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest
import trio
from quart import Response, websocket
from trio.testing import MockClock
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from trivet import (
    BackgroundPlugin,
    EventStream,
    Runtime,
    ShutdownSettings,
    SupervisionSettings,
    route,
    websocket_route,
)
from trivet._web._app import build_app
from trivet.testing import client, open_plugins, serving

from .clients import connect

pytestmark = [pytest.mark.real_time, pytest.mark.usefixtures("over")]

ROOM = 60.0
"""Seconds for a step of a few milliseconds, on a busy machine."""
LONG = 600.0
"""Seconds of a limit that no test waits for."""


class Ticking:
    """An endless source of ticks."""

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        await trio.sleep(0.01)
        return "tick"


class Desk(BackgroundPlugin):
    """Routes that take their time."""

    supervision = SupervisionSettings(backoff_initial=LONG, backoff_max=LONG)
    _asked: trio.Event = attrs.field(factory=trio.Event)
    _failing: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        await self._failing.wait()
        raise OSError("no ink")

    @route("/slow/<float:seconds>")
    async def slow(self, seconds: float) -> str:
        self._asked.set()
        await trio.sleep(seconds)
        return "done"

    @route("/late")
    async def late(self) -> str:
        self._asked.set()
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("spilt")

    @route("/endless")
    async def endless(self) -> Response:
        response = Response(Ticking())
        response.timeout = None
        return response

    @route("/ticks")
    async def ticks(self) -> EventStream:
        return EventStream(Ticking())

    @route("/fail")
    async def fail(self) -> str:
        self._failing.set()
        return "failing"

    @websocket_route("/echo")
    async def echo(self) -> None:
        while True:
            await websocket.send(await websocket.receive())

    @websocket_route("/polite")
    async def polite(self) -> None:
        await websocket.send("hello")
        await self.stopping.wait()
        await websocket.send("bye")

    @websocket_route("/crash")
    async def crash(self) -> None:
        await websocket.send("hello")
        raise SystemExit("spilt")

    async def asked(self) -> None:
        """Wait until a slow route is being answered."""
        await self._asked.wait()


@attrs.define
class Server:
    """A program behind a real server."""

    runtime: Runtime
    url: str
    leave: trio.Event

    def stop(self) -> None:
        """Begin the stop."""
        self.leave.set()

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self.url.rpartition(":")[2])


@asynccontextmanager
async def served(*, requests: float = LONG) -> AsyncGenerator[Server]:
    """Run the program until it is stopped, in the block or at its end."""

    async def serve(*, task_status: trio.TaskStatus[Server]) -> None:
        shutdown = ShutdownSettings(requests=requests)
        async with open_plugins(Desk, shutdown=shutdown) as runtime, serving(runtime) as url:
            server = Server(runtime, url, trio.Event())
            task_status.started(server)
            await server.leave.wait()

    with trio.fail_after(ROOM):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            yield server
            server.stop()


class Socket:
    """The other end of a websocket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._protocol = WSConnection(ConnectionType.CLIENT)

    async def send(self, event: Event) -> None:
        """Send one frame, or the handshake."""
        await self._stream.send_all(self._protocol.send(event))

    async def receive(self) -> Event:
        """Receive the next event."""
        while True:
            for event in self._protocol.events():
                if not isinstance(event, Ping):
                    return event
            data = await self._stream.receive_some()
            self._protocol.receive_data(data or None)


@asynccontextmanager
async def connected(server: Server, path: str) -> AsyncGenerator[Socket]:
    """A websocket whose handshake was sent."""
    async with await connect(server.url) as stream:
        socket = Socket(stream)
        await socket.send(Request(host="localhost", target=path))
        yield socket


async def test_an_idle_stop_takes_as_long_as_its_work() -> None:
    """The stop of an idle service does not wait for open connections."""
    took: list[float] = []
    for _ in range(3):
        async with httpx.AsyncClient() as asking:
            async with open_plugins(Desk) as runtime:
                async with serving(runtime) as url:
                    silent = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
                    assert (await asking.get(f"{url}/livez")).status_code == 200
                    begun = trio.current_time()
            took.append(trio.current_time() - begun)
            await silent.aclose()
    assert min(took) < 0.25  # The machine may be busy once.


async def test_a_request_in_flight_is_finished() -> None:
    """A request in flight is answered, and the response says that the connection closes."""
    async with served() as server, httpx.AsyncClient(base_url=server.url) as asking:

        async def ask() -> None:
            response = await asking.get("/slow/0.3")
            assert (response.status_code, response.text) == (200, "done")
            assert response.headers["Connection"] == "close"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await server.runtime.get(Desk).asked()
            server.stop()


@pytest.mark.parametrize("path", ["/slow/60.0", "/late"])
async def test_a_request_that_takes_too_long_is_told_so(path: str) -> None:
    """A request without a response at the limit is answered 503, however its route ends."""
    async with served(requests=0.1) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=ROOM) as asking:

            async def ask() -> None:
                response = await asking.get(path)
                assert response.status_code == 503
                assert response.json()["error_code"] == "stopping"
                assert response.headers["Retry-After"] == "5"
                assert response.headers["Connection"] == "close"
                assert "Luna-Request-Id" in response.headers

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await server.runtime.get(Desk).asked()
                server.stop()


async def test_a_response_that_does_not_end_is_cut() -> None:
    """An author's own stream has until the limit; then the connection is cut."""
    async with served(requests=0.1) as server:
        async with httpx.AsyncClient(base_url=server.url) as asking:
            async with asking.stream("GET", "/endless") as response:
                pieces = response.aiter_bytes()
                assert b"tick" in await anext(pieces)
                server.stop()
                with pytest.raises(httpx.RemoteProtocolError):
                    async for _ in pieces:
                        pass


async def test_requests_that_begin_after_the_stop_began() -> None:
    """Requests after the beginning of the stop get 503 at once, but for the probes; connections
    close."""
    async with open_plugins(Desk) as runtime:
        asking = client(runtime)
        assert "Connection" not in (await asking.get("/livez")).headers
        runtime.begin_stop()
        for path, status in (("/livez", 200), ("/plugins", 200), ("/readyz", 503), ("/no", 404)):
            response = await asking.get(path)
            assert response.status_code == status
            assert response.headers["Connection"] == "close"
        for refused in (asking.get("/slow/0.0"), asking.post("/events/monitoring_event")):
            response = await refused
            assert response.status_code == 503
            assert (await response.get_json())["error_code"] == "stopping"
            assert response.headers["Retry-After"] == "5"
            assert response.headers["Connection"] == "close"


async def stuck(*_: object) -> Any:
    """A client that neither sends nor reads."""
    await trio.sleep_forever()


async def taking(*_: object) -> None:
    """A client that reads everything."""


@pytest.mark.parametrize(
    ("path", "send", "seconds"),
    [("/slow/60.0", stuck, 3.5), ("/slow/60.0", taking, 3), ("/endless", taking, 3)],
)
async def test_a_request_that_is_cut_off_has_an_end(
    path: str, send: Any, seconds: float, autojump_clock: MockClock
) -> None:
    """A 503 takes half a second at most; a response that has begun gets nothing more."""
    async with open_plugins(Desk) as runtime:
        app = build_app(runtime)
        scope: Any = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app, scope, stuck, send)
            await trio.sleep(1)
            begun = trio.current_time()
            await app.service.drain(begun + 3)
            assert trio.current_time() - begun == pytest.approx(seconds)
            nursery.cancel_scope.cancel()


async def test_an_event_stream_ends_with_the_stop() -> None:
    """A stream of events ends with a last event that says when to come back, and its end is
    complete."""
    async with served() as server, httpx.AsyncClient(base_url=server.url) as asking:
        async with asking.stream("GET", "/ticks") as response:
            assert "Content-Length" not in response.headers
            lines = response.aiter_lines()
            assert await anext(lines) == "data: tick"
            server.stop()
            rest = [line async for line in lines]
    assert [line for line in rest if line not in ("", "data: tick")] == [
        "event: stopping",
        "retry: 5000",
        "data: the service stops",
    ]


async def test_an_event_stream_ends_with_its_plugins_lifetime() -> None:
    """A stream of events does not outlive the crash of its plugin."""
    async with served() as server, httpx.AsyncClient(base_url=server.url) as asking:
        async with asking.stream("GET", "/ticks") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "data: tick"
            await asking.get("/fail")
            rest = [line async for line in lines]
    assert "event: stopping" in rest
    assert "data: plugin 'desk' is not running" in rest


async def test_a_websocket_is_told_of_the_stop() -> None:
    """A handler that does not watch the stop is cancelled long before the limit, with 1012."""
    async with served() as server, connected(server, "/echo") as socket:
        assert isinstance(await socket.receive(), AcceptConnection)
        await socket.send(TextMessage("hello"))
        assert await socket.receive() == TextMessage("hello")
        server.stop()
        assert await socket.receive() == CloseConnection(code=1012, reason="")


async def test_a_websocket_may_watch_the_stop() -> None:
    """A handler that watches the stop may send a last message, and then closes normally."""
    async with served() as server, connected(server, "/polite") as socket:
        assert isinstance(await socket.receive(), AcceptConnection)
        assert await socket.receive() == TextMessage("hello")
        server.stop()
        assert await socket.receive() == TextMessage("bye")
        assert await socket.receive() == CloseConnection(code=1000, reason="")


async def test_a_websocket_ends_with_its_plugins_lifetime() -> None:
    """A websocket closes when its plugin has crashed, and new ones are refused meanwhile."""
    async with served() as server, connected(server, "/echo") as socket:
        assert isinstance(await socket.receive(), AcceptConnection)
        async with httpx.AsyncClient(base_url=server.url) as asking:
            await asking.get("/fail")
        assert await socket.receive() == CloseConnection(code=1012, reason="")
        async with connected(server, "/echo") as late:
            refusal = await late.receive()
            assert isinstance(refusal, RejectConnection)
            assert refusal.status_code == 503
            assert b"retry-after" in dict(refusal.headers)
            body = await late.receive()
            assert isinstance(body, RejectData)
            assert b'"error_code":"plugin_unavailable"' in body.data


async def test_a_websocket_whose_handler_crashes(capsys: pytest.CaptureFixture[str]) -> None:
    """A crash closes a websocket with 1011 and no reason; the log has plugin, route and
    traceback."""
    async with served() as server, connected(server, "/crash") as socket:
        assert isinstance(await socket.receive(), AcceptConnection)
        assert await socket.receive() == TextMessage("hello")
        assert await socket.receive() == CloseConnection(code=1011, reason="")
        assert server.runtime.hosts["desk"].restarts == 0
    log = capsys.readouterr().out
    for fact in ("handler crashed", "desk", "websocket:/crash", "SystemExit: spilt"):
        assert fact in log
