"""One client's connection: hypercorn's, with what it lacks.

Owns what a connection may do to the program: it cannot end it, nor make it inflate, switch
protocols, read a head that means two things, or go on listening when all is said.
Never knows requests and answers; they are the application's.
"""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import time
from typing import Any

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import EndBody, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    ConnectionState,
    Scope,
)
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]

from .._containment import includes, split_cancelled, summary

HEAD_LIMIT = 16 * 1024
"""Bytes that a request's headers may have, however they arrive."""
UNREAD_FOR = 1000
"""Milliseconds that sent data may stay unread once the stop has begun."""
LEAVE_WITHIN = 1.0
"""Seconds that a client has to close a connection on which all is said, and an application to take
notice of a client that has left."""
CHUNK = 64 * 1024
"""Bytes that are read at once."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class ServerConfig(Config):
    """Hypercorn's configuration, which would write the date anew for each answer."""

    _written: tuple[int, str, list[tuple[bytes, bytes]]] = (0, "", [])

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        """The headers that every answer has; the same ones for a second."""
        second = int(time())
        if self._written[:2] != (second, protocol):
            self._written = (second, protocol, super().response_headers(protocol))
        return list(self._written[2])


class _RefusedError(Exception):
    """A request that is answered here, with this status and nothing else."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Protocol(H11Protocol):
    """HTTP/1.1 and websockets, without the upgrade to HTTP/2 and without compressed messages.

    The head of an answer whose length is known goes out with the first of its body.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        applications: TaskGroup,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        state = ConnectionState({})
        super().__init__(
            app, config, context, applications, state, False, client, server, self._send_on
        )
        self._pass_on = send
        self._holds_back = False
        self._held = b""

    async def _send_on(self, event: Event) -> None:
        """Send what there is to send, if there is any, unless more follows at once."""
        if not isinstance(event, RawData):
            await self._pass_on(event)
            return
        self._held += event.data
        if self._held and not self._holds_back:
            data, self._held = self._held, b""
            await self._pass_on(RawData(data))

    async def _handle_events(self) -> None:
        try:
            await super()._handle_events()
        except _RefusedError as refused:
            await self._send_error_response(refused.status)
            await self.send(Closed())

    async def handle(self, event: Event) -> None:
        """Take what the client sends; a message that is too large is the last.

        Hypercorn says so (1009), and would go on collecting it.
        """
        await super().handle(event)
        if isinstance(self.stream, WSStream):
            message = self.stream.buffer
            if message.length > message.max_length:
                await self.stream_send(StreamClosed(STREAM_ID))

    async def stream_send(self, event: StreamEvent) -> None:
        """Pass on what the stream sends; a handshake that was refused is its end.

        Hypercorn would keep the stream, and leave its application without a word.
        """
        self._holds_back = (
            isinstance(event, Response)
            and isinstance(self.stream, HTTPStream)
            and any(name == b"content-length" for name, _ in event.headers)
        )
        if isinstance(event, StreamClosed):  # Of an answer that breaks off, its head may be left.
            await self._send_on(RawData(b""))
        await super().stream_send(event)
        if isinstance(event, EndBody) and isinstance(self.stream, WSStream):
            await super().stream_send(StreamClosed(STREAM_ID))

    async def _close_stream(self) -> None:
        """Tell the application that it is over, unless its queue of messages stays full."""
        if isinstance(self.stream, WSStream):
            with trio.move_on_after(LEAVE_WITHIN):
                await super()._close_stream()
            self.stream = None
        else:
            await super()._close_stream()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Look at the head; hypercorn would look for HTTP/2 here, of which we know nothing."""
        names = [name for name, _ in event.headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise _RefusedError(400)  # Whoever stands before us may see the other length.
        if event.http_version > b"1.1":
            raise _RefusedError(505)
        if sum(len(name) + len(value) + 4 for name, value in event.headers) > HEAD_LIMIT:
            raise _RefusedError(431)

    async def _create_stream(self, request: h11.Request) -> None:
        """Go on with the request, as if the client had offered no extension.

        Compressed messages would be inflated before their size is looked at.
        """
        offered = b"sec-websocket-extensions"
        headers = [(name, value) for name, value in request.headers if name != offered]
        if len(headers) < len(request.headers):
            request = h11.Request(
                method=request.method,
                target=request.target,
                headers=headers,
                http_version=request.http_version,
            )
        await super()._create_stream(request)


class Applications(TaskGroup):
    """The applications of a connection, each with a task and a queue of messages.

    Of a request, a message that finds room, or is there already, costs no turn of the loop, as it
    does in hypercorn.
    """

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Begin one; returns what hands messages to it."""
        if scope["type"] != "http":
            return await super().spawn_app(app, config, scope, send)
        into, out_of = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)

        async def put(message: ASGIReceiveEvent) -> None:
            """Hand over a message, and wait where too many are waiting; the last, not for ever."""
            try:
                into.send_nowait(message)
            except trio.WouldBlock:
                is_last = message["type"] == "http.disconnect"
                with trio.move_on_after(LEAVE_WITHIN if is_last else math.inf):
                    await into.send(message)

        async def take() -> ASGIReceiveEvent:
            """Wait for the next message."""
            try:
                return out_of.receive_nowait()
            except trio.WouldBlock:
                return await out_of.receive()

        async def answer(
            scope: Scope,
            receive: ASGIReceiveCallable,
            send: ASGISendCallable,
            sync_spawn: Callable[..., Any],
            call_soon: Callable[..., Any],
        ) -> None:
            """Take from this queue, and not from hypercorn's."""
            await app(scope, take, send, sync_spawn, call_soon)

        await super().spawn_app(answer, config, scope, send)
        return put


class Connection(TCPServer):
    """A connection that ends alone, whatever becomes of it."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        *,
        contains_interrupts: bool,
    ) -> None:
        super().__init__(app, config, context, {}, stream)  # type: ignore[arg-type]
        self._stream = stream
        self._socket = stream.socket
        self._contains_interrupts = contains_interrupts
        self._listening = trio.CancelScope()
        self._is_idle = True
        self._is_over = False

    async def run(self) -> None:
        """Serve the client until it leaves, or is idle for too long, or the stop ends it."""
        try:
            await self._run()
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            cancelled, fault = split_cancelled(error)
            if includes(fault, KeyboardInterrupt) and not self._contains_interrupts:
                raise
            if fault is not None:
                _log.warning("connection failed", error=summary(fault), exc_info=fault)
            if cancelled is not None:
                raise cancelled from None  # noqa: ASYNC104

    def give_up_on_silence(self) -> None:
        """From now on a client that reads nothing for a second is gone (on Linux).

        Set from the beginning, it would cut off clients that only pause.
        """
        is_open_tcp = self._socket.fileno() >= 0 and self._socket.family != socket.AF_UNIX
        if sys.platform == "linux" and is_open_tcp:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_FOR)

    def cut(self) -> None:
        """End it now, also while it sends, which hypercorn does in a shield."""
        self._socket.close()

    def leave_if_idle(self) -> None:
        """End it if nothing is going on."""
        if self._is_idle:
            self._listening.cancel()

    async def protocol_send(self, event: Event) -> None:
        """Send, or end the connection, which is left to who reads from it."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self._idle(event.idle)
        else:
            self._say_no_more()

    async def _send(self, data: bytes) -> None:
        try:
            self.send_lock.acquire_nowait()  # Which has no turn of the loop, as `async with` has.
        except trio.WouldBlock:
            await self.send_lock.acquire()
        try:
            with trio.CancelScope(shield=True):
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._say_no_more()
        finally:
            self.send_lock.release()

    def _say_no_more(self) -> None:
        self._is_over = True
        self._listening.cancel()

    def _idle(self, is_idle: bool) -> None:
        """Wait for the next request, for so long; hypercorn begins a task to do so, each time."""
        self._is_idle = is_idle
        seconds = self.config.keep_alive_timeout if is_idle else math.inf
        self._listening.deadline = trio.current_time() + seconds

    async def _read_data(self) -> None:
        self._idle(True)
        with self._listening:
            await self._listen()
        await self.protocol.handle(Closed())
        if self._is_over:
            await hang_up(self._stream)

    async def _listen(self) -> None:
        while True:
            try:
                data = await self.stream.receive_some(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            await self.protocol.handle(RawData(bytes(data)))
            if not data:
                return

    async def _run(self) -> None:
        family = self._socket.family
        try:
            client = parse_socket_addr(family, self._socket.getpeername())
            server = parse_socket_addr(family, self._socket.getsockname())
            with trio.CancelScope() as applications:
                async with Applications() as task_group:
                    self.protocol = Protocol(  # type: ignore[assignment]
                        self.app,
                        self.config,
                        self.context,
                        task_group,
                        client,
                        server,
                        self.protocol_send,
                    )
                    await self._read_data()
                    # Who has messages waiting, and does not take them, cannot be told.
                    applications.deadline = trio.current_time() + LEAVE_WITHIN
        except OSError:
            return  # The client is gone.
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await self._close()


async def hang_up(stream: trio.SocketStream) -> None:
    """Say that nothing follows, and let the client read what was sent.

    To close while there is something unread would reset the connection, and lose it.
    """
    gone = suppress(trio.BrokenResourceError, trio.ClosedResourceError)
    with trio.move_on_after(LEAVE_WITHIN), gone:
        with suppress(trio.BusyResourceError):  # The end of an answer is still on its way.
            await stream.send_eof()
        while await stream.receive_some(CHUNK):
            continue
