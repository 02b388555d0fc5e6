"""The HTTP server: hypercorn's parts, arranged so that a stop ends them.

Owns the listening socket, the open connections, and their limit.
Never knows what the application answers.
"""

from __future__ import annotations

import socket
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
from .._asgi import ASGIApp
from .._problems import MEDIA_TYPE, ProblemError
from ._accepting import accept_all
from ._connection import Connection, lingering_close
from ._protocol import ServerConfig

BUSY_TIMEOUT = 1.0
"""Seconds in which a client beyond the limit of connections has to read its response."""
RETRY_WHEN_BUSY = 1.0
"""Seconds after which such a client may find room."""
KEEP_ALIVE_TIMEOUT = 5.0
"""Seconds for which a connection may be idle: without a request, or with the beginning of one."""
CHECK_INTERVAL = 0.5
"""Seconds between two checks of each connection."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def open_socket(address: str) -> socket.socket:
    """Open a socket that is bound to an address, and does not listen yet.

    Args:
        address: `HOST:PORT` (port 0 is any free one), `unix:PATH`, or `fd://NUMBER`.
    """
    config = Config()
    config.bind = [address]
    (opened,) = config.create_sockets().insecure_sockets
    return opened


@asynccontextmanager
async def listening(runtime: Runtime, bind: str) -> AsyncGenerator[list[str]]:
    """Serve within this block; see `trivet.listening`."""
    settings = runtime.program.settings
    config = ServerConfig()
    config.loglevel = "WARNING"
    config.keep_alive_timeout = KEEP_ALIVE_TIMEOUT
    config.websocket_max_message_size = settings.max_body
    app = build_app(runtime)
    server = Server(
        app.asgi_app,
        bind,
        config,
        max_connections=settings.max_connections,
        contains_interrupts=runtime.contains_interrupts,
    )
    async with trio.open_nursery() as nursery:
        urls: list[str] = await nursery.start(server.serve)
        server.shield()  # Not sooner: a start that is cancelled would wait for the server for ever.
        try:
            yield urls
        finally:
            plan = runtime.begin_stop()
            with trio.CancelScope(shield=True):
                await server.stop_accepting()
                await app.drain(plan.requests_until)
            server.abort()


class Server:
    """The listening socket and the open connections.

    Args:
        app: the ASGI application.
        bind: the address, as for `open_socket`.
        config: hypercorn's configuration.
        max_connections: how many connections may be open; further ones are answered with 503.
        contains_interrupts: whether a KeyboardInterrupt ends a connection and no more.
    """

    def __init__(
        self,
        app: ASGIApp,
        bind: str,
        config: Config,
        *,
        max_connections: int,
        contains_interrupts: bool,
    ) -> None:
        self._app = wrap_app(cast("ASGIFramework", app), config.wsgi_max_body_size, mode="asgi")
        self._config = config
        self._bind = bind
        self._max_connections = max_connections
        self._contains_interrupts = contains_interrupts
        self._context = WorkerContext(None)
        self._connections: set[Connection] = set()
        self._serving = trio.CancelScope()
        self._accepting = trio.CancelScope()
        self._closed = trio.Event()

    async def serve(self, *, task_status: trio.TaskStatus[list[str]]) -> None:
        """Serve until `abort`; `task_status.started` passes the URLs on."""
        listener = open_socket(self._bind)
        listener.listen(self._config.backlog)
        url = f"http://{repr_socket_addr(listener.family, listener.getsockname())}"
        with self._serving:
            async with trio.open_nursery() as nursery:
                task_status.started([url])
                nursery.start_soon(self._check_peers)
                try:
                    async with trio.SocketListener(from_stdlib_socket(listener)) as mine:
                        with self._accepting:
                            await accept_all(mine, self._handle, nursery, url=url)
                finally:
                    self._closed.set()
                await trio.sleep_forever()

    async def _check_peers(self) -> None:
        """End the connections of clients that are gone, or do not read."""
        while True:
            await trio.sleep(CHECK_INTERVAL)
            for connection in tuple(self._connections):
                connection.check_peer()

    def shield(self) -> None:
        """Ignore cancellations from now on."""
        self._serving.shield = True

    async def stop_accepting(self) -> None:
        """Close the listening socket, and the idle connections."""
        self._accepting.cancel()
        await self._closed.wait()
        for connection in self._connections:
            connection.set_user_timeout()
        await self._context.terminated.set()
        for connection in self._connections:
            connection.close_if_idle()

    def abort(self) -> None:
        """End the connections that are left."""
        for connection in self._connections:
            connection.abort()
        self._serving.cancel()

    async def _handle(self, stream: trio.SocketStream) -> None:
        if len(self._connections) >= self._max_connections:
            await _send_busy(stream)
            return
        connection = Connection(
            self._app,
            self._config,
            self._context,
            stream,
            contains_interrupts=self._contains_interrupts,
        )
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


async def _send_busy(stream: trio.SocketStream) -> None:
    """Answer 503 without reading the request, and let the client read that."""
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
            with trio.move_on_after(BUSY_TIMEOUT):
                await stream.send_all("\r\n".join([*head, "", ""]).encode("ascii") + body)
            await lingering_close(stream)
    except trio.BrokenResourceError:
        return
