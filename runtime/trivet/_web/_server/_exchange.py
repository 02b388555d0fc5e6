"""One request and its response, between a client and an application.

Owns the calls of the application: which part of a body it gets, when its client has disconnected,
and what is sent for it.
Never knows the requests before and after.
"""

from __future__ import annotations

import structlog
import trio

from .._asgi import (
    REQUEST_SCOPE,
    RESPOND,
    ASGIApp,
    Headers,
    HttpScope,
    Received,
    ReceiveMessage,
    SendMessage,
)
from .._begun import BEGUN, Begun
from .._problems import MEDIA_TYPE, STATUS, document
from ._heads import Head, RefusedError
from ._peer import CLOSE_TIMEOUT, Peer
from ._request import CONTINUE, RequestBody, Response, ResponseError, own_response, scope_of

_ERROR_CODES = {
    STATUS[code].value: code
    for code in ("target_too_long", "head_too_large", "not_implemented", "version_not_supported")
}
_PROBLEM = [(b"Content-Type", MEDIA_TYPE.encode("ascii"))]
_DISCONNECTED: Received = {"type": "http.disconnect"}

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


async def refuse(peer: Peer, refused: RefusedError, *, has_body: bool = True) -> None:
    """Answer a request that cannot be parsed, and log it in one line."""
    client = peer.transport.client
    _log.info("request refused", status=refused.status, error=refused.reason, client=client)
    error_code = _ERROR_CODES.get(refused.status, "malformed_request")
    body = document(refused.status, refused.reason, error_code, {})
    await peer.write(own_response(refused.status, _PROBLEM, body, has_body=has_body))


class Exchange:
    """One request and its response.

    Args:
        peer: the client.
        head: the request's.
    """

    __slots__ = ("_head", "_peer", "_response", "body", "scope")

    def __init__(self, peer: Peer, head: Head) -> None:
        self._peer = peer
        self._head = head
        self.body = RequestBody(head, peer.received)
        self._response = Response(head)
        self.scope: HttpScope = {
            "type": "http",
            "method": head.method,
            "extensions": {RESPOND: self._respond, REQUEST_SCOPE: peer.requests},
            **scope_of(head, "http", peer.transport),
        }

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may be kept after the response."""
        return self._response.keeps_alive

    # The peer reads these.

    @property
    def probe(self) -> bytes:
        """An informational response: none to HTTP/1.0, and none within a response."""
        return b"" if self._head.version == "1.0" or self._response.has_begun else CONTINUE

    @property
    def takes_both_sides(self) -> bool:
        """Whether the response is a stream of events, whose client has to be there for good."""
        return self._response.streams_events

    # The connection calls this.

    async def run(self, app: ASGIApp, begun: Begun | None) -> None:
        """Await the application.

        Args:
            app: the application.
            begun: the beginning of a response by a shortcut.

        Raises:
            ResponseError: it has not completed its response, although the client is there.
        """
        scope = self.scope
        if begun is not None:
            scope["extensions"] = {**(scope.get("extensions") or {}), BEGUN: begun}
        try:
            await app(scope, self._receive, self._send)
        except BaseException:
            await self._break_off()  # noqa: ASYNC102 - it is shielded, with a limit
            raise
        if not (self._response.has_ended or self._peer.is_gone):
            await self._break_off()
            raise ResponseError("the application did not complete its response")

    async def _break_off(self) -> None:
        """Send the part of a response that breaks off; 500 if there is none."""
        response = self._response
        if self._peer.is_gone or response.has_ended:
            return
        if not response.has_begun:
            response.has_begun = True
            body = document(500, "the request could not be answered", "internal_error", {})
            response.held = own_response(500, _PROBLEM, body, has_body=self._head.method != "HEAD")
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
            await self._peer.write(response.held)

    # The application calls these.

    async def _receive(self) -> ReceiveMessage:
        peer, body, response = self._peer, self.body, self._response
        while not (peer.is_gone or response.has_ended or body.is_last_taken):
            try:
                data = body.take()
            except RefusedError as refused:
                if not response.has_begun:
                    await refuse(peer, refused, has_body=response.has_body)
                peer.lose()
                break
            if data or body.is_complete:
                body.is_last_taken = body.is_complete
                return {"type": "http.request", "body": data, "more_body": not body.is_complete}
            if body.is_expected and not response.has_begun:
                await peer.write(CONTINUE)
            body.is_expected = False
            if not await peer.receive_more():
                peer.lose()
        if not response.has_ended:
            await peer.wait_until_gone(self)
        return _DISCONNECTED

    async def _send(self, message: SendMessage) -> None:
        peer, response = self._peer, self._response
        if peer.is_gone:
            # An application that waits for nothing else would not notice it.
            await trio.lowlevel.checkpoint()
            return
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            data = response.begin(message["status"], headers, left=self.body.left)
            peer.check_sides(self)
        elif message["type"] == "http.response.body":
            more = message.get("more_body", False)
            data = response.body_part(message.get("body", b""), more=more)
        else:
            raise ResponseError(f"{message['type']!r} is no part of a response")
        if data:
            await peer.write(data)
        if response.has_ended:
            peer.end_waiting()
        elif data:
            await trio.lowlevel.checkpoint()  # An application may have much to send.

    async def _respond(self, status: int, headers: Headers, body: bytes, limit: float) -> None:
        """Send a whole response, as its two messages would; see `RESPOND`."""
        peer, response = self._peer, self._response
        if peer.is_gone:
            await trio.lowlevel.checkpoint()  # As above.
            return
        head = response.begin(status, headers, left=self.body.left)
        await peer.write_within(head + response.body_part(body, more=False), limit)
        peer.end_waiting()
