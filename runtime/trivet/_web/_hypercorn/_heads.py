"""The heads of a connection's requests: parsed by h11, and checked before and after that.

Owns which heads are refused: their limits, method, version and lengths; and the end of the last
request.
Never knows bodies, nor the path of a request.
"""

from __future__ import annotations

import re

import h11

TARGET_LIMIT = 8 * 1024
"""Bytes that the target of a request may have: a path and a query."""
HEAD_LIMIT = 16 * 1024
"""Bytes that the head of a request may have as a whole, however they arrive."""
FIELD_LIMIT = 100
"""Headers that a request may have; Apache's default."""

_LINE_LIMIT = TARGET_LIMIT + 64  # With the method and the version.
_BLANK_LINES = re.compile(rb"(?:\r?\n)*")
_END = re.compile(rb"\n\r?\n")
_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


class RequestRefusedError(Exception):
    """A request is refused by the connection, which ends with the response.

    Args:
        status: of the response.
        reason: the fault of the request, in one sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestParser(h11.Connection):
    """H11's parser of one client's requests, with limits.

    Blank lines before a request are passed over, as RFC 9112 (2.2) has it. A head that is too
    large is refused before it is parsed, which would take its time. Data behind the last request
    is ignored.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self.reason = ""
        """The fault of the request that could not be parsed."""

    @property
    def remaining(self) -> float:
        """Bytes of the current body that were not received yet; infinity where that is unknown."""
        if self.their_state is not h11.SEND_BODY:
            return 0
        return getattr(self._reader, "_remaining", float("inf"))

    def receive_data(self, data: bytes) -> None:
        """Add data to the buffer; none once the client has announced its last request."""
        if self.their_state not in (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
            super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event of the client.

        Raises:
            RequestRefusedError: the head is too large.
            h11.RemoteProtocolError: the data is no HTTP/1.1; `reason` says why.
        """
        if self.their_state in (h11.MUST_CLOSE, h11.CLOSED):
            return h11.NEED_DATA
        if self.their_state is h11.IDLE and not self._has_begun():
            return h11.NEED_DATA
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.reason = str(error)[:200]
            raise

    def _has_begun(self) -> bool:
        """Whether a head has begun, which is not too large."""
        # h11's public `trailing_data` is a copy of the buffer.
        waiting = self._receive_buffer._data  # pyright: ignore[reportPrivateUsage]
        blank = _BLANK_LINES.match(waiting)
        if blank is not None and blank.end():
            del waiting[: blank.end()]
        if len(waiting) == 1 and waiting[0] == ord(b"\r"):
            return False
        if len(waiting) > _LINE_LIMIT and waiting.find(b"\n", 0, _LINE_LIMIT) < 0:
            raise RequestRefusedError(414, f"the target may have {TARGET_LIMIT} bytes")
        end = _END.search(waiting, 0, HEAD_LIMIT)
        if end is None and len(waiting) >= HEAD_LIMIT:
            raise RequestRefusedError(431, f"the head may have {HEAD_LIMIT} bytes")
        if waiting.count(b"\n", 0, end.start() if end else HEAD_LIMIT) > FIELD_LIMIT:
            raise RequestRefusedError(431, f"the head may have {FIELD_LIMIT} headers")
        return True


def check_head(request: h11.Request) -> None:
    """Check a head that h11 could parse.

    Raises:
        RequestRefusedError: the head has two meanings, or asks for a feature that is not here.
    """
    if len(request.target) > TARGET_LIMIT:
        raise RequestRefusedError(414, f"the target may have {TARGET_LIMIT} bytes")
    if request.http_version not in (b"1.0", b"1.1"):
        raise RequestRefusedError(505, "the version may be HTTP/1.1 or HTTP/1.0")
    if request.method != request.method.upper():
        # Methods are case-sensitive, and web frameworks are not: `get` is not GET.
        raise RequestRefusedError(501, f"no method is named {request.method.decode('ascii')}")
    names = [name for name, _ in request.headers]
    if b"content-length" in names and b"transfer-encoding" in names:
        # Request smuggling: a proxy may see the other length.
        raise RequestRefusedError(400, "a body has one length, and not two")


def is_websocket_handshake(request: h11.Request) -> bool:
    """Whether a request is the handshake of a websocket.

    Raises:
        RequestRefusedError: it is one, and cannot be accepted.
    """
    headers = {name: value.strip() for name, value in request.headers}
    upgrades = b"upgrade" in [
        token.strip().lower() for token in headers.get(b"connection", b"").split(b",")
    ]
    if (
        not upgrades
        or request.method != b"GET"
        or headers.get(b"upgrade", b"").lower() != b"websocket"
    ):
        return False
    if request.http_version != b"1.1" or headers.get(b"sec-websocket-version") != b"13":
        raise RequestRefusedError(400, "a websocket is of version 13, over HTTP/1.1")
    if not _WEBSOCKET_KEY.fullmatch(headers.get(b"sec-websocket-key", b"")):
        raise RequestRefusedError(400, "a Sec-WebSocket-Key is 16 bytes in base64")
    if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
        raise RequestRefusedError(400, "the handshake of a websocket has no body")
    if not all(
        headers.get(name, b"").isascii() for name in (b"connection", b"sec-websocket-protocol")
    ):
        raise RequestRefusedError(400, "the headers of a handshake are ASCII")
    return True
