"""Websockets frame by frame: the answers, the close codes, and the costs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import thread_time

import pytest
import structlog
import trio
import trio.lowlevel
from quart import websocket

from trivet import BackgroundPlugin, websocket_route
from trivet.testing import open_plugins, serving

from ..clients import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    ask,
    closed_with,
    connect,
    frame,
    read,
    status,
    until,
)

pytestmark = pytest.mark.real_time

MAX = 1000
FIRST, NEXT, LAST = 0x01, 0x00, 0x80
"""The first byte of the fragments of a text."""


class Phone(BackgroundPlugin):
    async def initialize(self) -> None:
        self.open = 0
        self.go_on = trio.Event()

    @websocket_route("/echo")
    async def echo(self) -> None:
        self.open += 1
        try:
            while True:
                await websocket.send(await websocket.receive())
        finally:
            self.open -= 1

    @websocket_route("/busy")
    async def busy(self) -> None:
        await websocket.accept()  # pyright: ignore[reportUnknownMemberType]
        await self.go_on.wait()
        await websocket.send(str(len(await websocket.receive())))

    @websocket_route("/json")
    async def json(self) -> None:
        async with trio.open_nursery() as nursery:  # It groups the errors.
            nursery.start_soon(trio.sleep_forever)
            while True:
                await websocket.send_json(await websocket.receive_json())

    @websocket_route("/patient")
    async def patient(self) -> None:
        while True:
            try:
                await websocket.send_json(await websocket.receive_json())
            except ValueError:
                await websocket.send("again")

    async def hung_up(self) -> None:
        """Wait until no call is open."""
        with trio.fail_after(60):
            while self.open:
                await trio.sleep(0.01)


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[str, Phone]]:
    """The URL of a phone whose messages may have 1000 bytes, and the phone."""
    async with open_plugins(Phone, max_body=MAX) as runtime, serving(runtime) as url:
        yield url, runtime.get(Phone)


@asynccontextmanager
async def talking(url: str, path: bytes = b"/echo") -> AsyncGenerator[trio.SocketStream]:
    """An open websocket."""
    async with await connect(url) as stream:
        await stream.send_all(UPGRADE % path + b"\r\n")
        await until(stream, b"\r\n\r\n")
        yield stream


SMILE = "\U0001f600".encode()
CLOSED = {
    "a text of 1000 characters and 4000 bytes": (frame(SMILE * MAX, TEXT), 1009),
    "a message of one byte too many": (frame(b"x" * (MAX + 1)), 1009),
    "fragments that are too large together": (
        frame(b"x" * MAX, FIRST) + frame(b"x", NEXT) + frame(b"", LAST),
        1009,
    ),
    "a length that nobody sends": (b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4) + b"x" * 2000, 1009),
    "bytes that are no text": (frame(b"\xff\xfe", TEXT), 1007),
    "half a character at the end": (frame(SMILE[:2], TEXT), 1007),
    "a surrogate": (frame(b"\xed\xa0\x80", TEXT), 1007),
    "a frame without a mask": (b"\x81\x02hi", 1002),
    "a reserved bit": (b"\xc1\x82" + bytes(4) + b"hi", 1002),
    "an unknown kind": (frame(b"hi", 0x83), 1002),
    "a fragmented ping": (frame(b"hi", 0x09), 1002),
    "a ping of 126 bytes": (frame(b"x" * 126, PING), 1002),
    "a continuation of nothing": (frame(b"hi", LAST), 1002),
    "a message within a message": (frame(b"hi", FIRST) + frame(b"hi", TEXT), 1002),
    "a close code that is none": (frame(b"\x03\xed", CLOSE), 1002),
    "half a close code": (frame(b"\x03", CLOSE), 1002),
    "a reason that is no text": (frame(b"\x03\xe8\xff", CLOSE), 1007),
}


async def test_a_wrong_frame_ends_the_websocket() -> None:
    """A wrong frame ends the connection, with a code, and the method; the log has no traceback."""
    with structlog.testing.capture_logs() as logs:
        async with served() as (url, phone):
            for name, (sent, code) in CLOSED.items():
                async with talking(url) as stream:
                    await stream.send_all(sent + frame(b"not any more"))
                    assert (name, closed_with(await read(stream))) == (name, code)
                await phone.hung_up()
    assert not [log for log in logs if "exc_info" in log]


ANSWERED = [
    (frame(SMILE * 250, TEXT), b"\x81\x7e\x03\xe8" + SMILE * 250),
    (frame(b"x" * MAX), b"\x82\x7e\x03\xe8" + b"x" * MAX),
    (frame(b""), b"\x82\x00"),
    (frame(b"", TEXT), b"\x81\x00"),
    (frame(b"a", FIRST) + frame(b"p", PING) + frame(b"b", LAST), b"\x8a\x01p\x81\x02ab"),
    (frame(SMILE[:2], FIRST) + frame(SMILE[2:], LAST), b"\x81\x04" + SMILE),
    (frame(b"a", FIRST) + frame(b"", NEXT) * 5000 + frame(b"b", LAST), b"\x81\x02ab"),
    (frame(b"hi", PONG) + frame(b"hi", TEXT), b"\x81\x02hi"),
    (frame(b"\x03\xe8bye", CLOSE), b"\x88\x05\x03\xe8bye"),
    (frame(b"", CLOSE), b"\x88\x00"),
]


async def test_a_right_frame_is_answered() -> None:
    """A client that sends valid frames is answered, to the byte."""
    async with served() as (url, _):
        for sent, received in ANSWERED:
            async with talking(url) as stream:
                await stream.send_all(sent)
                assert await until(stream, received) == received


async def test_a_ping_is_answered_while_the_method_is_busy() -> None:
    """A ping is answered while the method is busy, also behind messages that wait."""
    async with served() as (url, phone), talking(url, b"/busy") as stream:
        await stream.send_all(frame(b"hello") * 100 + frame(b"?", PING))
        assert await until(stream, b"\x8a\x01?") == b"\x8a\x01?"
        phone.go_on.set()
        assert await until(stream, b"\x81\x015") == b"\x81\x015"


@pytest.mark.parametrize("kind", [PING, PONG, NEXT])
async def test_a_flood_of_small_frames(kind: int) -> None:
    """Other tasks have their turn during a flood of small frames."""
    longest = 0.0

    async def look_on() -> None:
        nonlocal longest
        while True:
            begun = thread_time()  # A busy machine makes turns longer, and not their work.
            await trio.lowlevel.checkpoint()
            longest = max(longest, thread_time() - begun)

    async with served() as (url, _), talking(url) as stream, trio.open_nursery() as nursery:
        first = frame(b"", FIRST) if kind == NEXT else b""
        nursery.start_soon(look_on)

        async def listen() -> None:
            while await stream.receive_some(65536):
                continue

        nursery.start_soon(listen)
        await stream.send_all(first + frame(b"", kind) * 40_000)
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    assert longest < 0.5  # 40 000 frames at once would take as much, and more.


HEADERS = [
    b"Sec-WebSocket-Version: 12",
    b"Sec-WebSocket-Key: short",
    b"Sec-WebSocket-Key: \xff\xff",
    b"Sec-WebSocket-Protocol: caf\xe9",
    b"Content-Length: 5",
    b"Connection: Upgrade, \xff",
]


async def test_a_malformed_handshake() -> None:
    """A malformed handshake is a 400, without a traceback."""
    with structlog.testing.capture_logs() as logs:
        async with served() as (url, _):
            for header in HEADERS:
                name = header.partition(b":")[0]
                lines = (UPGRADE % b"/echo").split(b"\r\n")[:-1]
                others = [line for line in lines if not line.startswith(name)]
                asked = b"\r\n".join([*others, header, b"", b""])
                assert (header, status(await ask(url, asked))) == (header, 400)
    assert not [log for log in logs if "exc_info" in log]


async def test_a_method_ends_with_a_client_that_is_gone() -> None:
    """A method ends with a client that closes without a word, or in the midst of a frame."""
    async with served() as (url, phone):
        for sent in (b"", frame(b"hello")[:5], frame(b"x", BINARY)):
            async with talking(url) as stream:
                await stream.send_all(sent)
            await phone.hung_up()


UNREADABLE = {
    "no JSON": (frame(b"{", TEXT), 1007),
    "bytes that are no text": (frame(b"\xff"), 1007),
    "nested too deeply": (frame(b"[" * 40_000, TEXT), 1007),
    "a number of too many digits": (frame(b"9" * 5000, TEXT), 1007),
    "too many values": (frame(b"[" + b"1," * 60_000 + b"1]", TEXT), 1009),
}


@pytest.mark.parametrize("wrong", UNREADABLE)
async def test_a_message_that_is_no_json_is_its_clients_fault(wrong: str) -> None:
    """A message that is no JSON closes its websocket with a code, and is one line of the log."""
    message, code = UNREADABLE[wrong]
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Phone) as runtime, serving(runtime) as url:
            async with talking(url, b"/json") as stream:
                await stream.send_all(frame(b"1", TEXT) + message)
                assert closed_with(await read(stream)) == code
    told = [log for log in logs if log["log_level"] != "info" or log["event"].startswith("malf")]
    assert [log["event"] for log in told] == ["malformed message"]


async def test_a_handler_may_bear_a_message_that_is_no_json() -> None:
    """A handler may catch the ValueError of an unreadable message, and receive the next one."""
    async with served() as (url, _), talking(url, b"/patient") as stream:
        await stream.send_all(frame(b"{", TEXT) + frame(b"5", TEXT))
        assert await until(stream, b"5") == b"\x81\x05again\x81\x015"
