"""The HTTP server: hypercorn's parts, put together so that a stop ends them.

Owns the listening socket, the connections that are open and how many there may be.
Never knows what the application answers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import (
    repr_socket_addr,  # pyright: ignore[reportUnknownVariableType]
    wrap_app,  # pyright: ignore[reportUnknownVariableType]
)
from trio.socket import from_stdlib_socket

from ..._runtime import Runtime
from .._app import build_app
from .._problems import MEDIA_TYPE, ProblemError
from ._accepting import accept_all
from ._connection import Connection, hang_up
from ._protocol import ServerConfig

BUSY_WITHIN = 1.0
"""Seconds in which a connection that is one too many has to take its answer."""
RETRY_WHEN_BUSY = 1.0
KEEP_ALIVE = 5.0
"""Seconds for which a connection may be idle: without a request, or with the first of one."""
LOOK_EVERY = 0.5
"""Seconds after which each connection is looked at."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


@asynccontextmanager
async def listening(runtime: Runtime, bind: str) -> AsyncGenerator[list[str]]:
    """Serve within this block; see `trivet.listening`."""
    settings = runtime.program.settings
    config = ServerConfig()
    config.bind = [bind]
    config.loglevel = "WARNING"
    config.keep_alive_timeout = KEEP_ALIVE
    config.websocket_max_message_size = settings.max_body
    app = build_app(runtime)
    server = Server(
        cast("ASGIFramework", app),
        config,
        max_connections=settings.max_connections,
        contains_interrupts=runtime.contains_interrupts,
    )
    async with trio.open_nursery() as nursery:
        urls: list[str] = await nursery.start(server.serve)
        server.shield()  # Not sooner: a cancelled start would wait for it for ever.
        try:
            yield urls
        finally:
            plan = runtime.begin_stop()
            with trio.CancelScope(shield=True):
                await server.stop_accepting()
                await app.finish(plan.requests_until)
            server.cut()


class Server:
    """Accepts connections, and knows those that are open.

    Args:
        app: the ASGI application.
        config: hypercorn's configuration, with one address.
        max_connections: further ones are answered with 503.
        contains_interrupts: whether a KeyboardInterrupt ends a connection and no more.
    """

    def __init__(
        self,
        app: ASGIFramework,
        config: Config,
        *,
        max_connections: int,
        contains_interrupts: bool,
    ) -> None:
        self._app = wrap_app(app, config.wsgi_max_body_size, mode="asgi")
        self._config = config
        self._max_connections = max_connections
        self._contains_interrupts = contains_interrupts
        self._context = WorkerContext(None)
        self._open: set[Connection] = set()
        self._serving = trio.CancelScope()
        self._accepting = trio.CancelScope()
        self._closed = trio.Event()

    async def serve(self, *, task_status: trio.TaskStatus[list[str]]) -> None:
        """Serve until `cut`; `started()` gives the URLs."""
        (listener,) = self._config.create_sockets().insecure_sockets
        listener.listen(self._config.backlog)
        url = f"http://{repr_socket_addr(listener.family, listener.getsockname())}"
        with self._serving:
            async with trio.open_nursery() as nursery:
                task_status.started([url])
                nursery.start_soon(self._look)
                try:
                    async with trio.SocketListener(from_stdlib_socket(listener)) as mine:
                        with self._accepting:
                            await accept_all(mine, self._handle, nursery, url=url)
                finally:
                    self._closed.set()
                await trio.sleep_forever()

    async def _look(self) -> None:
        """End the clients that have left, or do not read, where reading does not show it."""
        while True:
            await trio.sleep(LOOK_EVERY)
            for connection in tuple(self._open):
                connection.look()

    def shield(self) -> None:
        """From now on a cancellation is no reason to end."""
        self._serving.shield = True

    async def stop_accepting(self) -> None:
        """Close the listening socket, and the connections on which nothing is going on."""
        self._accepting.cancel()
        await self._closed.wait()
        for connection in self._open:
            connection.give_up_on_silence()
        await self._context.terminated.set()
        for connection in self._open:
            connection.leave_if_idle()

    def cut(self) -> None:
        """End what is left."""
        for connection in self._open:
            connection.cut()
        self._serving.cancel()

    async def _handle(self, stream: trio.SocketStream) -> None:
        if len(self._open) >= self._max_connections:
            await _send_busy(stream)
            return
        connection = Connection(
            self._app,
            self._config,
            self._context,
            stream,
            contains_interrupts=self._contains_interrupts,
        )
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)


async def _send_busy(stream: trio.SocketStream) -> None:
    """Answer without reading the request, and let the client read that."""
    problem = ProblemError(
        "too_many_connections", "too many connections are open", retry_after=RETRY_WHEN_BUSY
    )
    body = problem.document()
    head = [
        f"HTTP/1.1 {problem.status.value} {problem.status.phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
    ]
    try:
        async with stream:
            with trio.move_on_after(BUSY_WITHIN):
                await stream.send_all("\r\n".join([*head, "", ""]).encode("ascii") + body)
            await hang_up(stream)
    except trio.BrokenResourceError:
        return
