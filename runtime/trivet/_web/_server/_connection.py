"""One connection: its requests one after the other, or its websocket, in one task.

Owns the cycle of a connection: idle, a head, an application, the rest of a body. A client cannot
crash the program, keep its connection without a request or without reading, or keep an application
after it has disconnected.
Never knows what the application responds.
"""

from __future__ import annotations

import math
from enum import Enum, auto

import structlog
import trio

from ..._faults._containment import split_failure, summary
from .._asgi import ASGIApp, HttpScope, WebsocketScope
from .._begun import Begun
from .._importing import import_in_thread
from .._senders import FINAL_SEND_TIMEOUT
from .._shortcuts import Answer, Shortcut
from ._exchange import Exchange, refuse
from ._heads import Head, RefusedError, is_websocket_handshake, take_head
from ._known_heads import KnownHeads
from ._peer import Peer, Talk
from ._request import SKIPPED_BODY_LIMIT, RequestBody, date_line, scope_of
from ._transport import Transport

KEEP_ALIVE_TIMEOUT = 5.0
"""Seconds for which a connection may be idle: without a request, or with the beginning of one."""

_WEBSOCKET = "trivet._web._server._websocket"
"""The module for websockets, which most programs do not have."""
_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class _Phase(Enum):
    """The phases of a connection. Each of them ends, whatever the client does."""

    IDLE = auto()
    """Waiting for a request, or for the rest of a body, until the keep-alive time is over."""
    BUSY = auto()
    """Running the application, until the client is gone, or does not read."""
    BETWEEN = auto()
    """Sending a response of the server's own, or ending, until the client does not read."""


_IDLE, _BUSY, _BETWEEN = _Phase  # A member of an Enum takes long to look up.


class _LazyExchange:
    """One request that a shortcut answers, and its exchange, which is made when it is needed.

    Code of the request may ask for the scope whenever it likes: also after the response, when the
    connection has another request.

    Args:
        peer: the client.
        head: the request's.
    """

    __slots__ = ("_exchange", "_head", "_peer")

    def __init__(self, peer: Peer, head: Head) -> None:
        self._peer = peer
        self._head = head
        self._exchange: Exchange | None = None

    @property
    def exchange(self) -> Exchange:
        """The exchange; there is one."""
        if self._exchange is None:
            self._exchange = Exchange(self._peer, self._head)
        return self._exchange

    def __call__(self) -> HttpScope:
        """The scope of the request, which the application may get, too."""
        return self.exchange.scope


class Connection:
    """One connection.

    Args:
        app: the ASGI application, which is awaited in the connection's own task.
        transport: the way to the client.
        heads: the heads of the server's requests.
        max_message: bytes that a websocket's message may have.
        contains_interrupts: whether a KeyboardInterrupt ends the connection and no more.
    """

    def __init__(
        self,
        app: ASGIApp,
        transport: Transport,
        heads: KnownHeads,
        *,
        max_message: int,
        contains_interrupts: bool,
    ) -> None:
        self._app = app
        self._transport = transport
        self._heads = heads
        self._server = transport.server[0] if transport.server else ""
        self._address = transport.client[0] if transport.client else ""
        self._max_message = max_message
        self._contains_interrupts = contains_interrupts
        self._peer = Peer(transport)
        self._phase = _BETWEEN
        self._idle_until = math.inf
        """The end of the idle time; infinity until the first check of an idle connection."""
        self._is_last = False
        self._is_new = True
        self._asked: _LazyExchange
        """The request that a shortcut was asked to answer."""
        self._talk: Talk
        """The request or the websocket for which the application runs."""

    # The server calls these.

    async def run(self) -> None:
        """Serve the client until it disconnects, or is idle for too long, or the stop ends it."""
        try:
            with self._peer.scope, self._peer.requests:
                await self._serve()
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            cancelled, fault = split_failure(error, contains_interrupts=self._contains_interrupts)
            if fault is not None:
                _log.warning("connection failed", error=summary(fault), exc_info=fault)
            if cancelled is not None:
                raise cancelled from None  # noqa: ASYNC104
        finally:
            with trio.CancelScope(shield=True):
                await self._transport.lingering_close()
            self._transport.close()

    def set_user_timeout(self) -> None:
        """Disconnect the client, from now on, when it reads nothing for a second."""
        self._transport.set_user_timeout()

    def close_if_idle(self) -> None:
        """End the connection after the current response; now, if there is none."""
        self._is_last = True
        if self._phase is _IDLE:
            self._transport.stop_reading()

    @property
    def expects_request(self) -> bool:
        """Whether a request is to be expected: the first one, or the rest of one."""
        return self._phase is _IDLE and (self._is_new or bool(self._peer.received))

    @property
    def is_kept(self) -> bool:
        """Whether the client may send another request, or may not."""
        return self._phase is _IDLE and not self.expects_request

    def abort(self) -> None:
        """End the connection now."""
        self._transport.close()

    def check_peer(self) -> None:
        """End the connection if it is idle, or its client is gone or does not read.

        The server calls this every `CHECK_INTERVAL` seconds.
        """
        if self._transport.is_closed:
            return
        if self._phase is _IDLE:
            self._check_idle_time()
            return
        self._peer.drop_if_behind()
        if self._phase is _BUSY and not self._transport.is_closed:
            self._peer.check(self._talk)

    def _check_idle_time(self) -> None:
        now = trio.current_time()
        if self._idle_until == math.inf:  # A look at the clock for each request would cost more.
            self._idle_until = now + KEEP_ALIVE_TIMEOUT
        elif now >= self._idle_until:
            self._transport.stop_reading()

    # The cycle of requests.

    async def _serve(self) -> None:
        if not await self._open():
            return
        task = trio.lowlevel.current_task()
        context = task.context
        is_used = True  # Whether the context of the task may have been changed.
        while not (self._is_last or self._peer.is_gone):
            if is_used:
                task.context = context.copy()  # In force from the next time that this task waits.
            try:
                head = await self._next_head()
                if head is None:
                    return
                self._is_new = False
                answer = None if head.shortcut is None else self._ask(head, head.shortcut)
                is_used = not isinstance(answer, Answer) or answer.is_of_author
                if isinstance(answer, Answer):
                    await self._send(answer)
                elif answer is None and is_websocket_handshake(head):
                    await self._serve_websocket(head)
                    return
                elif not await self._serve_request(head, answer):
                    return
            except RefusedError as refused:
                await refuse(self._peer, refused)
                return

    async def _open(self) -> bool:
        """Open the transport; returns whether there is a client to serve."""
        self._phase = _IDLE
        try:
            return await self._transport.open()
        except RefusedError as refused:
            self._phase = _BETWEEN
            await refuse(self._peer, refused)
            return False
        except (OSError, trio.ClosedResourceError):
            return False
        finally:
            self._phase = _BETWEEN

    async def _next_head(self) -> Head | None:
        """Wait for the next request; None if there is none any more. A checkpoint."""
        received = self._peer.received
        if received:
            await trio.lowlevel.checkpoint()
        self._idle_until = math.inf
        self._phase = _IDLE
        try:
            while True:
                head = take_head(received) if received else None
                if head is not None:
                    return self._heads.parse(head, self._server)
                if not await self._peer.receive_more():
                    return None
        finally:
            self._phase = _BETWEEN

    def _ask(self, head: Head, shortcut: Shortcut) -> Answer | Begun | None:
        """Have a request answered by its shortcut; None where nothing was done."""
        received, length = self._peer.received, shortcut.length
        if len(received) < length:
            return None
        self._asked = _LazyExchange(self._peer, head)
        if not length:
            return shortcut.answer(b"", self._address, self._asked)
        answer = shortcut.answer(bytes(received[:length]), self._address, self._asked)
        if answer is not None:
            del received[:length]
        return answer

    async def _send(self, answer: Answer) -> None:
        """Send the response of a shortcut."""
        lines, body, _, after = answer
        data = b"".join((lines, date_line(), b"\r\n", body))
        try:
            await self._peer.write_within(data, FINAL_SEND_TIMEOUT)
        finally:
            if after is not None:
                await after  # noqa: ASYNC102 - shielded and bounded in there
        if self._peer.received:
            # Whoever was woken has its turn: Trio draws the order of what is due at once.
            await trio.lowlevel.checkpoint()

    async def _serve_request(self, head: Head, begun: Begun | None) -> bool:
        """Await the application for one request; return whether another may follow.

        Args:
            head: the request's.
            begun: the beginning of a response by a shortcut.
        """
        exchange = Exchange(self._peer, head) if begun is None else self._asked.exchange
        self._talk = exchange
        self._phase = _BUSY
        try:
            await exchange.run(self._app, begun)
        finally:
            self._phase = _BETWEEN
        if self._peer.is_gone or not exchange.keeps_alive:
            return False
        return exchange.body.is_complete or await self._skip_body(exchange.body)

    async def _skip_body(self, body: RequestBody) -> bool:
        """Skip the rest of a body after its response; return whether all of it was received."""
        arrived = 0
        self._idle_until = math.inf
        self._phase = _IDLE
        try:
            while True:
                arrived += len(body.take())
                if body.is_complete:
                    return True
                if arrived > SKIPPED_BODY_LIMIT or not await self._peer.receive_more():
                    return False
        except RefusedError:
            return False  # The client has its response.
        finally:
            self._phase = _BETWEEN

    async def _serve_websocket(self, head: Head) -> None:
        if self._peer.received:
            raise RefusedError(400, "frames come after the handshake is answered")
        await import_in_thread(_WEBSOCKET)
        from ._websocket import Websocket, subprotocols  # noqa: PLC0415 - with wsproto

        scope: WebsocketScope = {
            "type": "websocket",
            "subprotocols": subprotocols(head),
            "extensions": {"websocket.http.response": {}},
            **scope_of(head, "ws", self._transport),
        }
        self._talk = websocket = Websocket(
            head, self._transport, max_size=self._max_message, ended=self._peer.lose
        )
        self._phase = _BUSY
        try:
            await websocket.run(self._app, scope)
        finally:
            self._phase = _BETWEEN
