"""A request in ASGI's form: its scope, its body, its response.

Owns the keys of a scope, the framing of a body, and the bytes of a response's messages.
Never knows sockets and tasks: it takes received bytes, and returns the bytes to be sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from time import time
from typing import TypedDict
from urllib.parse import unquote

from .._asgi import Headers as AnyHeaders
from .._shortcuts import STATUS_LINES
from ._heads import Chunks, Head, Headers
from ._transport import Address, Transport

SKIPPED_BODY_LIMIT = 64 * 1024
"""Bytes of a body that are skipped after its response, so that the connection can be kept."""
MIN_STATUS, MAX_STATUS = 200, 999
"""The smallest status that is final, and the largest that has three digits."""
NO_CONTENT = 204
_STATUSES_WITHOUT_CONTENT = frozenset({NO_CONTENT, 304})
MAX_CACHED_NAMES = 1000
"""Names of headers whose check is cached."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_VALUE = bytes({*range(0x20), 0x7F} - {0x09})
"""The characters that no value of a header has."""
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_NOTED_HEADERS = frozenset(
    {b"connection", b"transfer-encoding", b"content-length", b"content-type", b"date"}
)
_names: dict[bytes, bytes] = {}


class ResponseError(Exception):
    """An application sends messages that make no response."""


class _Common(TypedDict):
    """The part that the scopes of a request and of a websocket share."""

    asgi: Mapping[str, str]
    http_version: str
    scheme: str
    path: str
    raw_path: bytes
    query_string: bytes
    root_path: str
    headers: Headers
    client: Address
    server: Address


def scope_of(head: Head, scheme: str, transport: Transport) -> _Common:
    """The keys that the scopes of a request and of a websocket share.

    Args:
        head: the head of the request.
        scheme: `http` or `ws`; over TLS an `s` is added.
        transport: the way to the client.
    """
    path, _, query = head.target.partition(b"?")
    text = path.decode("ascii")
    return {
        "asgi": _ASGI,
        "http_version": head.version,
        "scheme": f"{scheme}s" if transport.is_secure else scheme,
        "path": unquote(text) if "%" in text else text,
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(head.headers),  # Others have the same head.
        "client": transport.client,
        "server": transport.server,
    }


class RequestBody:
    """The body of one request, as it is received.

    Args:
        head: the request's.
        received: the buffer of the connection. The bytes after the body are the next request's.
    """

    __slots__ = ("_chunks", "_left", "_received", "is_complete", "is_expected", "is_last_taken")

    def __init__(self, head: Head, received: bytearray) -> None:
        self._received = received
        self._chunks = Chunks() if head.length is None else None
        self._left = head.length or 0
        self.is_complete = head.length == 0
        """Whether the whole body was received."""
        self.is_last_taken = False
        """Whether the application has the whole body."""
        self.is_expected = head.version == "1.1" and head.get(b"expect").lower() == b"100-continue"
        """Whether the client waits for `100 Continue`."""

    @property
    def left(self) -> float:
        """Bytes that are still to be received; infinity for an unknown number.

        A client that waits for `100 Continue` may leave its body out once it has a response.
        """
        if self.is_complete:
            return 0
        is_unknown = self._chunks is not None or self.is_expected
        return float("inf") if is_unknown else self._left

    def take(self) -> bytes:
        """Take the received part of the body out of the buffer.

        Raises:
            RefusedError: the data is not in chunks.
        """
        if self._chunks is not None:
            data = self._chunks.take(self._received)
            self.is_complete = self._chunks.is_complete
            return data
        data = bytes(self._received[: self._left])
        del self._received[: self._left]
        self._left -= len(data)
        self.is_complete = self._left == 0
        return data


class Response:
    """The response to one request: from ASGI's messages to bytes.

    Args:
        head: the request's.
    """

    __slots__ = ("_head", "_is_chunked", "_left", "has_begun", "has_body", "has_ended", "held",
                 "keeps_alive", "streams_events")  # fmt: skip

    def __init__(self, head: Head) -> None:
        self._head = head
        self.keeps_alive = head.keeps_alive
        """Whether the connection may be kept after the response."""
        self.has_begun = False
        """Whether the application has sent the status."""
        self.has_ended = False
        self.has_body = head.method != "HEAD"
        self.streams_events = False
        """Whether the response is a stream of events, which lasts as long as there is a client."""
        self.held = b""
        """The head, while it waits for the first part of the body; else empty."""
        self._left: int | None = None
        self._is_chunked = False

    def begin(self, status: int, headers: AnyHeaders, *, left: float) -> bytes:
        """The bytes of the head; empty if they wait for the first part of the body.

        Args:
            status: the status.
            headers: the application's.
            left: bytes of the request's body that are still to be received.

        Raises:
            ResponseError: it has begun already, the status is not final, or a header is malformed.
        """
        if self.has_begun:
            raise ResponseError("the response has begun already")
        if not MIN_STATUS <= status <= MAX_STATUS:
            raise ResponseError(f"{status} is not the status of a response")
        headers = list(headers)
        values = b"".join([value for _, value in headers])
        if len(values.translate(None, _NO_VALUE)) < len(values):
            raise ResponseError(f"a control character is in one of the headers {headers!r}"[:200])
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        has_date = False
        for name, value in headers:
            lower = _names.get(name) or _checked_name(name)
            if lower in _NOTED_HEADERS:
                if lower == b"date":
                    has_date = True
                elif not self._passes_on(lower, value, status):
                    continue
            lines += (name, b": ", value, b"\r\n")
        if not has_date:
            lines.append(date_line())
        lines.append(self._framing(status, left))
        self.has_begun = True
        written = b"".join(lines)
        if self._left is None and self.has_body:
            return written
        self.held = written
        return b""

    def _passes_on(self, name: bytes, value: bytes, status: int) -> bool:
        """Note a header's meaning for the connection; returns whether the client gets it."""
        if name == b"connection":
            self.keeps_alive = self.keeps_alive and b"close" not in value.lower()
            return False
        if name == b"transfer-encoding":
            return False  # The server frames the body.
        if name == b"content-length":
            if not value.isdigit() or self._left is not None:
                raise ResponseError(f"no Content-Length, or the second one: {value!r}"[:200])
            self._left = int(value)
            return status != NO_CONTENT  # RFC 9110, 8.6: it has none.
        if name == b"content-type":
            self.streams_events = value.startswith(b"text/event-stream")
        return True

    def _framing(self, status: int, left: float) -> bytes:
        """The headers about the end of the response and of the connection, and the blank line."""
        framing = b""
        if status in _STATUSES_WITHOUT_CONTENT:
            self.has_body = False
        if self._left is None and self.has_body:
            if self._head.version == "1.1":
                self._is_chunked = True
                framing = b"Transfer-Encoding: chunked\r\n"
            else:
                self.keeps_alive = False  # The end of the connection is the response's.
        if left > SKIPPED_BODY_LIMIT:
            self.keeps_alive = False
        if not self.keeps_alive:
            return framing + b"Connection: close\r\n\r\n"
        if self._head.version == "1.0":
            return framing + b"Connection: keep-alive\r\n\r\n"
        return framing + b"\r\n"

    def body_part(self, data: bytes, *, more: bool) -> bytes:
        """The bytes of a part of the body.

        Raises:
            ResponseError: it has not begun, has ended, or has another length than announced.
        """
        if not self.has_begun or self.has_ended:
            raise ResponseError("a body comes between the head and the end of a response")
        self.has_ended = not more
        held, self.held = self.held, b""
        if not self.has_body:
            return held
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left and not more):
                self.keeps_alive = False
                self.has_ended = False
                raise ResponseError("the body is not as long as its Content-Length")
            return held + data if held else data
        if not self._is_chunked:
            return data
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk if more else chunk + b"0\r\n\r\n"


def _checked_name(name: bytes) -> bytes:
    """The name of a header in lower case."""
    if _NAME.fullmatch(name) is None:
        raise ResponseError(f"no header is named {name!r}"[:200])
    lower = bytes(name).lower()
    if len(_names) < MAX_CACHED_NAMES:
        _names[bytes(name)] = lower
    return lower


_date_header: tuple[int, bytes] = (0, b"")


def date_line() -> bytes:
    """The header with the date, which is made anew once a second."""
    global _date_header  # noqa: PLW0603 - one for the process
    second = int(time())
    if _date_header[0] != second:
        _date_header = second, f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
    return _date_header[1]


def own_response(status: int, headers: Headers, body: bytes, *, has_body: bool = True) -> bytes:
    """The bytes of a response of the server itself, which is the last of its connection."""
    own = [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    lines = [b"%s: %s\r\n" % header for header in (*headers, *own)]
    line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"".join([line, *lines, date_line(), b"\r\n", body if has_body else b""])
