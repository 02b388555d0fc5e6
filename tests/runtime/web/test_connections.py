"""One connection: when it is idle, when it ends, and what it sends at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet._web._connections import Applications, Protocol, ServerConfig
from trivet._web._server import Server

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH = (b"content-length", b"4")
IDLE_FOR = 0.05


class Application:
    """Answers at once, or at /slow when a connection would have been idle for too long."""

    def __init__(self) -> None:
        self.begun = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            self.begun.set()
            with trio.move_on_after(4 * IDLE_FOR):
                while (await receive())["type"] != "http.disconnect":
                    continue
                return
        await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        await send({"type": "http.response.body", "body": b"done", "more_body": False})


@asynccontextmanager
async def served(
    keep_alive: float, application: Application | None = None
) -> AsyncGenerator[tuple[Server, trio.SocketStream]]:
    """Our server, and a client that is connected to it."""
    config = ServerConfig()
    config.bind = ["127.0.0.1:0"]
    config.keep_alive_timeout = keep_alive
    app: Any = application or Application()
    server = Server(app, config, max_connections=5, contains_interrupts=True)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(server.serve)
        port = int(url.rpartition(":")[2])
        with trio.fail_after(10):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                yield server, stream
        server.cut()


async def answered(stream: trio.SocketStream) -> bytes:
    """The next answer."""
    answer = b""
    while not answer.endswith(b"done"):
        received = await stream.receive_some()
        assert received, answer
        answer += received
    return answer


@pytest.mark.parametrize("sent", [b"", REQUEST[:20]])
async def test_a_client_that_asks_for_nothing(sent: bytes) -> None:
    """A connection without a whole request is closed after the keep-alive time."""
    async with served(IDLE_FOR) as (_, stream):
        if sent:
            await stream.send_all(sent)
        assert await stream.receive_some() == b""


async def test_a_connection_is_idle_between_requests_only() -> None:
    """The keep-alive time counts from the last answer, and not while one is being made."""
    async with served(IDLE_FOR) as (_, stream):
        for path in (b"/", b"/slow"):
            await stream.send_all(REQUEST.replace(b"/", path, 1))
            assert (await answered(stream)).startswith(b"HTTP/1.1 200")
        assert await stream.receive_some() == b""


@pytest.mark.parametrize("asked_before", [True, False])
async def test_who_is_idle_has_to_go_when_the_stop_begins(asked_before: bool) -> None:
    """An idle connection ends with the listening socket; one that is answered, after that."""
    application = Application()
    async with served(60, application) as (server, idle):
        if asked_before:
            await idle.send_all(REQUEST)
            await answered(idle)
        host, port = idle.socket.getpeername()
        async with await trio.open_tcp_stream(host, port) as busy:
            await busy.send_all(REQUEST.replace(b"/", b"/slow", 1))
            await application.begun.wait()
            await server.stop_accepting()
            assert await idle.receive_some() == b""
            assert (await answered(busy)).startswith(b"HTTP/1.1 200")


@asynccontextmanager
async def spoken(
    *messages: dict[str, Any],
) -> AsyncGenerator[tuple[list[bytes], list[Event], Callable[[], None]]]:
    """What a protocol has sent of an answer so far, and what else it has said; and what lets the
    application go on, which waits after each message."""
    sent: list[bytes] = []
    said: list[Event] = []
    into, out_of = trio.open_memory_channel[None](0)

    async def send(event: Event) -> None:
        if isinstance(event, RawData):
            sent.append(event.data)
        else:
            said.append(event)

    async def app(scope: Any, receive: Any, send: Any, *_: object) -> None:
        for message in messages:
            await send(message)
            await out_of.receive()

    answering: Any = app
    async with Applications() as applications:
        protocol = Protocol(
            answering, Config(), WorkerContext(None), applications, None, None, send
        )
        await protocol.handle(RawData(REQUEST))
        await wait_all_tasks_blocked()
        yield sent, said, lambda: into.send_nowait(None)


def start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """The beginning of an answer."""
    return {"type": "http.response.start", "status": 200, "headers": headers}


def body(content: bytes, *, more: bool) -> dict[str, Any]:
    """A part of its body."""
    return {"type": "http.response.body", "body": content, "more_body": more}


async def test_an_answer_is_sent_at_once(autojump_clock: MockClock) -> None:
    """The head of an answer of known length goes out with the body, and its end is no sending."""
    answer = start(LENGTH), body(b"done", more=True), body(b"", more=False)
    async with spoken(*answer) as (sent, said, go_on):
        assert sent == []
        go_on()
        await wait_all_tasks_blocked()
        (whole,) = sent
        assert whole.startswith(b"HTTP/1.1 200")
        assert whole.endswith(b"\r\n\r\ndone")
        go_on()
        await wait_all_tasks_blocked()
        assert sent == [whole]
        assert said == [Updated(idle=False), Updated(idle=True)]
        go_on()


async def test_the_head_of_a_stream_does_not_wait(autojump_clock: MockClock) -> None:
    """An answer of unknown length may last: its head goes out before there is anything else."""
    answer = start(), body(b"done", more=False)
    async with spoken(*answer) as (sent, _, go_on):
        (head,) = sent
        assert head.startswith(b"HTTP/1.1 200")
        go_on()
        await wait_all_tasks_blocked()
        go_on()
    assert b"".join(sent[1:]) == b"4\r\ndone\r\n0\r\n\r\n"


async def test_an_answer_that_breaks_off_after_its_head(autojump_clock: MockClock) -> None:
    """Of an answer that comes no further its client has the head, and then the end."""
    async with spoken(start(LENGTH)) as (sent, said, go_on):
        assert sent == []
        go_on()
        await wait_all_tasks_blocked()
        assert b"".join(sent).startswith(b"HTTP/1.1 200")
        assert said == [Updated(idle=False), Closed()]


def test_the_date_is_that_of_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each answer has is made once a second, and nobody can change it for the others."""
    config, now = ServerConfig(), 1_700_000_000.5
    for place in ("trivet._web._connections.time", "hypercorn.config.time"):
        monkeypatch.setattr(place, lambda: now)
    first = config.response_headers("h11")
    assert first == Config().response_headers("h11")
    config.response_headers("h11").clear()
    assert config.response_headers("h11") == first
    now += 1
    assert config.response_headers("h11") == Config().response_headers("h11") != first
