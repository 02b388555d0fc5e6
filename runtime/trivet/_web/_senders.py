"""What one client is sent, over HTTP or a websocket.

Owns the note of how far an answer has come, its safe end, and the last word to a client whose
answer does not come any more.
Never knows what answers, nor why an answer does not come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, cast

import trio
from hypercorn.typing import (
    ASGISendCallable,
    ASGISendEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    WebsocketScope,
)

from ._exchange import Exchange
from ._problems import MEDIA_TYPE, ProblemError

LAST_SEND_WITHIN = 5.0
"""Seconds in which the end of a response may be sent after its application is cancelled."""
LAST_WORD_WITHIN = 0.5
"""Seconds in which a client is told that there will be no answer, or no more of it."""

INTERNAL_ERROR, SERVICE_RESTART = 1011, 1012
"""Codes with which a websocket is closed whose handler has crashed, or was cut off."""

Headers = Iterable[tuple[bytes, bytes]]


class Wire(ABC):
    """The way to one client."""

    def __init__(self, exchange: Exchange, send: ASGISendCallable) -> None:
        self.exchange = exchange
        self._send = send

    @abstractmethod
    async def send(self, message: ASGISendEvent) -> None:
        """Pass on what the application sends."""

    async def last_word(self, problem: ProblemError, close_code: int) -> None:
        """Tell the client why the application sends nothing any more, where there is a way.

        Args:
            problem: the answer, where none has begun.
            close_code: for a websocket that is open.
        """
        with trio.move_on_after(LAST_WORD_WITHIN, shield=True):
            if self.exchange.status is None:
                self.exchange.error_code = problem.error_code
                await self._refuse(problem)
            elif not self.exchange.has_ended:
                await self._break_off(close_code)

    @abstractmethod
    async def _refuse(self, problem: ProblemError) -> None: ...

    @abstractmethod
    async def _break_off(self, close_code: int) -> None: ...


class HttpWire(Wire):
    """The way back of a request.

    Args:
        exchange: the request.
        send: the server's.
        scope: the server's.
        stopping: set when the connection is not to be used for another request.
    """

    def __init__(
        self, exchange: Exchange, send: ASGISendCallable, scope: HTTPScope, stopping: trio.Event
    ) -> None:
        super().__init__(exchange, send)
        self._has_connection_header = scope["http_version"].startswith("1")
        self._stopping = stopping

    async def send(self, message: ASGISendEvent) -> None:
        """Pass on a part of the response."""
        if message["type"] == "http.response.start":
            # What was cut off must not begin: to be cancelled in the midst of it would leave the
            # server in a state in which nothing can be answered any more.
            await trio.lowlevel.checkpoint_if_cancelled()
            self.exchange.answers(message["status"])
            await self._send(self._complete(message, last=self._stopping.is_set()))
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            # To end the response makes hypercorn report a disconnect to the application, upon
            # which quart-trio cancels the very send that does so, before hypercorn has made the
            # connection idle: it would be kept alive for ever.
            self.exchange.has_ended = True
            with trio.move_on_after(LAST_SEND_WITHIN, shield=True):
                await self._send(message)
        else:
            await self._send(message)

    async def _refuse(self, problem: ProblemError) -> None:
        self.exchange.status = problem.status.value
        body = problem.document()
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": problem.status.value,
            "headers": _headers_of(problem, body),
        }
        self.exchange.has_ended = True
        await self._send(self._complete(start, last=True))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _break_off(self, close_code: int) -> None:
        """A response that has begun cannot be mended; what cuts the connection tells the client."""

    def _complete(self, start: HTTPResponseStartEvent, *, last: bool) -> HTTPResponseStartEvent:
        last = last and self._has_connection_header
        own = (b"luna-request-id", b"connection") if last else (b"luna-request-id",)
        headers = [(name, value) for name, value in start["headers"] if name not in own]
        headers.append((b"luna-request-id", self.exchange.request_id.encode("ascii")))
        if last:
            headers.append((b"connection", b"close"))
        return {**start, "headers": headers}


class WebsocketWire(Wire):
    """The way to the other end of a websocket.

    Args:
        exchange: the websocket.
        send: the server's.
        scope: the server's.
    """

    def __init__(self, exchange: Exchange, send: ASGISendCallable, scope: WebsocketScope) -> None:
        super().__init__(exchange, send)
        extensions: Mapping[str, object] = cast("Mapping[str, Any]", scope).get("extensions") or {}
        self._can_explain = "websocket.http.response" in extensions

    async def send(self, message: ASGISendEvent) -> None:
        """Pass on a message, the handshake's answer, or the closing."""
        await trio.lowlevel.checkpoint_if_cancelled()  # As for a response that was cut off.
        if message["type"] == "websocket.accept":
            self.exchange.status = 101
        elif message["type"] == "websocket.http.response.start":
            self.exchange.status = message["status"]
            self.exchange.has_ended = True
        elif message["type"] == "websocket.close":
            self.exchange.status = self.exchange.status or 403
            self.exchange.has_ended = True
        await self._send(message)

    async def _refuse(self, problem: ProblemError) -> None:
        self.exchange.status = problem.status.value
        self.exchange.has_ended = True
        if not self._can_explain:
            await self._send({"type": "websocket.close", "code": 1000, "reason": None})
            return
        body = problem.document()
        await self._send(
            {
                "type": "websocket.http.response.start",
                "status": problem.status.value,
                "headers": _headers_of(problem, body),
            }
        )
        await self._send({"type": "websocket.http.response.body", "body": body, "more_body": False})

    async def _break_off(self, close_code: int) -> None:
        self.exchange.has_ended = True
        await self._send({"type": "websocket.close", "code": close_code, "reason": None})


def _headers_of(problem: ProblemError, body: bytes) -> Headers:
    yield b"content-type", MEDIA_TYPE.encode("ascii")
    yield b"content-length", str(len(body)).encode("ascii")
    for name, value in problem.headers.items():
        yield name.lower().encode("ascii"), value.encode("ascii")
