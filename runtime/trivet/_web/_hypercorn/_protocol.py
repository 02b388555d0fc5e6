"""What one client says and is told in HTTP/1.1: hypercorn's protocol, with what it lacks.

Owns what a request may be, the answer to one that cannot be read, and what becomes of the
connection after an answer: no upgrade to HTTP/2, no compressed messages, no end that was not said.
Never knows sockets, nor for how long anything may take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time

import h11
import structlog
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from .._problems import MEDIA_TYPE, STATUS, document
from ._frames import WebsocketStream
from ._heads import RefusedError, Requests, asks_for_websocket, check

REST_LIMIT = 64 * 1024
"""Bytes of a body that are let go by after an answer, so that the connection can be kept."""
_PING = b"\x89\x00"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_ERROR_CODES = {
    STATUS[code].value: code
    for code in ("target_too_long", "head_too_large", "not_implemented", "version_not_supported")
}

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


class Protocol(H11Protocol):
    """HTTP/1.1 and websockets.

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
        self._requests = self.connection = Requests()
        self._pass_on = send
        self._holds_back = False
        self._held = b""
        self._streams_events = False
        self._is_head = False

    @property
    def is_websocket(self) -> bool:
        """Whether it has become a websocket."""
        return isinstance(self.stream, WebsocketStream)

    @property
    def question(self) -> bytes:
        """What a client can be sent now that is no answer; empty if there is nothing.

        A ping, or an interim answer, which every client of HTTP/1.1 has to pass over.
        """
        requests = self._requests
        if self.is_websocket:
            is_open = requests.our_state is h11.SWITCHED_PROTOCOL
            return _PING if is_open and not self._held else b""
        waits = requests.our_state is h11.SEND_RESPONSE
        return _CONTINUE if waits and requests.their_http_version == b"1.1" else b""

    @property
    def outlives_silence(self) -> bool:
        """Whether a client that has said it will send nothing more is still to be answered.

        Not so a websocket, nor a stream of events, which lasts for as long as there is a client.
        """
        return isinstance(self.stream, HTTPStream) and not self._streams_events

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
            while self._rest_has_come():
                await super()._handle_events()
        except RefusedError as refused:
            self._requests.reason = refused.reason
            await self._send_error_response(refused.status)
            await self.send(Closed())
        except h11.RemoteProtocolError:  # In what is let go by.
            await self.send(Closed())

    def _rest_has_come(self) -> bool:
        """Let go by what is left of a body after its answer; whether that was the end of it."""
        requests = self._requests
        is_answered = self.stream is None and requests.our_state is h11.DONE
        if not is_answered or self.connection is not requests:
            return False
        while requests.their_state is h11.SEND_BODY:
            if requests.next_event() is h11.NEED_DATA:
                return False
        if requests.their_state is not h11.DONE:
            return False
        requests.start_next_cycle()
        return True

    async def _maybe_recycle(self) -> None:
        """Be ready for the next request; where the rest of a body is to come, after that."""
        requests = self._requests
        awaits_rest = requests.our_state is h11.DONE and requests.their_state is h11.SEND_BODY
        is_last = self.connection is not requests or self.context.terminated.is_set()
        if awaits_rest and not is_last:
            await self._close_stream()
            await self.send(Updated(idle=True))
        else:
            await super()._maybe_recycle()

    async def stream_send(self, event: StreamEvent) -> None:
        """Pass on what the stream sends; a handshake that was refused is its end.

        Hypercorn would keep the stream, and leave its application without a word. An answer before
        a body has come says that it is the last, where the rest is too long to be let go by.
        """
        self._holds_back = False
        if isinstance(event, Response) and isinstance(self.stream, HTTPStream):
            headers = dict(event.headers)
            self._holds_back = b"content-length" in headers
            self._streams_events = headers.get(b"content-type", b"").startswith(
                b"text/event-stream"
            )
            if self._requests.left > REST_LIMIT and b"connection" not in headers:
                event.headers.append((b"connection", b"close"))
        elif isinstance(event, StreamClosed):  # Of an answer that breaks off, its head may be left.
            await self._send_on(RawData(b""))
        await super().stream_send(event)
        if isinstance(event, EndBody) and self.is_websocket:
            await super().stream_send(StreamClosed(STREAM_ID))

    async def _send_error_response(self, status_code: int) -> None:
        """Answer what could not be read, and say so in one line of the log."""
        requests = self._requests
        error_code = _ERROR_CODES.get(status_code, "malformed_request")
        detail = requests.reason or "the request cannot be read"
        _log.info("request refused", status=status_code, error=detail, client=self.client)
        if requests.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = document(status_code, detail, error_code, {})
        headers = [
            (b"content-type", MEDIA_TYPE.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        has_body = requests.our_state is h11.IDLE or not self._is_head
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body if has_body else b""))
        await self._send_h11_event(h11.EndOfMessage())

    async def _check_protocol(self, event: h11.Request) -> None:
        """Look at the head; hypercorn would look for HTTP/2 here, of which we know nothing."""
        self._is_head = event.method == b"HEAD"
        check(event)

    async def _create_stream(self, request: h11.Request) -> None:
        """Go on with the request, as if the client had offered no extension.

        Compressed messages would be inflated before their size is looked at. The method is as it
        was written: another than its name in capitals.
        """
        kind: type[HTTPStream | WebsocketStream] = HTTPStream
        headers = list(request.headers)
        if asks_for_websocket(request):
            kind = WebsocketStream
            self.connection = H11WSConnection(self._requests)
            offered = b"sec-websocket-extensions"
            headers = [(name, value) for name, value in headers if name != offered]
        self._streams_events = False
        self.stream = kind(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode("ascii"),
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()
