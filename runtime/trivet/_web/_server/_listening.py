"""A server within a block: its sockets, and their end at a stop.

Owns the listening socket, the open connections, and their limit.
Never knows what the application responds.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import structlog
import trio
from trio.socket import from_stdlib_socket

from ..._access._attempts import network_of
from ..._faults._errors import ListenerLostError
from ..._program._settings import TOKENS, refuse_open_doors
from ..._runtime import Runtime
from .._asgi import ASGIApp
from .._late import build_service
from .._problems import MEDIA_TYPE, ProblemError
from .._service import Service
from .._shortcuts import FindShortcut
from .._traffic import ServerStatistics
from ._accepting import accept_all
from ._binding import BACKLOG, address_of, bind_socket, url_of
from ._connection import KEEP_ALIVE_TIMEOUT, Connection
from ._known_heads import KnownHeads
from ._request import own_response
from ._tls import TlsTransport
from ._transport import Transport

BUSY_TIMEOUT = 1.0
"""Seconds in which a client beyond the limit of connections has to read its response."""
RETRY_WHEN_BUSY = 1.0
"""Seconds after which such a client may find room."""
KEPT_WITHIN = KEEP_ALIVE_TIMEOUT + 1.0
"""Seconds in which connections that are kept end, when another process takes over."""
ARRIVE_WITHIN = KEEP_ALIVE_TIMEOUT
"""Seconds in which a request arrives then that is on its way: as long as ever."""
LOOK_EVERY = 0.02
"""Seconds between two looks at these connections."""
CHECK_INTERVAL = 0.5
"""Seconds between two checks of each connection."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


@asynccontextmanager
async def listening(
    runtime: Runtime, binds: Sequence[str], management_binds: Sequence[str]
) -> AsyncGenerator[list[str]]:
    """Serve within this block; see `trivet.listening`."""
    settings = runtime.program.settings
    async with trio.open_nursery() as nursery:
        addresses = [address_of(bind) for bind in binds]
        management = [address_of(bind) for bind in management_binds]
        refuse_open_doors(settings, addresses, management)
        service = await build_service(runtime, addresses, management)
        scopes, bound = sorted(service.doors.open_scopes), [*addresses, *management]
        if settings.insecure:
            said = "insecure: clients without a token have these scopes"
            _log.warning(said, scopes=scopes, bind=bound, hint=TOKENS)
        elif settings.trusted_proxies and scopes:
            said = "proxies let others in, who have these scopes without a token"
            _log.warning(said, scopes=scopes, proxies=settings.trusted_proxies, hint=TOKENS)
        server = Server(
            service,
            management_app=service.manage,
            shortcut=service.shortcut,
            is_token=service.doors.is_token,
            max_connections=settings.max_connections,
            max_per_address=settings.max_connections_per_address,
            max_message=settings.max_body,
            contains_interrupts=runtime.contains_interrupts,
            tls=runtime.program.tls,
        )
        service.traffic.of_server = server.statistics
        runtime.check_doors = partial(refuse_open_doors, addresses=addresses, management=management)
        runtime.on_adopt.append(partial(server.heed, runtime))
        serve = partial(server.serve, management=management_binds)
        urls: list[str] = await nursery.start(serve, *binds)
        keeping = trio.CancelScope()
        nursery.start_soon(_keep_series, service, keeping)
        server.shield()  # Not sooner: a start that is cancelled would wait for the server for ever.
        try:
            yield urls
        finally:
            with trio.CancelScope(shield=True):
                if runtime.leaving.is_set() and not runtime.stopping.is_set():
                    await server.leave_clients(runtime.stopping)
                plan = runtime.begin_stop()
                await server.stop_accepting()
                await service.drain(plan.requests_until)
            keeping.cancel()
            server.abort()


async def _keep_series(service: Service, keeping: trio.CancelScope) -> None:
    with keeping:
        await service.series.keep()


class Server:
    """The listening sockets and the open connections.

    Args:
        app: the ASGI application.
        management_app: the one at addresses for management, if there are any.
        shortcut: finds the shortcuts of requests, without those at addresses for management; None
            where there are none.
        is_token: says whether an `Authorization` has a token; None where there are no tokens.
        max_connections: how many connections may be open, and as many for management; further ones
            are answered with 503.
        max_per_address: how many of them from one address; None for all.
        max_message: bytes that a websocket's message may have.
        contains_interrupts: whether a KeyboardInterrupt ends a connection and no more.
        tls: the certificate for TCP addresses, at which TLS is spoken then.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        management_app: ASGIApp | None = None,
        shortcut: FindShortcut | None = None,
        is_token: Callable[[bytes], bool] | None = None,
        max_connections: int,
        max_per_address: int | None = None,
        max_message: int,
        contains_interrupts: bool,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.tls = tls
        """The certificate of connections that are still to come."""
        self._app = app
        self._management_app = management_app or app
        self._connection = partial(
            Connection, max_message=max_message, contains_interrupts=contains_interrupts
        )
        self._heads = KnownHeads(shortcut, is_token)
        self._management_heads = KnownHeads(None, is_token)
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._by_app = Counter[ASGIApp]()
        self._by_network = Counter[str]()
        self._connections: dict[Connection, Transport] = {}
        self._refused = 0
        self._received = 0
        self._sent = 0
        self._serving = trio.CancelScope()
        self._accepting = trio.CancelScope()
        self._closed = trio.Event()

    def heed(self, runtime: Runtime) -> None:
        """Serve further connections by the present settings of the program."""
        settings = runtime.program.settings
        self.tls = runtime.program.tls
        self._max_connections = settings.max_connections
        self._max_per_address = settings.max_connections_per_address
        self._connection = partial(self._connection, max_message=settings.max_body)
        self._heads.forget()
        self._management_heads.forget()

    async def serve(
        self,
        *binds: str,
        management: Sequence[str] = (),
        task_status: trio.TaskStatus[list[str]],
    ) -> None:
        """Serve at addresses until `abort`; `task_status.started` passes the URLs on.

        Args:
            binds: the addresses.
            management: those for management, whose URLs are the last ones.
            task_status: Trio's.
        """
        listeners = _bound([*binds, *management])
        apps = [self._app] * len(binds) + [self._management_app] * len(management)
        urls = [url_of(each, is_secure=self.tls is not None) for each in listeners]
        with self._serving:
            async with trio.open_nursery() as nursery:
                task_status.started(urls)
                nursery.start_soon(self._check_peers)
                try:
                    with self._accepting:
                        async with trio.open_nursery() as accepting:
                            for app, url, listener in zip(apps, urls, listeners, strict=True):
                                accepting.start_soon(self._accept, listener, url, app, nursery)
                finally:
                    self._closed.set()
                await trio.sleep_forever()

    async def _accept(
        self, listener: socket.socket, url: str, app: ASGIApp, nursery: trio.Nursery
    ) -> None:
        try:
            waiting = trio.SocketListener(from_stdlib_socket(listener))
        except (OSError, ValueError) as error:  # A plugin was quicker than this.
            listener.close()
            message = f"{url} does not listen any more: its socket was closed, or shut down"
            raise ListenerLostError(message) from error
        async with waiting as mine:
            await accept_all(mine, partial(self._handle, app), nursery, url=url)

    async def _check_peers(self) -> None:
        """End the connections of clients that are idle, gone, or do not read."""
        while True:
            await trio.sleep(CHECK_INTERVAL)
            for connection in tuple(self._connections):
                connection.check_peer()

    def statistics(self) -> ServerStatistics:
        """The connections now, and what they have carried since the start."""
        open_now = self._connections.values()
        return ServerStatistics(
            connections=len(self._connections),
            refused=self._refused,
            received=self._received + sum(each.received for each in open_now),
            sent=self._sent + sum(each.sent for each in open_now),
        )

    def shield(self) -> None:
        """Ignore cancellations from now on."""
        self._serving.shield = True

    async def leave_clients(self, stopping: trio.Event) -> None:
        """Leave the clients to another process, with no request refused, and none lost.

        Connections are not kept any longer, which each response says. First the idle ones have the
        time that they have anyway; meanwhile others are accepted. Then the listening socket is
        closed, and requests that are on their way are waited for.

        Args:
            stopping: set when there is no time for that.
        """
        now = trio.current_time()
        await self._while_any(lambda each: each.is_kept, now + KEPT_WITHIN, stopping)
        self._accepting.cancel()
        await self._closed.wait()
        now = trio.current_time()
        await self._while_any(lambda each: each.expects_request, now + ARRIVE_WITHIN, stopping)

    async def _while_any(
        self, which: Callable[[Connection], bool], until: float, stopping: trio.Event
    ) -> None:
        with trio.move_on_at(until):
            # No event says so.
            while any(map(which, self._connections)) and not stopping.is_set():  # noqa: ASYNC110
                await trio.sleep(LOOK_EVERY)

    async def stop_accepting(self) -> None:
        """Close the listening socket, and the idle connections."""
        self._accepting.cancel()
        await self._closed.wait()
        for connection in self._connections:
            connection.set_user_timeout()
            connection.close_if_idle()

    def abort(self) -> None:
        """End the connections that are left."""
        for connection in self._connections:
            connection.abort()
        self._serving.cancel()

    async def _handle(self, app: ASGIApp, stream: trio.SocketStream) -> None:
        try:
            transport = self._transport(stream.socket)
        except OSError:
            return  # The client is gone already.
        network = network_of(transport.client[0]) if transport.client else ""
        if self._by_app[app] >= self._max_connections:
            self._refused += 1
            await _send_busy(transport, "too many connections are open")
            return
        if network and self._by_network[network] >= (self._max_per_address or math.inf):
            self._refused += 1
            await _send_busy(transport, "too many connections from this address are open")
            return
        heads = self._heads if app is self._app else self._management_heads
        connection = self._connection(app, transport, heads)
        self._connections[connection] = transport
        self._by_app[app] += 1
        self._by_network[network] += 1
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            self._received += transport.received
            self._sent += transport.sent
            self._by_app[app] -= 1
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]

    def _transport(self, connected: trio.socket.SocketType) -> Transport:
        if self.tls is None or connected.family == socket.AF_UNIX:
            return Transport(connected)
        return TlsTransport(connected, self.tls)


def _bound(binds: Sequence[str]) -> list[socket.socket]:
    """Sockets that listen at these addresses; none is left open where one of them fails."""
    with ExitStack() as opened:
        listeners = [opened.enter_context(bind_socket(bind)) for bind in binds]
        for listener in listeners:
            listener.listen(BACKLOG)
        opened.pop_all()
    return listeners


async def _send_busy(transport: Transport, detail: str) -> None:
    """Answer 503 without reading the request, and let the client read that.

    With TLS the connection is closed at once: a handshake is too much work for a busy server.
    """
    if transport.is_secure:
        transport.close()
        return
    problem = ProblemError("too_many_connections", detail, retry_after=RETRY_WHEN_BUSY)
    headers = [(b"Content-Type", MEDIA_TYPE.encode("ascii"))]
    for name, value in problem.headers.items():
        headers.append((name.encode("ascii"), value.encode("ascii")))
    answer = own_response(problem.status.value, headers, problem.document())
    try:
        with trio.move_on_after(BUSY_TIMEOUT):
            await transport.send_all(answer)
        await transport.lingering_close()
    except OSError:
        return
    finally:
        transport.close()
