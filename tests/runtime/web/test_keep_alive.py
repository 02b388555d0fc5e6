"""Kept-alive connections behind the real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

from trivet import Runtime, create_app
from trivet.testing import open_plugins

REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def bare(runtime: Runtime) -> QuartTrio:
    """The same application without what is around each request."""
    app = QuartTrio("bare", static_folder=None)

    @app.get("/livez")
    async def alive() -> str:
        return "alive"

    return app


@asynccontextmanager
async def served(
    build: Callable[[Runtime], QuartTrio], *, keep_alive: float
) -> AsyncGenerator[tuple[trio.SocketStream, trio.Event, trio.Event]]:
    """A client that is connected to hypercorn, and the events that stop it and say it has."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.keep_alive_timeout = keep_alive
    config.graceful_timeout = 30
    stop, stopped = trio.Event(), trio.Event()

    async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
        await hypercorn.trio.serve(  # pyright: ignore[reportUnknownMemberType]
            build(runtime), config, shutdown_trigger=stop.wait, task_status=task_status
        )
        stopped.set()

    async with open_plugins() as runtime, trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve)
        port = int(url.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            yield stream, stop, stopped
        nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream) -> bytes:
    """Send a request, and read its answer to the last byte."""
    await stream.send_all(REQUEST)
    answer = b""
    while not answer.endswith((b"alive", b'"alive"}\n')):
        answer += await stream.receive_some()
    return answer


async def test_an_idle_connection_is_closed() -> None:
    """The server's keep-alive time-out ends a connection that has had its answers."""
    async with served(create_app, keep_alive=0.05) as (stream, _, _):
        with trio.fail_after(5):
            assert (await ask(stream)).startswith(b"HTTP/1.1 200")
            assert await stream.receive_some() == b""


async def test_a_connection_serves_several_requests() -> None:
    """Until then it is kept alive."""
    async with served(create_app, keep_alive=5) as (stream, _, _):
        with trio.fail_after(5):
            for _ in range(3):
                assert (await ask(stream)).startswith(b"HTTP/1.1 200")


async def test_an_idle_connection_does_not_hold_up_the_stop() -> None:
    """A stop closes a connection that is idle, instead of waiting for the grace to pass."""
    async with served(create_app, keep_alive=60) as (stream, stop, stopped):
        with trio.fail_after(5):
            assert (await ask(stream)).startswith(b"HTTP/1.1 200")
            stop.set()
            assert await stream.receive_some() == b""
            await stopped.wait()


async def test_the_stack_still_needs_our_help() -> None:
    """Bare Quart-Trio leaves the connection open: when this fails, the workaround can go."""
    async with served(bare, keep_alive=0.05) as (stream, _, _):
        assert (await ask(stream)).startswith(b"HTTP/1.1 200")
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.5):
            await stream.receive_some()
