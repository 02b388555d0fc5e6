"""Clients that try to end, hang or bloat a service."""

from __future__ import annotations

import random
import socket
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import structlog
import trio
from quart import abort, request, websocket

from trivet import BackgroundPlugin, Runtime, ShutdownSettings, route, websocket_route
from trivet._web._server import _connection, _transport
from trivet.testing import open_plugins, serving

from .clients import UPGRADE, ask, connect, descriptors, frame, status

pytestmark = [pytest.mark.real_time, pytest.mark.usefixtures("over")]

LARGE = 64 * 1024 * 1024
MESSAGE_LIMIT = 1024 * 1024
EARLY_FRAMES = UPGRADE % b"/nowhere" + b"\r\n" + b"\x81\x85aaaa\x00\x01\x02\x03\x04" * 3


class Pages(BackgroundPlugin):
    _talking: int = 0

    @route("/read", methods=["POST"])
    async def read(self) -> str:
        return str(len(await request.get_data()))

    @websocket_route("/echo")
    async def echo(self) -> None:
        self._talking += 1
        try:
            while True:
                await websocket.send(await websocket.receive())
        finally:
            self._talking -= 1

    @websocket_route("/deaf")
    async def deaf(self) -> None:
        self._talking += 1
        try:
            while True:
                await websocket.send("tick")
                await trio.sleep(0.01)
        finally:
            self._talking -= 1

    @websocket_route("/members")
    async def members(self) -> None:
        abort(403)

    async def talks(self, count: int) -> None:
        """Wait until `count` websockets are open."""
        while self._talking != count:
            await trio.sleep(0.01)

    @route("/")
    async def home(self) -> str:
        return "here"

    @route("/large")
    async def large(self) -> bytes:
        return b"x" * LARGE


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that stay after their last response are cut off in a fifth of the time."""
    assert _transport.LINGER_TIMEOUT == 1.0
    monkeypatch.setattr(_transport, "LINGER_TIMEOUT", 0.2)


@asynccontextmanager
async def ours(**program: Any) -> AsyncGenerator[tuple[str, Runtime]]:
    """The URL of the same service behind Trivet's server."""
    async with open_plugins(Pages, **program) as runtime, serving(runtime) as url:
        yield url.removeprefix("http://"), runtime


async def is_served(address: str) -> bool:
    """Whether an ordinary request is answered."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        answer = await ask(address, request)
    except trio.BrokenResourceError:  # There was no handshake.
        return False
    return b" 200 " in answer.split(b"\r\n")[0]


async def test_an_upgrade_ends_its_own_connection_only() -> None:
    """A client that sends frames before it may is refused, and everybody else is served."""
    with structlog.testing.capture_logs() as logs:
        async with ours() as (address, _):
            for _ in range(10):
                assert status(await ask(address, EARLY_FRAMES, within=0.2)) in (400, 404)
            assert await is_served(address)
    assert not [log for log in logs if "exc_info" in log]


def noise(dice: random.Random) -> bytes:
    """Bytes that are hardly a request, and often begin as one."""
    heads = [
        EARLY_FRAMES,
        UPGRADE % b"/",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /events/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"",
    ]
    made = bytearray(dice.choice(heads) + dice.randbytes(dice.randint(0, 40)))
    for _ in range(dice.randint(0, 3)):
        if made:
            made[dice.randrange(len(made))] = dice.randrange(256)
    return bytes(made)


async def test_noise_ends_nothing() -> None:
    """An ordinary request is answered after some hundred malformed ones."""
    dice = random.Random(1)
    async with ours() as (address, _):
        limit = trio.CapacityLimiter(20)

        async def send(data: bytes) -> None:
            async with limit:
                await ask(address, data, within=0.05)

        async with trio.open_nursery() as nursery:
            for _ in range(600):
                nursery.start_soon(send, noise(dice))
        assert await is_served(address)


DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"


async def test_a_websocket_is_not_compressed() -> None:
    """A websocket has no extension, and a compressed message closes it."""
    compressed = b"\xc1\x85aaaa\x00\x01\x02\x03\x04"
    async with ours() as (address, _):
        answer = await ask(address, UPGRADE % b"/echo" + DEFLATE + compressed, within=0.5)
        assert answer.startswith(b"HTTP/1.1 101 ") or b"400" in answer
        assert b"permessage-deflate" not in answer
        answer = await ask(address, UPGRADE % b"/echo" + DEFLATE, within=0.5)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"permessage-deflate" not in answer


H2C = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


async def test_http_2_is_not_spoken() -> None:
    """An upgrade is ignored, and a client that assumes HTTP/2 is told that it is not supported."""
    async with ours() as (address, _):
        assert (await ask(address, H2C, within=0.5)).startswith(b"HTTP/1.1 200 ")
        assert (await ask(address, PREFACE, within=5)).startswith(b"HTTP/1.1 505 ")


SMUGGLED = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": b"Content-Length: 5, 6\r\n\r\nhello",
    "a length with a sign": b"Content-Length: +5\r\n\r\nhello",
    "a negative length": b"Content-Length: -5\r\n\r\nhello",
    "a length in hexadecimal": b"Content-Length: 0x5\r\n\r\nhello",
    "two encodings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another encoding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an encoding in front": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "a space in a name": b"Content Length: 5\r\n\r\nhello",
    "a control character": b"X-A: a\x00b\r\n\r\n",
    "a bare return": b"X-A: a\rContent-Length: 5\r\n\r\nhello",
    "no host": b"",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_a_head_that_means_two_things_is_refused(name: str) -> None:
    """A head with two meanings is a 400 or 501, and the connection closes: nothing can be
    smuggled."""
    host = b"" if name == "no host" else b"Host: localhost\r\n"
    end = b"\r\n" if name == "no host" else SMUGGLED[name]
    behind = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with ours() as (address, _):
        answer = await ask(address, b"POST / HTTP/1.1\r\n" + host + end + behind)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert answer.count(b"HTTP/1.1 ") == 1


LONG_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n"


async def test_a_long_head_is_refused_however_it_arrives() -> None:
    """A head of more than 16 KiB is too large."""
    async with ours() as (address, _):
        assert (await ask(address, LONG_HEAD)).startswith(b"HTTP/1.1 431 ")


async def test_one_connection_too_many_is_told_to_come_back(over: str) -> None:
    """A connection beyond the limit gets 503 with `Retry-After`, or no handshake, and is served
    when another has ended."""
    async with ours(max_connections=3) as (address, _):
        held = [await connect(address) for _ in range(3)]
        for stream in held:
            await stream.send_all(b"GET / HTTP/1.1\r\n")
        if over == "TLS":
            with pytest.raises(trio.BrokenResourceError):
                await connect(address)
        else:
            answer = await ask(address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert b'"error_code":"too_many_connections"' in answer
        for stream in held:
            await stream.aclose()
        with trio.fail_after(60):
            while not await is_served(address):
                await trio.lowlevel.checkpoint()


async def test_slow_headers_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has not sent a whole head within five seconds, less here, is disconnected."""
    assert _connection.KEEP_ALIVE_TIMEOUT == 5.0
    monkeypatch.setattr(_connection, "KEEP_ALIVE_TIMEOUT", 0.3)
    async with ours() as (address, _):
        with trio.fail_after(60):
            answer = await ask(address, b"GET / HTTP/1.1\r\nX-A: ", within=60)
            assert answer == b""
            assert await is_served(address)


async def drip(address: str, times: int) -> bytes:
    """Send a body a byte at a time, and read the response meanwhile."""
    head = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    answer = b""
    async with await connect(address) as stream:
        try:
            await stream.send_all(head)
            for _ in range(times):
                with trio.move_on_after(0.05):
                    answer += await stream.receive_some(65536)
                if answer:
                    while more := await stream.receive_some(65536):
                        answer += more
                    break
                await stream.send_all(b" ")
        except trio.BrokenResourceError:
            return answer
    return answer


async def test_a_body_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose body does not arrive in time is answered 408, and its connection closed."""
    monkeypatch.setattr("trivet._web._context.BODY_TIMEOUT", 0.3)
    async with ours() as (address, _):
        answer = await drip(address, times=100)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert b"request_timeout" in answer


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_a_client_that_never_reads_does_not_hold_the_stop() -> None:
    """A client that never reads keeps its connection for a second, not for the whole of the
    limit."""
    async with open_plugins(Pages, shutdown=ShutdownSettings(requests=30)) as runtime:
        async with serving(runtime) as url:
            stream = await connect(url.removeprefix("http://"))
            await stream.send_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some(100)
        assert runtime.plan is not None
        assert trio.current_time() < runtime.plan.requests_until
        await stream.aclose()


async def test_a_client_that_reads_a_little_is_cut_at_the_limit() -> None:
    """A connection that is still sending when the limit is over is closed."""

    async def sip(stream: trio.SocketStream) -> None:
        try:
            while await stream.receive_some(1000):
                await trio.sleep(0.01)
        except trio.BrokenResourceError:
            gone.set()
        else:
            gone.set()

    gone = trio.Event()
    async with open_plugins(Pages, shutdown=ShutdownSettings(requests=0.3)) as runtime:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(60):
                async with serving(runtime) as url:
                    stream = await connect(url.removeprefix("http://"))
                    await stream.send_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    await stream.receive_some(100)
                    nursery.start_soon(sip, stream)
            # Before the client closes its stream: the sip may want more of it.
            nursery.cancel_scope.cancel()
        await stream.aclose()


async def is_cut_off(stream: trio.SocketStream, sending: bytes, within: float = 5.0) -> bool:
    """Whether the connection closes for a client that reads, and goes on sending."""

    async def read() -> None:
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(65536):
                continue

    cut_off = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with trio.move_on_after(within):
            try:
                while True:
                    await stream.send_all(sending)
                    await trio.sleep(0.01)
            except trio.BrokenResourceError:
                cut_off = True
        nursery.cancel_scope.cancel()
    return cut_off


INVALID = UPGRADE.replace(b"Version: 13", b"Version: 12") % b"/echo" + b"\r\n"
REFUSED = {
    "by its route": UPGRADE % b"/members" + b"\r\n",
    "for want of a route": UPGRADE % b"/nowhere" + b"\r\n",
    "by the server": INVALID,
    "with early frames": UPGRADE % b"/echo" + b"\r\n" + frame(b"early"),
}


@pytest.mark.usefixtures("short_limits")
@pytest.mark.parametrize("how", REFUSED)
async def test_a_handshake_that_is_refused_ends_its_connection(how: str) -> None:
    """A client whose handshake is refused gets the response, and a second to disconnect."""
    async with ours() as (address, runtime):
        async with await connect(address) as stream:
            await stream.send_all(REFUSED[how])
            assert await stream.receive_some(13) in (
                b"HTTP/1.1 400 ",
                b"HTTP/1.1 403 ",
                b"HTTP/1.1 404 ",
            )
            assert await is_cut_off(stream, frame(b"hello"))
        with trio.fail_after(60):
            await runtime.get(Pages).talks(0)


TOO_BIG = b"\x88\x02\x03\xf1"
"""The close frame with code 1009."""


async def send_too_large(stream: trio.SocketStream) -> int:
    """Send a message that is too large, and go on; returns the bytes of memory that this takes."""
    tracemalloc.start()
    try:
        await stream.send_all(UPGRADE % b"/echo" + b"\r\n")
        assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 101 ")
        await stream.send_all(frame(b"x" * 2 * MESSAGE_LIMIT))
        assert await stream.receive_some(65536) == TOO_BIG
        more = frame(b"x" * MESSAGE_LIMIT)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with suppress(trio.BrokenResourceError):
            for _ in range(32):
                await stream.send_all(more)
        _, peak = tracemalloc.get_traced_memory()
        return peak - before
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("short_limits")
async def test_a_websocket_message_that_is_too_large_is_the_last() -> None:
    """A message that is too large closes with 1009; later data is dropped, and the method ends."""
    async with ours(max_body=MESSAGE_LIMIT) as (address, runtime):
        async with await connect(address) as stream:
            assert await send_too_large(stream) < 4 * MESSAGE_LIMIT
            assert await is_cut_off(stream, frame(b"hello"))
        with trio.fail_after(60):
            await runtime.get(Pages).talks(0)
        assert await is_served(address)


async def test_a_client_may_leave_a_method_that_does_not_listen() -> None:
    """Messages that no handler receives do not keep the method from ending with its client."""
    async with ours() as (address, runtime):
        async with await connect(address) as stream:
            await stream.send_all(UPGRADE % b"/deaf" + b"\r\n")
            await stream.receive_some(65536)
            await stream.send_all(frame(b"hello") * 100)
            await runtime.get(Pages).talks(1)
        with trio.fail_after(60):
            await runtime.get(Pages).talks(0)


@pytest.mark.usefixtures("short_limits")
async def test_the_last_answer_ends_its_connection() -> None:
    """A client that stays after `Connection: close`, and goes on sending, is cut off."""
    async with ours() as (address, _), await connect(address) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"Connection: close" in await stream.receive_some(65536)
        assert await is_cut_off(stream, b"x")


@pytest.mark.usefixtures("short_limits")
async def test_a_body_that_is_too_slow_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stays after a 408, and goes on sending, is cut off."""
    monkeypatch.setattr("trivet._web._context.BODY_TIMEOUT", 0.1)
    async with ours() as (address, _), await connect(address) as stream:
        await stream.send_all(
            b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"
        )
        assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 408 ")
        assert await is_cut_off(stream, b"x")


Attack = Callable[[str], Awaitable[bytes]]


async def idle(address: str) -> bytes:
    """A request on a connection that the client leaves open."""
    return await ask(address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", within=0.05)


async def too_large(address: str) -> bytes:
    """A body that is refused before it was read."""
    head = b"POST /events/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    return await ask(address, head, within=0.05)


@pytest.mark.parametrize("attack", [idle, too_large])
async def test_no_descriptor_is_left(attack: Attack) -> None:
    """No descriptor is left, however clients leave their connections."""
    async with ours() as (address, _):
        await attack(address)
        before = descriptors()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(attack, address)
        with trio.fail_after(60):
            while descriptors() > before:
                await trio.sleep(0.01)


HOSTILE = 300
HOW = {
    "idle": b"",
    "in a head": b"GET / HTTP/1.1\r\nHo",
    "in a body": b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n ",
    "unread": b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an unread websocket": UPGRADE % b"/echo" + b"\r\n" + frame(b"x" * 100_000) * 30,
    "half closed": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half closed in a body": b"POST /read HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 999\r\n\r\n ",
    "gone": b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "gone in a body": b"POST /read HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 999\r\n\r\n ",
}


async def test_three_hundred_hostile_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hundred clients are gone within the limits, short ones here, and others are
    answered."""
    monkeypatch.setattr("trivet._web._server._connection.KEEP_ALIVE_TIMEOUT", 0.5)
    monkeypatch.setattr("trivet._web._server._listening.CHECK_INTERVAL", 0.1)
    monkeypatch.setattr("trivet._web._server._transport.SEND_TIMEOUT", 1.0)
    monkeypatch.setattr("trivet._web._context.BODY_TIMEOUT", 0.5)
    monkeypatch.setattr(f"{__name__}.LARGE", 1024 * 1024)
    streams: list[trio.SocketStream] = []

    async def come(url: str, how: str) -> None:
        stream = await connect(url, room=4096)
        with suppress(trio.BrokenResourceError), trio.move_on_after(1):
            await stream.send_all(HOW[how])
            if how.startswith("half closed"):
                await stream.send_eof()
        if how.startswith("gone"):
            stream.socket.close()
        else:
            streams.append(stream)

    async with ours() as (url, runtime):
        await is_served(url)
        before = descriptors()
        async with trio.open_nursery() as nursery:
            for number in range(HOSTILE):
                nursery.start_soon(come, url, list(HOW)[number % len(HOW)])
        assert await is_served(url)
        with trio.fail_after(60):
            while descriptors() > before + len(streams):
                await trio.sleep(0.05)
            await runtime.get(Pages).talks(0)
        assert await is_served(url)
        for stream in streams:
            await stream.aclose()
        assert descriptors() <= before
