"""Streams over a real connection: how fast a client can send, and what it costs the server."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import pytest
import trio

from trivet import App, DeliverySettings, Event, EventPlugin, ShutdownSettings
from trivet.testing import open_plugins, serving

pytestmark = pytest.mark.real_time

MIB = 1024 * 1024
LINE = b'{"text": "%s"}\n' % (b"x" * 10_000)
TOGETHER = LINE * 20
PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""An interim response, by which the server finds out whether a client that is held for seconds is
still there."""


class Text(Event):
    text: str


class Valve(EventPlugin[Text]):
    """A subscriber that handles nothing before it is opened."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=10, block_for=600)

    def __init__(self, app: App) -> None:
        self.opened = trio.Event()
        self.count = 0

    async def handle_event(self, event: Text) -> None:
        await self.opened.wait()
        self.count += 1


class Impatient(Valve):
    """A subscriber of that kind, for whose room publishers wait for a tenth of a second only."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=10, block_for=0.1)


async def connect(url: str, size: int) -> trio.SocketStream:
    """A connection on which a stream of `length` bytes was announced."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    head = (
        "POST /events/text HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {size}\r\nConnection: close\r\n\r\n"
    )
    await stream.send_all(head.encode())
    return stream


async def answer(stream: trio.SocketStream) -> tuple[int, Any]:
    """The status and the document of the final response."""
    received = b""
    while data := await stream.receive_some(65536):
        received += data
    while received.startswith(PROBE):
        received = received.removeprefix(PROBE)
    status = int(received.split()[1])  # The document may stand in a chunk.
    return status, json.loads(received[received.index(b"{") : received.rindex(b"}") + 1])


@contextmanager
def at_most(mebibytes: int) -> Generator[None]:
    """Assert that Python's memory never grows by more than the limit."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
        assert peak < mebibytes * MIB
    finally:
        tracemalloc.stop()


async def test_back_pressure_reaches_the_client() -> None:
    """A client that streams to a plugin that takes nothing stops once the system's buffers are
    full; when the plugin goes on, so does the stream, to its end, and nothing is lost."""
    blocks = 50 * MIB // len(TOGETHER)
    async with open_plugins(Valve) as runtime, serving(runtime) as url:
        with at_most(6):
            async with await connect(url, blocks * len(TOGETHER)) as stream:
                sent = 0
                async with trio.open_nursery() as nursery:

                    async def send() -> None:
                        nonlocal sent
                        for _ in range(blocks):
                            await stream.send_all(TOGETHER)
                            sent += len(TOGETHER)

                    nursery.start_soon(send)
                    before = -1
                    while sent > before:  # Until nothing went out for half a second.
                        before = sent
                        await trio.sleep(0.5)
                    stopped_at = sent
                    runtime.get(Valve).opened.set()
                status, document = await answer(stream)
        count = blocks * 20
        assert runtime.get(Valve).count >= count - 11  # The last event may still wait in the inbox.
    assert stopped_at < 8 * MIB
    assert status == 202
    assert document["fates"] == {"valve": {"queued": count}}


async def test_an_answer_in_the_middle() -> None:
    """A client that is refused while it sends is told so, and where to go on."""
    async with open_plugins(Impatient) as runtime, serving(runtime) as url:
        async with await connect(url, 50 * MIB) as stream:
            refused: tuple[int, Any] | None = None

            async def send() -> None:
                try:
                    while True:
                        await stream.send_all(TOGETHER)
                except trio.BrokenResourceError:
                    return

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                refused = await answer(stream)
                nursery.cancel_scope.cancel()
        runtime.get(Impatient).opened.set()
    assert refused is not None
    status, problem = refused
    assert (status, problem["error_code"]) == (429, "not_accepted")
    assert problem["resume_from"] == 12  # One in flight, ten in the inbox.


async def test_a_stop_while_a_client_is_held() -> None:
    """A stream that waits for room is cut off when the requests' time is over, and its client,
    which is in the midst of sending, is told where to go on."""
    shutdown = ShutdownSettings(requests=0.3, drain=0.3)
    async with open_plugins(Valve, shutdown=shutdown) as runtime, trio.open_nursery() as nursery:

        async def stream_on(stream: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while True:
                    await stream.send_all(TOGETHER)

        async with serving(runtime) as url:
            stream = await connect(url, 50 * MIB)
            nursery.start_soon(stream_on, stream)
            with trio.fail_after(60):
                while runtime.statistics()["valve"].accepted < 11:
                    await trio.sleep(0.01)
            begun = trio.current_time()
        assert trio.current_time() - begun < 2
        status, problem = await answer(stream)
        await stream.aclose()
        nursery.cancel_scope.cancel()
    assert (status, problem["error_code"]) == (503, "stopping")
    assert problem["resume_from"] == 12
