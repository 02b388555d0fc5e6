"""One client: its requests one after the other, or its websocket, in one task.

Owns the cycle of a connection: idle, a head, an application, the rest of a body. A client cannot
crash the program, keep its connection without a request or without reading, or keep an application
after it has disconnected.
Never knows what the application responds.
"""

from __future__ import annotations

import math

import structlog
import trio

from ..._faults._containment import split_failure, summary
from .._asgi import (
    RESPOND,
    ASGIApp,
    Headers,
    HttpScope,
    Received,
    ReceiveMessage,
    SendMessage,
    WebsocketScope,
)
from .._problems import MEDIA_TYPE, STATUS, document
from ._heads import Head, RefusedError, is_websocket_handshake, parse_head, take_head
from ._request import (
    CONTINUE,
    SKIPPED_BODY_LIMIT,
    RequestBody,
    Response,
    ResponseError,
    own_response,
    scope_of,
)
from ._transport import READ_SIZE, Transport
from ._websocket import Websocket, subprotocols

KEEP_ALIVE_TIMEOUT = 5.0
"""Seconds for which a connection may be idle: without a request, or with the beginning of one."""
PROBE_AFTER = 5.0
"""Seconds after which a client that may be gone is probed: one that has closed its side, or sends
more than is read."""
CLOSE_TIMEOUT = 1.0
"""Seconds that an application has to notice that its client has disconnected."""

_ERROR_CODES = {
    STATUS[code].value: code
    for code in ("target_too_long", "head_too_large", "not_implemented", "version_not_supported")
}
_PROBLEM = [(b"Content-Type", MEDIA_TYPE.encode("ascii"))]
_DISCONNECTED: Received = {"type": "http.disconnect"}

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class Connection:
    """One client.

    Args:
        app: the ASGI application, which is awaited in the connection's own task.
        transport: the way to the client.
        max_message: bytes that a websocket's message may have.
        contains_interrupts: whether a KeyboardInterrupt ends the connection and no more.
    """

    def __init__(
        self,
        app: ASGIApp,
        transport: Transport,
        *,
        max_message: int,
        contains_interrupts: bool,
    ) -> None:
        self._app = app
        self._transport = transport
        self._max_message = max_message
        self._contains_interrupts = contains_interrupts
        self._received = bytearray()
        self._scope = trio.CancelScope()
        self._idle_until = math.inf
        self._probe_at = math.inf
        self._is_last = False
        self._is_busy = False
        self._is_disconnected = False
        self._is_half_closed = False
        self._waiting: trio.CancelScope | None = None
        self._websocket: Websocket | None = None
        self._extensions = {RESPOND: self._respond}
        self._head: Head
        self._body: RequestBody
        self._response: Response

    # The server calls these.

    async def run(self) -> None:
        """Serve the client until it disconnects, or is idle for too long, or the stop ends it."""
        try:
            with self._scope:
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
        if self._idle_until != math.inf:
            self._transport.stop_reading()

    def abort(self) -> None:
        """End the connection now."""
        self._transport.close()

    def check_peer(self) -> None:
        """End the connection if it is idle, or its client is gone or does not read.

        The server calls this every `CHECK_INTERVAL` seconds. A read notices a disconnect at once;
        but nothing is read while the application asks for no more, while more has come than it
        takes, and after the client has closed its side.
        """
        transport = self._transport
        if transport.is_closed:
            return
        if trio.current_time() >= self._idle_until:
            transport.stop_reading()
        elif transport.falls_behind():
            _log.info("client does not read", client=transport.client)
            transport.reset()
        elif not self._is_busy or self._is_disconnected or transport.is_reading:
            self._probe_at = math.inf
        elif transport.is_gone or (self._websocket is not None and transport.is_half_closed):
            self._disconnect()
        elif transport.has_unread or self._is_half_closed:
            self._probe_if_due()

    def _probe_if_due(self) -> None:
        """Probe the client, once every `PROBE_AFTER` seconds."""
        now = trio.current_time()
        if self._probe_at == math.inf:
            self._probe_at = now + PROBE_AFTER
        elif now >= self._probe_at and not self._transport.is_sending:
            self._probe_at = now + PROBE_AFTER
            self._probe()

    def _probe(self) -> None:
        """Send data that a client that is gone answers with a reset, and any other one ignores.

        The end of a client's data cannot show that it is gone: it may be behind more data than is
        read, or the client may have closed its own side only.
        """
        if self._websocket is not None:
            probe = self._websocket.probe
        else:
            waits = self._head.version == "1.1" and not self._response.has_begun
            probe = CONTINUE if waits else b""
        if not probe:
            self._transport.let_system_probe()
        elif not self._transport.try_send(probe):
            self._transport.reset()  # Data after half a probe would not be understood.

    def _disconnect(self) -> None:
        """Note that the client is gone; an application that does not notice is cancelled."""
        self._is_disconnected = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT

    # The cycle of requests.

    async def _serve(self) -> None:
        task = trio.lowlevel.current_task()
        context = task.context
        while not (self._is_disconnected or self._is_last):
            task.context = context.copy()  # In force from the next time that this task waits.
            try:
                head = await self._next_head()
                if head is None:
                    return
                if is_websocket_handshake(head):
                    await self._serve_websocket(head)
                    return
                if not await self._serve_request(head):
                    return
            except RefusedError as refused:
                await self._refuse(refused)
                return

    async def _next_head(self) -> Head | None:
        """Wait for the next request; None if there is none any more. A checkpoint."""
        if self._received:
            await trio.lowlevel.checkpoint()
        self._idle_until = trio.current_time() + KEEP_ALIVE_TIMEOUT
        try:
            while True:
                head = take_head(self._received) if self._received else None
                if head is not None:
                    return parse_head(head)
                data = await self._receive_some()
                if not data:
                    return None
                self._received += data
        finally:
            self._idle_until = math.inf

    async def _receive_some(self) -> bytes:
        """Bytes from the client; none if it sends no more or is gone."""
        try:
            return await self._transport.receive()
        except (OSError, trio.ClosedResourceError):
            self._is_disconnected = True
            return b""

    async def _serve_request(self, head: Head) -> bool:
        """Await the application for one request; return whether another may follow."""
        self._head = head
        body = self._body = RequestBody(head, self._received)
        response = self._response = Response(head)
        scope: HttpScope = {
            "type": "http",
            "method": head.method,
            "extensions": self._extensions,
            **scope_of(head, "http", self._transport),
        }
        self._is_busy = True
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException:
            await self._break_off()  # noqa: ASYNC102 - it is shielded, with a limit
            raise
        finally:
            self._is_busy = False
        if self._is_disconnected:
            return False
        if not response.has_ended:
            await self._break_off()
            raise ResponseError("the application did not complete its response")
        return response.keeps_alive and (body.is_complete or await self._skip_body(body))

    async def _break_off(self) -> None:
        """Send the part of a response that breaks off; 500 if there is none."""
        response = self._response
        if self._is_disconnected or response.has_ended:
            return
        if not response.has_begun:
            response.has_begun = True
            body = document(500, "the request could not be answered", "internal_error", {})
            response.held = own_response(500, _PROBLEM, body, has_body=self._head.method != "HEAD")
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
            await self._write(response.held)

    async def _skip_body(self, body: RequestBody) -> bool:
        """Skip the rest of a body after its response; return whether all of it was received."""
        arrived = 0
        self._idle_until = trio.current_time() + KEEP_ALIVE_TIMEOUT
        try:
            while True:
                arrived += len(body.take())
                if body.is_complete:
                    return True
                data = b"" if arrived > SKIPPED_BODY_LIMIT else await self._receive_some()
                if not data:
                    return False
                self._received += data
        except RefusedError:
            return False  # The client has its response.
        finally:
            self._idle_until = math.inf

    async def _refuse(self, refused: RefusedError, *, has_body: bool = True) -> None:
        """Answer a request that cannot be parsed, and log it in one line."""
        client = self._transport.client
        _log.info("request refused", status=refused.status, error=refused.reason, client=client)
        error_code = _ERROR_CODES.get(refused.status, "malformed_request")
        body = document(refused.status, refused.reason, error_code, {})
        await self._write(own_response(refused.status, _PROBLEM, body, has_body=has_body))

    # The application of a request calls these.

    async def _receive(self) -> ReceiveMessage:
        body, response = self._body, self._response
        while not (self._is_disconnected or response.has_ended or body.is_last_taken):
            try:
                data = body.take()
            except RefusedError as refused:
                if not response.has_begun:
                    await self._refuse(refused, has_body=response.has_body)
                self._disconnect()
                break
            if data or body.is_complete:
                body.is_last_taken = body.is_complete
                return {"type": "http.request", "body": data, "more_body": not body.is_complete}
            if body.is_expected and not response.has_begun:
                await self._write(CONTINUE)
            body.is_expected = False
            data = await self._receive_some()
            if not data:
                self._disconnect()
            self._received += data
        await self._wait_for_disconnect()
        return _DISCONNECTED

    async def _wait_for_disconnect(self) -> None:
        """Wait until the client has disconnected, or the response has ended."""
        with trio.CancelScope() as self._waiting:
            while not (self._is_disconnected or self._response.has_ended):
                if self._is_half_closed or len(self._received) >= READ_SIZE:
                    await trio.sleep_forever()
                data = await self._receive_some()
                self._received += data
                if not data and not self._is_disconnected:
                    self._is_half_closed = True
                    self._end_event_stream()
        self._waiting = None

    def _end_event_stream(self) -> None:
        """End a stream of events whose client has closed its side; any other response goes on."""
        if self._is_half_closed and self._response.streams_events:
            self._disconnect()

    async def _send(self, message: SendMessage) -> None:
        if self._is_disconnected:
            # An application that waits for nothing else would not notice it.
            await trio.lowlevel.checkpoint()
            return
        response = self._response
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            data = response.begin(message["status"], headers, left=self._body.left)
            self._end_event_stream()
        elif message["type"] == "http.response.body":
            more = message.get("more_body", False)
            data = response.body_part(message.get("body", b""), more=more)
        else:
            raise ResponseError(f"{message['type']!r} is no part of a response")
        await self._write(data)
        if response.has_ended:
            self._end_waiting()
        elif data:
            await trio.lowlevel.checkpoint()  # An application may have much to send.

    async def _respond(self, status: int, headers: Headers, body: bytes, limit: float) -> None:
        """Send a whole response, as its two messages would; see `RESPOND`."""
        if self._is_disconnected:
            await trio.lowlevel.checkpoint()  # As above.
            return
        response = self._response
        head = response.begin(status, headers, left=self._body.left)
        data = head + response.body_part(body, more=False)
        try:
            sent = self._transport.send_some(data)
            if sent < len(data):
                with trio.move_on_after(limit, shield=True) as sending:
                    await self._transport.send_rest(data, sent)
                if sending.cancelled_caught:
                    self._disconnect()
        except (OSError, trio.ClosedResourceError):
            self._disconnect()
        except BaseException:
            self._disconnect()  # As in `_write`.
            raise
        self._end_waiting()

    def _end_waiting(self) -> None:
        """End the wait of a `receive`, whose response has ended."""
        if self._waiting is not None:
            self._waiting.cancel()

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            await self._transport.send_all(data)
        except (OSError, trio.ClosedResourceError):
            self._disconnect()
        except BaseException:
            self._disconnect()  # A part may be sent, and nothing can follow it.
            raise

    # Websockets.

    async def _serve_websocket(self, head: Head) -> None:
        if self._received:
            raise RefusedError(400, "frames come after the handshake is answered")
        scope: WebsocketScope = {
            "type": "websocket",
            "subprotocols": subprotocols(head),
            "extensions": {"websocket.http.response": {}},
            **scope_of(head, "ws", self._transport),
        }
        self._websocket = Websocket(
            head, self._transport, max_size=self._max_message, ended=self._disconnect
        )
        self._is_busy = True
        try:
            await self._websocket.run(self._app, scope)
        finally:
            self._is_busy = False
