"""Clients that speak bytes, so that their findings hold for any server."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path
from typing import cast

import trio

UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
"""A handshake without the blank line at its end."""
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
"""The first byte of a frame that is a whole message."""


async def connect(url: str, *, room: int | None = None) -> trio.SocketStream:
    """Connect to a URL; the system buffers `room` bytes that the client has not read."""
    scheme, _, address = url.rpartition("://")
    host, _, port = address.rpartition(":")
    connected = trio.socket.socket()
    if room is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    await connected.connect((host, int(port)))
    stream = trio.SocketStream(connected)
    if scheme != "https":
        return stream
    over_tls = OverTls(stream, ssl.create_default_context())
    await over_tls.shake_hands()
    return cast("trio.SocketStream", over_tls)


class OverTls(trio.abc.HalfCloseableStream):
    """A stream over TLS that can do what a stream over a socket can."""

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.socket = stream.socket
        self._below = stream
        self._tls = trio.SSLStream(
            stream, context, server_hostname="127.0.0.1", https_compatible=True
        )

    async def shake_hands(self) -> None:
        """Make the handshake."""
        try:
            await self._tls.do_handshake()
        except BaseException:
            self.socket.close()
            raise

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send data."""
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for data."""
        await self._tls.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive data."""
        return bytes(await self._tls.receive_some(max_bytes))

    async def send_eof(self) -> None:
        """Close this side, without TLS's own end."""
        await self._below.send_eof()

    async def aclose(self) -> None:
        """Close both sides."""
        await self._tls.aclose()


async def read(stream: trio.SocketStream, within: float = 5.0) -> bytes:
    """Read until the connection ends, or for `within` seconds."""
    answer = b""
    with trio.move_on_after(within):
        try:
            while data := await stream.receive_some(65536):
                answer += data
        except trio.BrokenResourceError:
            return answer
    return answer


async def ask(url: str, request: bytes, within: float = 5.0) -> bytes:
    """Send a request, and read until the connection ends, or for `within` seconds."""
    async with await connect(url) as stream:
        with suppress(trio.BrokenResourceError):  # The request may be answered nevertheless.
            await stream.send_all(request)
        return await read(stream, within)


async def until(stream: trio.SocketStream, end: bytes, within: float = 60.0) -> bytes:
    """Read until the data has this end in it."""
    answer = b""
    with trio.fail_after(within):
        while end not in answer:
            data = await stream.receive_some(65536)
            assert data, answer
            answer += data
    return answer


def get(path: bytes, *headers: bytes) -> bytes:
    """A request without a body."""
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: localhost", *headers, b"", b""])


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    """A request with a JSON body."""
    length = b"Content-Length: %d" % len(body)
    lines = [
        b"POST " + path + b" HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: application/json",
        length,
    ]
    return b"\r\n".join([*lines, *headers, b"", b""]) + body


def status(answer: bytes) -> int:
    """The status of a response; 0 without one."""
    return int(answer[9:12] or 0)


def frame(payload: bytes, kind: int = BINARY) -> bytes:
    """A frame as a client sends it, masked with zeros."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    return bytes([kind]) + length + bytes(4) + payload


def closed_with(answer: bytes) -> int:
    """The close code at the end of the data that a websocket was sent."""
    assert answer[-4:-2] == b"\x88\x02", answer[-40:]
    return int.from_bytes(answer[-2:], "big")


def descriptors() -> int:
    """The files and sockets that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
