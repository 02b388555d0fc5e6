"""One request: when its response is sent, and for how long it waits for its client."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from trivet._web._asgi import RESPOND
from trivet._web._server import _connection as _connections
from trivet._web._server import _transport
from trivet._web._server._known_heads import KnownHeads

from ..clients import connect, get, until
from .desk import served

pytestmark = pytest.mark.real_time


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
                app, transport, KnownHeads(None), max_message=1, contains_interrupts=True
            ).run()
    assert transport.is_closed
    assert took[0] >= 0.2
