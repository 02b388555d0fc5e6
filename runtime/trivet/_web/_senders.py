"""The `send` of an ASGI application, over HTTP or a websocket.

Owns the record of a response's progress, the time limit of its end, and the problem that is sent to
a client whose response the application does not complete.
Never knows which code answers, nor why a response is not completed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import trio

from ._asgi import RESPOND, Headers, HttpScope, Send, SendMessage, WebsocketScope
from ._bodies import PendingBody
from ._context import RequestContext
from ._problems import MEDIA_TYPE, ProblemError

FINAL_SEND_TIMEOUT = 5.0
"""Seconds in which the end of a response may be sent after its application is cancelled."""
ABORT_TIMEOUT = 0.5
"""Seconds in which a client is told that there will be no response, or no more of it."""
SENT_AT_ONCE = 16 * 1024
"""Bytes of a body that are sent as one, since a connection takes them without a wait."""
OWN_HEADERS = frozenset({b"luna-request-id"})
CLOSING_HEADERS = OWN_HEADERS | {b"connection"}
"""The headers that an application cannot set, also where the connection is to be closed."""

INTERNAL_ERROR, SERVICE_RESTART = 1011, 1012
"""Close codes of a websocket whose handler has crashed, or was cut off."""


class Sender(ABC):
    """The `send` that an application is given for one request or websocket."""

    def __init__(self, context: RequestContext, send: Send) -> None:
        self.context = context
        self._send = send

    @abstractmethod
    async def __call__(self, message: SendMessage) -> None:
        """Send a message of the application."""

    async def abort(self, problem: ProblemError, close_code: int) -> None:
        """Tell the client, if that is possible, why the application sends nothing more.

        Args:
            problem: the response, where none has begun.
            close_code: for a websocket that is open.
        """
        with trio.move_on_after(ABORT_TIMEOUT, shield=True):
            if self.context.status is None:
                self.context.error_code = problem.error_code
                await self._send_problem(problem)
            elif not self.context.is_complete:
                await self._close(close_code)

    @abstractmethod
    async def _send_problem(self, problem: ProblemError) -> None: ...

    @abstractmethod
    async def _close(self, close_code: int) -> None: ...


class HttpSender(Sender):
    """The `send` of a request.

    Args:
        context: the request.
        send: the server's.
        scope: the server's.
        leaving: set when the connection is not to be used for another request.
        body: the body, for a server that closes the connection after a response before the end of
            the body; None for one that receives the rest.
    """

    def __init__(
        self,
        context: RequestContext,
        send: Send,
        scope: HttpScope,
        leaving: trio.Event,
        body: PendingBody | None,
    ) -> None:
        super().__init__(context, send)
        self._body = body
        self._has_connection_header = scope["http_version"].startswith("1")
        self._leaving = leaving
        self._respond = (scope.get("extensions") or {}).get(RESPOND)

    async def __call__(self, message: SendMessage) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            # The response of a request that was cut off must not begin: a cancellation in the midst
            # of its head would leave the server in a state in which it can answer nothing.
            await trio.lowlevel.checkpoint_if_cancelled()
            self.context.response_started(message["status"])
            headers = self._completed(message["headers"], closing=self._is_closing())
            await self._send({**message, "headers": headers})
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            # The end of a response makes hypercorn report a disconnect to the application, upon
            # which quart-trio cancels this very send, before hypercorn has made the connection
            # idle: it would be kept alive for ever.
            self.context.is_complete = True
            with trio.move_on_after(FINAL_SEND_TIMEOUT, shield=True):
                await self._send(message)
        else:
            await self._send(message)

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response, in as few steps as its server allows.

        Args:
            status: the status.
            headers: names in lower case, and values.
            body: the body; a server leaves it out for HEAD.
        """
        respond = self._respond
        if respond is not None and len(body) <= SENT_AT_ONCE:
            await trio.lowlevel.checkpoint_if_cancelled()  # As above.
            self.context.response_started(status)
            self.context.is_complete = True
            headers = self._completed(headers, closing=self._is_closing())
            await respond(status, headers, body, FINAL_SEND_TIMEOUT)
            return
        await self({"type": "http.response.start", "status": status, "headers": headers})
        if len(body) > SENT_AT_ONCE:  # The last part has a time limit.
            await self({"type": "http.response.body", "body": body, "more_body": True})
            body = b""
        await self({"type": "http.response.body", "body": body, "more_body": False})

    async def _send_problem(self, problem: ProblemError) -> None:
        self.context.status = problem.status.value
        body = problem.document()
        headers = self._completed(_problem_headers(problem, body), closing=True)
        self.context.is_complete = True
        await self._send(
            {
                "type": "http.response.start",
                "status": problem.status.value,
                "headers": headers,
            }
        )
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _close(self, close_code: int) -> None:
        """A response that has begun cannot be mended; the closed connection tells the client."""

    def _is_closing(self) -> bool:
        """Whether the server closes the connection after this response, which tells the client."""
        return self._leaving.is_set() or (self._body is not None and self._body.is_pending)

    def _completed(self, headers: Headers, *, closing: bool) -> Headers:
        """The headers of the response with the middleware's own."""
        closing = closing and self._has_connection_header
        own = CLOSING_HEADERS if closing else OWN_HEADERS
        completed = [header for header in headers if header[0] not in own]
        completed.append((b"luna-request-id", self.context.request_id.encode("ascii")))
        if closing:
            completed.append((b"connection", b"close"))
        return completed


class WebsocketSender(Sender):
    """The `send` of a websocket.

    Args:
        context: the websocket.
        send: the server's.
        scope: the server's.
    """

    def __init__(self, context: RequestContext, send: Send, scope: WebsocketScope) -> None:
        super().__init__(context, send)
        self._can_send_response = "websocket.http.response" in (scope.get("extensions") or {})

    async def __call__(self, message: SendMessage) -> None:
        """Send a message, the answer to the handshake, or the close."""
        await trio.lowlevel.checkpoint_if_cancelled()  # As for a response that was cut off.
        if message["type"] == "websocket.accept":
            self.context.status = 101
        elif message["type"] == "websocket.http.response.start":
            self.context.status = message["status"]
            self.context.is_complete = True
        elif message["type"] == "websocket.close":
            self.context.status = self.context.status or 403
            self.context.is_complete = True
        await self._send(message)

    async def _send_problem(self, problem: ProblemError) -> None:
        self.context.status = problem.status.value
        self.context.is_complete = True
        if not self._can_send_response:
            await self._send({"type": "websocket.close", "code": 1000, "reason": None})
            return
        body = problem.document()
        await self._send(
            {
                "type": "websocket.http.response.start",
                "status": problem.status.value,
                "headers": _problem_headers(problem, body),
            }
        )
        await self._send({"type": "websocket.http.response.body", "body": body, "more_body": False})

    async def _close(self, close_code: int) -> None:
        self.context.is_complete = True
        await self._send({"type": "websocket.close", "code": close_code, "reason": None})


def _problem_headers(problem: ProblemError, body: bytes) -> Headers:
    yield b"content-type", MEDIA_TYPE.encode("ascii")
    yield b"content-length", str(len(body)).encode("ascii")
    for name, value in problem.headers.items():
        yield name.lower().encode("ascii"), value.encode("ascii")
