"""The heads of a connection's requests: read by h11, and looked at before and after that.

Owns what a head may be: its limits, its method, version and lengths, and what comes after the last.
Never knows bodies, nor what is asked for.
"""

from __future__ import annotations

import re

import h11

TARGET_LIMIT = 8 * 1024
"""Bytes that the target of a request may have: a path and a query."""
HEAD_LIMIT = 16 * 1024
"""Bytes that a request's head may have as a whole, however they arrive."""
FIELD_LIMIT = 100
"""Headers that a request may have; what Apache allows by default."""

_LINE_LIMIT = TARGET_LIMIT + 64  # With the method and the version.
_BLANK_LINES = re.compile(rb"(?:\r?\n)*")
_END = re.compile(rb"\n\r?\n")
_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


class RefusedError(Exception):
    """A request that is answered by the connection, which ends with that.

    Args:
        status: of the answer.
        reason: what is wrong with the request, in one sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Requests(h11.Connection):
    """The requests of one client, as h11 reads them.

    Blank lines before a request are passed over, as RFC 9112 (2.2) has it. A head that is too
    large is refused before it is taken apart, which would take its time. What follows the last
    request is not looked at.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self.reason = ""
        """What was wrong with what could not be read."""

    @property
    def left(self) -> float:
        """Bytes of the body at hand that were not taken yet; infinity where nobody knows."""
        if self.their_state is not h11.SEND_BODY:
            return 0
        return getattr(self._reader, "_remaining", float("inf"))

    def receive_data(self, data: bytes) -> None:
        """Take what has come; nothing once the client has announced its last request."""
        if self.their_state not in (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
            super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next thing that the client has said.

        Raises:
            RefusedError: it begins a head that is too large.
            h11.RemoteProtocolError: it is no HTTP/1.1; `reason` says why.
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
        """Whether there is something to be read, which is not too large."""
        # h11 has no way to look at what waits without a copy of it.
        waiting = self._receive_buffer._data  # pyright: ignore[reportPrivateUsage]
        blank = _BLANK_LINES.match(waiting)
        if blank is not None and blank.end():
            del waiting[: blank.end()]
        if len(waiting) == 1 and waiting[0] == ord(b"\r"):
            return False
        if len(waiting) > _LINE_LIMIT and waiting.find(b"\n", 0, _LINE_LIMIT) < 0:
            raise RefusedError(414, f"the target may have {TARGET_LIMIT} bytes")
        end = _END.search(waiting, 0, HEAD_LIMIT)
        if end is None and len(waiting) >= HEAD_LIMIT:
            raise RefusedError(431, f"the head may have {HEAD_LIMIT} bytes")
        if waiting.count(b"\n", 0, end.start() if end else HEAD_LIMIT) > FIELD_LIMIT:
            raise RefusedError(431, f"the head may have {FIELD_LIMIT} headers")
        return True


def check(request: h11.Request) -> None:
    """Look at a head that h11 could read.

    Raises:
        RefusedError: it means two things, or what nobody here has.
    """
    if len(request.target) > TARGET_LIMIT:
        raise RefusedError(414, f"the target may have {TARGET_LIMIT} bytes")
    if request.http_version not in (b"1.0", b"1.1"):
        raise RefusedError(505, "the version may be HTTP/1.1 or HTTP/1.0")
    if request.method != request.method.upper():
        # A name in small letters is another method's, of which web frameworks know nothing.
        raise RefusedError(501, f"no method is named {request.method.decode('ascii')}")
    names = [name for name, _ in request.headers]
    if b"content-length" in names and b"transfer-encoding" in names:
        # Whoever stands before us may see the other length.
        raise RefusedError(400, "a body has one length, and not two")


def asks_for_websocket(request: h11.Request) -> bool:
    """Whether it is the handshake of a websocket.

    Raises:
        RefusedError: it is one, and cannot be accepted.
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
        raise RefusedError(400, "a websocket is of version 13, over HTTP/1.1")
    if not _WEBSOCKET_KEY.fullmatch(headers.get(b"sec-websocket-key", b"")):
        raise RefusedError(400, "a Sec-WebSocket-Key is 16 bytes in base64")
    if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
        raise RefusedError(400, "the handshake of a websocket has no body")
    if not all(
        headers.get(name, b"").isascii() for name in (b"connection", b"sec-websocket-protocol")
    ):
        raise RefusedError(400, "the headers of a handshake are ASCII")
    return True
