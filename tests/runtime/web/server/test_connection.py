"""One connection: its idle time, its end, and the announcement of its end."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import structlog
import trio
import trio.lowlevel
from quart import Response, request, websocket

from trivet import (
    BackgroundPlugin,
    Event,
    EventPlugin,
    EventStream,
    Runtime,
    route,
    websocket_route,
)
from trivet._web._asgi import RESPOND
from trivet._web._server import _connection as _connections
from trivet._web._server import _listening, _transport
from trivet.testing import open_plugins, serving

from ..clients import UPGRADE, ask, connect, frame, get, post, read, status, until

CLOSING = b"Connection: close"


class Placed(Event):
    order_id: str


class Ledger(EventPlugin[Placed]):
    async def initialize(self) -> None:
        self.placed: list[str] = []

    async def handle_event(self, event: Placed) -> None:
        self.placed.append(event.order_id)


class Endless:
    """An iterable without an end, and without a wait where `pause` is None."""

    def __init__(self, desk: Desk, piece: bytes, pause: float | None) -> None:
        self._desk = desk
        self._piece = piece
        self._pause = pause

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._desk.open += 1
        return self

    async def __anext__(self) -> bytes:
        if self._pause is not None:
            await trio.sleep(self._pause)
        return self._piece

    async def aclose(self) -> None:
        """End, like a generator."""
        self._desk.open -= 1


class Desk(BackgroundPlugin):
    """Routes that last, and how many of them are open."""

    async def initialize(self) -> None:
        self.open = 0
        self.go_on = trio.Event()

    @route("/")
    async def home(self) -> str:
        return "done"

    @route("/slow")
    async def slow(self) -> str:
        self.open += 1
        try:
            await self.go_on.wait()
        finally:
            self.open -= 1
        return "done"

    @route("/ignore", methods=["POST"])
    async def ignore(self) -> str:
        return "done"

    @route("/rows")
    async def rows(self) -> Response:
        return Response(Endless(self, b"a row of a large table\n" * 40, None))

    @route("/lines")
    async def lines(self) -> Response:
        return Response(Endless(self, b"tick\n", 0.01))

    @route("/news")
    async def news(self) -> EventStream:
        return EventStream(Endless(self, b"tick", 0.01))

    @websocket_route("/deaf")
    async def deaf(self) -> None:
        self.open += 1
        try:
            await websocket.accept()  # pyright: ignore[reportUnknownMemberType]
            await self.go_on.wait()
        finally:
            self.open -= 1

    @route("/size", methods=["POST"])
    async def size(self) -> str:
        return str(len(await request.get_data()))

    async def opened(self, count: int, within: float = 60.0) -> None:
        """Wait until `count` routes are open."""
        with trio.fail_after(within):
            while self.open != count:
                await trio.sleep(0.01)


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[str, Runtime]]:
    """The URL of a desk and a ledger."""
    async with open_plugins(Desk, Ledger) as runtime, serving(runtime) as url:
        yield url, runtime


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(_connections, "KEEP_ALIVE_TIMEOUT", 0.3)
    monkeypatch.setattr(_listening, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(_transport, "SEND_TIMEOUT", 0.5)
    monkeypatch.setattr(_transport, "PROBE_EVERY", 1)
    monkeypatch.setattr(_connections, "PROBE_AFTER", 0.2)


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", get(b"/")[:20]])
async def test_a_client_that_asks_for_nothing(sent: bytes, short: None) -> None:
    """A connection without a whole request is closed after the keep-alive time."""
    async with served() as (url, _), await connect(url) as stream:
        if sent:
            await stream.send_all(sent)
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


async def test_a_connection_is_idle_between_requests_only(short: None) -> None:
    """The keep-alive time counts from the last response, and not while a request is answered."""
    async with served() as (url, runtime), await connect(url) as stream:
        desk = runtime.get(Desk)
        for path in (b"/", b"/slow", b"/"):
            await stream.send_all(get(path))
            if path == b"/slow":
                await desk.opened(1)
                await trio.sleep(3 * _connections.KEEP_ALIVE_TIMEOUT)
                desk.go_on.set()
            assert status(await until(stream, b"done")) == 200
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


@pytest.mark.parametrize("asked_before", [True, False])
async def test_an_idle_connection_ends_when_the_stop_begins(asked_before: bool) -> None:
    """An idle connection ends with the listening socket, and another after its response."""
    async with open_plugins(Desk, Ledger) as runtime:
        desk = runtime.get(Desk)
        async with trio.open_nursery() as nursery:
            async with serving(runtime) as url:
                idle, busy = await connect(url), await connect(url)
                if asked_before:
                    await idle.send_all(get(b"/"))
                    await until(idle, b"done")
                await busy.send_all(get(b"/slow"))
                await desk.opened(1)

                async def look_on() -> None:
                    with trio.fail_after(60):
                        assert await idle.receive_some() == b""
                    desk.go_on.set()
                    assert status(await until(busy, b"done")) == 200

                nursery.start_soon(look_on)
        await idle.aclose()
        await busy.aclose()


async def test_a_response_is_sent_in_one_piece() -> None:
    """The head of a response of known length comes with its body, in one piece."""
    async with served() as (url, _), await connect(url) as stream:
        for _ in range(20):
            await stream.send_all(get(b"/"))
            assert (await stream.receive_some()).endswith(b"\r\n\r\ndone")


async def test_the_head_of_a_stream_does_not_wait() -> None:
    """A response of unknown length may last: each part is sent before the next is there."""
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(get(b"/lines"))
        answer = await until(stream, b"tick\n")
        assert b"transfer-encoding: chunked" in answer.lower()


@pytest.mark.parametrize("blank", [b"\r\n", b"\n", b"\r\n" * 5])
async def test_blank_lines_before_a_request_are_passed_over(blank: bytes) -> None:
    """Blank lines before a request, and behind a body, are skipped."""
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(blank + post(b"/size", b"four") + blank + get(b"/", CLOSING))
        answers = await read(stream)
        assert answers.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("behind", [b"\r\n", b"x" * 100_000, get(b"/")])
async def test_data_behind_the_last_request_is_ignored(behind: bytes) -> None:
    """The last request is answered once, and data behind it is ignored."""
    body = b'{"order_id":"a"}'
    async with served() as (url, runtime):
        asked = post(b"/events/placed?wait=true", body, CLOSING)
        answer = await ask(url, asked + behind)
        assert status(answer) == 200
        assert answer.count(b"HTTP/1.1 ") == 1
        assert runtime.get(Ledger).placed == ["a"]


@pytest.mark.parametrize(
    "asked",
    [
        get(b"/"),
        get(b"/slow"),
        get(b"/livez"),
        post(b"/events/placed?wait=true", b'{"order_id":"a"}'),
        post(b"/size", b"four"),
        get(b"/").replace(b"1.1", b"1.0"),
    ],
)
async def test_a_half_closed_client_is_answered(asked: bytes, short: None) -> None:
    """A client that closes its sending side after a request is still answered."""
    async with served() as (url, runtime), await connect(url) as stream:
        await stream.send_all(asked)
        await stream.send_eof()
        desk = runtime.get(Desk)
        if b"/slow" in asked:
            await desk.opened(1)
            await trio.sleep(3 * _connections.PROBE_AFTER)
            desk.go_on.set()
        answer = await read(stream)
        final = answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        assert status(final) in (200, 202)


async def test_every_request_before_the_end_is_answered() -> None:
    """Several requests in one piece are answered, although the end of sending follows them."""
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(get(b"/") * 3)
        await stream.send_eof()
        assert (await read(stream)).count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize("path", [b"/slow", b"/lines", b"/news", b"/rows"])
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_route_ends_with_its_client(path: bytes, how: str, short: None) -> None:
    """A client that is gone is noticed, whatever the route does, and the route has ended."""
    async with served() as (url, runtime):
        desk = runtime.get(Desk)
        stream = await connect(url)
        await stream.send_all(get(path))
        await desk.opened(1)
        if path != b"/slow":
            await stream.receive_some(1000)
        if how == "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
        await desk.opened(0)
        assert status(await ask(url, get(b"/", CLOSING))) == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_LINGER2"), reason="the system has a fixed time")
async def test_a_client_of_http_1_0_that_is_gone_ends_its_route(short: None) -> None:
    """A route ends once the system of its client, which HTTP/1.0 can only probe, has forgotten the
    connection."""
    async with served() as (url, runtime):
        desk = runtime.get(Desk)
        stream = await connect(url)
        seconds_until_forgotten = 1
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, seconds_until_forgotten)
        await stream.send_all(get(b"/slow").replace(b"1.1", b"1.0"))
        await desk.opened(1)
        stream.socket.close()
        await desk.opened(0)
        assert status(await ask(url, get(b"/", CLOSING))) == 200


async def test_a_stream_of_events_ends_with_a_half_closed_client(short: None) -> None:
    """A stream of events ends when its client closes its side, and its end is complete."""
    async with served() as (url, runtime), await connect(url) as stream:
        await stream.send_all(get(b"/news"))
        await until(stream, b"data: ")
        await stream.send_eof()
        await runtime.get(Desk).opened(0)
        await read(stream)


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_websocket_that_nobody_listens_to(leaves: bool, short: None) -> None:
    """Messages that wait are bounded in bytes; a client that leaves meanwhile is noticed."""
    piece = frame(b"x" * 60_000)
    async with served() as (url, runtime):
        desk = runtime.get(Desk)
        stream = await connect(url)
        await stream.send_all(UPGRADE % b"/deaf" + b"\r\n")
        await until(stream, b"\r\n\r\n")
        sent = 0
        with trio.move_on_after(1):
            while True:
                await stream.send_all(piece)
                sent += len(piece)
        # The messages that wait for the method, and the system's buffers on both sides.
        assert sent < 16 * 1024 * 1024
        await desk.opened(1)
        if leaves:
            await stream.aclose()
        else:
            desk.go_on.set()
        await desk.opened(0)
        await stream.aclose()


@pytest.mark.parametrize("path", [b"/ignore", b"/events/nope", b"/nowhere"])
@pytest.mark.parametrize("length", [4, 60_000, 200_000])
async def test_an_answer_before_the_body_has_come(path: bytes, length: int) -> None:
    """A short rest of a body is skipped; before a long one the response says that it closes."""
    async with served() as (url, _), await connect(url) as stream:
        whole = post(path, b"x" * length)
        head = whole[:-length]
        await stream.send_all(head)
        answer = await until(stream, b"\r\n\r\n")
        is_last = b"connection: close" in answer.lower()
        assert is_last == (length > 64 * 1024)
        await stream.send_all(b"x" * length)
        if not is_last:
            await stream.send_all(get(b"/", CLOSING))
            assert b"HTTP/1.1 200" in await read(stream)


async def test_the_rest_of_a_body_of_unknown_length() -> None:
    """The response before a body of unknown length says that the connection closes."""
    head = b"POST /ignore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(head)
        assert b"connection: close" in (await until(stream, b"\r\n\r\n")).lower()


async def test_the_rest_of_a_body_that_does_not_come(short: None) -> None:
    """The rest of a body is waited for as the next request would be."""
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(post(b"/ignore", b"x" * 100)[:-50])
        await until(stream, b"done")
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


async def test_clients_that_do_not_read(short: None) -> None:
    """Clients that do not read are disconnected, each with one line in the log."""
    with structlog.testing.capture_logs() as logs:
        async with served() as (url, runtime):
            desk = runtime.get(Desk)
            streams = [await connect(url, room=4096) for _ in range(6)]
            for number, stream in enumerate(streams):
                path = (b"/rows", b"/news")[number % 2]
                asked = get(b"/plugins") * 3000 if number > 3 else get(path)
                with trio.move_on_after(0.5):
                    await stream.send_all(asked)
            await desk.opened(4)
            with trio.fail_after(60):
                while len([log for log in logs if log["event"] == "client does not read"]) < 4:
                    await trio.sleep(0.05)
            await trio.lowlevel.checkpoint()
            for stream in streams:
                stream.socket.close()
            await desk.opened(0)
    assert not [log for log in logs if "exc_info" in log]


async def test_a_client_that_reads_slowly(short: None) -> None:
    """A client that reads the least bytes for each second is served for as long as it likes."""
    async with served() as (url, runtime), await connect(url, room=4096) as stream:
        await stream.send_all(get(b"/rows"))
        taken = 0
        begun = trio.current_time()
        while trio.current_time() < begun + 5 * _transport.SEND_TIMEOUT:
            taken += len(await stream.receive_some(2000))
            await trio.sleep(0.02)
        assert runtime.get(Desk).open == 1
        assert taken > 5 * _transport.SEND_TIMEOUT * _transport.MIN_SEND_RATE


async def test_a_whole_response_that_is_not_read() -> None:
    """A whole response has its seconds although the request is cancelled; then it breaks off."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    took: list[float] = []

    async def app(scope: Any, receive: object, send: object) -> None:
        begun = trio.current_time()
        with trio.CancelScope() as scope_of_request:
            scope_of_request.cancel()
            await scope["extensions"][RESPOND](200, [], bytes(10_000_000), 0.2)
        took.append(trio.current_time() - begun)

    with theirs:
        theirs.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        transport = _transport.Transport(trio.socket.from_stdlib_socket(ours))
        with trio.fail_after(10):
            await _connections.Connection(
                app, transport, max_message=1, contains_interrupts=True
            ).run()
    assert transport.is_closed
    assert took[0] >= 0.2


class Flood:
    """A transport whose client sends requests without an end."""

    client = server = None
    is_closed = is_reading = is_sending = False

    def __init__(self) -> None:
        self.taken = 0

    async def receive(self) -> bytes:
        """A piece as large as a read."""
        await trio.lowlevel.checkpoint()
        piece = (get(b"/") * 10_000)[: _transport.READ_SIZE]
        self.taken += len(piece)
        return piece

    async def lingering_close(self) -> None:
        """End."""

    def close(self) -> None:
        """End."""


@pytest.mark.parametrize("listens", [True, False])
async def test_requests_that_wait(listens: bool, autojump_clock: trio.abc.Clock) -> None:
    """Requests that wait for a slow response are bounded in bytes, whatever it listens to."""
    flood = Flood()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if listens:
            await receive()
        await trio.sleep_forever()

    connection = _connections.Connection(
        slow, cast("_transport.Transport", flood), max_message=1, contains_interrupts=True
    )
    with trio.move_on_after(60):
        await connection.run()
    assert flood.taken <= 2 * _transport.READ_SIZE


async def test_the_date_is_that_of_the_second() -> None:
    """Each response has the date, and two in a second have the same."""
    async with served() as (url, _):
        dates = {
            line
            for _ in range(20)
            for line in (await ask(url, get(b"/", CLOSING))).split(b"\r\n")
            if line.lower().startswith(b"date: ")
        }
    assert 1 <= len(dates) <= 10
