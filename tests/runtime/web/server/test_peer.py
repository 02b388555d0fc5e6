"""One client: how it is noticed that it is gone, has closed its side, or does not read."""

from __future__ import annotations

import socket
import struct
from typing import Any, cast

import pytest
import structlog
import trio
import trio.lowlevel

from trivet._web._server import _connection as _connections
from trivet._web._server import _peer, _transport
from trivet._web._server._known_heads import KnownHeads

from ..clients import UPGRADE, ask, connect, frame, get, post, read, status, until
from .desk import CLOSING, Desk, served

pytestmark = pytest.mark.real_time


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
            await trio.sleep(3 * _peer.PROBE_AFTER)
            desk.go_on.set()
        answer = await read(stream)
        final = answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        assert status(final) in (200, 202)


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


class Flood:
    """A transport whose client sends requests without an end."""

    client = server = None
    is_closed = is_reading = is_secure = is_sending = False

    def __init__(self) -> None:
        self.taken = 0

    async def open(self) -> bool:
        """There is nothing to prepare."""
        return True

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
        slow,
        cast("_transport.Transport", flood),
        KnownHeads(None),
        max_message=1,
        contains_interrupts=True,
    )
    with trio.move_on_after(60):
        await connection.run()
    assert flood.taken <= 2 * _transport.READ_SIZE
