"""HTTP/1.1 on one connection: hypercorn's protocol, with stricter rules.

Owns which requests are refused, the response to one that cannot be parsed, and whether the
connection is kept after a response. There is no upgrade to HTTP/2, no compression of messages, and
no end of the connection that was not announced.
Never knows sockets, nor time limits.
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
from ._heads import RequestParser, RequestRefusedError, check_head, is_websocket_handshake

SKIPPED_BODY_LIMIT = 64 * 1024
"""Bytes of a body that are skipped after a response, so that the connection can be kept."""
_PING = b"\x89\x00"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_ERROR_CODES = {
    STATUS[code].value: code
    for code in ("target_too_long", "head_too_large", "not_implemented", "version_not_supported")
}

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class ServerConfig(Config):
    """Hypercorn's configuration, whose headers are made once a second and not for each response."""

    _cached: tuple[int, str, list[tuple[bytes, bytes]]] = (0, "", [])

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        """The headers of every response, such as the date; the same ones for a second."""
        second = int(time())
        if self._cached[:2] != (second, protocol):
            self._cached = (second, protocol, super().response_headers(protocol))
        return list(self._cached[2])


class Protocol(H11Protocol):
    """HTTP/1.1 and websockets.

    The head of a response of known length is sent together with the first part of its body.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        state = ConnectionState({})
        super().__init__(
            app, config, context, task_group, state, False, client, server, self._flush
        )
        self._parser = self.connection = RequestParser()
        self._send_event = send
        self._holds_back = False
        self._held = b""
        self._streams_events = False
        self._is_head = False

    @property
    def is_websocket(self) -> bool:
        """Whether it has become a websocket."""
        return isinstance(self.stream, WebsocketStream)

    @property
    def probe(self) -> bytes:
        """Bytes that show whether the client is there; empty if none can be sent now.

        They are a ping, or an interim response, which every client of HTTP/1.1 has to pass over.
        """
        parser = self._parser
        if self.is_websocket:
            is_open = parser.our_state is h11.SWITCHED_PROTOCOL
            return _PING if is_open and not self._held else b""
        waits = parser.our_state is h11.SEND_RESPONSE
        return _CONTINUE if waits and parser.their_http_version == b"1.1" else b""

    @property
    def outlives_half_close(self) -> bool:
        """Whether a client that has closed its side of the connection is still to be answered.

        A websocket is not, nor is a stream of events, which lasts for as long as there is a client.
        """
        return isinstance(self.stream, HTTPStream) and not self._streams_events

    async def _flush(self, event: Event) -> None:
        """Send what is held back, and this event, unless more follows at once."""
        if not isinstance(event, RawData):
            await self._send_event(event)
            return
        self._held += event.data
        if self._held and not self._holds_back:
            data, self._held = self._held, b""
            await self._send_event(RawData(data))

    async def _handle_events(self) -> None:
        try:
            await super()._handle_events()
            while self._skip_body():
                await super()._handle_events()
        except RequestRefusedError as refused:
            self._parser.reason = refused.reason
            await self._send_error_response(refused.status)
            await self.send(Closed())
        except h11.RemoteProtocolError:  # In the body that is skipped.
            await self.send(Closed())

    def _skip_body(self) -> bool:
        """Skip the rest of a body after its response; returns whether the body has ended."""
        parser = self._parser
        is_answered = self.stream is None and parser.our_state is h11.DONE
        if not is_answered or self.connection is not parser:
            return False
        while parser.their_state is h11.SEND_BODY:
            if parser.next_event() is h11.NEED_DATA:
                return False
        if parser.their_state is not h11.DONE:
            return False
        parser.start_next_cycle()
        return True

    async def _maybe_recycle(self) -> None:
        """Be ready for the next request, once the rest of the body was skipped."""
        parser = self._parser
        awaits_rest = parser.our_state is h11.DONE and parser.their_state is h11.SEND_BODY
        is_last = self.connection is not parser or self.context.terminated.is_set()
        if awaits_rest and not is_last:
            await self._close_stream()
            await self.send(Updated(idle=True))
        else:
            await super()._maybe_recycle()

    async def stream_send(self, event: StreamEvent) -> None:
        """Send an event of the stream; the refusal of a handshake ends the stream.

        Hypercorn would keep that stream, and never tell its application. A response before the body
        was received says that it is the last one, where the rest is too long to be skipped.
        """
        self._holds_back = False
        if isinstance(event, Response) and isinstance(self.stream, HTTPStream):
            headers = dict(event.headers)
            self._holds_back = b"content-length" in headers
            self._streams_events = headers.get(b"content-type", b"").startswith(
                b"text/event-stream"
            )
            if self._parser.remaining > SKIPPED_BODY_LIMIT and b"connection" not in headers:
                event.headers.append((b"connection", b"close"))
        elif isinstance(
            event, StreamClosed
        ):  # The head of a response that breaks off may be held back.
            await self._flush(RawData(b""))
        await super().stream_send(event)
        if isinstance(event, EndBody) and self.is_websocket:
            await super().stream_send(StreamClosed(STREAM_ID))

    async def _send_error_response(self, status_code: int) -> None:
        """Answer a request that could not be parsed, and log it in one line."""
        parser = self._parser
        error_code = _ERROR_CODES.get(status_code, "malformed_request")
        detail = parser.reason or "the request cannot be read"
        _log.info("request refused", status=status_code, error=detail, client=self.client)
        if parser.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = document(status_code, detail, error_code, {})
        headers = [
            (b"content-type", MEDIA_TYPE.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        has_body = parser.our_state is h11.IDLE or not self._is_head
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body if has_body else b""))
        await self._send_h11_event(h11.EndOfMessage())

    async def _check_protocol(self, event: h11.Request) -> None:
        """Check the head; hypercorn would upgrade to HTTP/2 here, which Trivet does not speak."""
        self._is_head = event.method == b"HEAD"
        check_head(event)

    async def _create_stream(self, request: h11.Request) -> None:
        """Start the stream of a request, as if the client had offered no extension.

        Compressed messages would be inflated before their size is checked. The method stays as it
        was written; hypercorn would write it in capitals.
        """
        kind: type[HTTPStream | WebsocketStream] = HTTPStream
        headers = list(request.headers)
        if is_websocket_handshake(request):
            kind = WebsocketStream
            self.connection = H11WSConnection(self._parser)
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
