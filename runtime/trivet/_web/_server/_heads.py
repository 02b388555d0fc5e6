"""The head of a request: framed here, parsed by llhttp, checked here.

Owns which heads are refused: their limits, method, version and lengths; and the framing of bodies.
Never knows which route a request is for.

A head is given to llhttp whole and alone, so that its limits are exact and no data after it is
parsed as part of it. The checks after llhttp are those that RFC 9112 leaves to the server, and
those that llhttp does not make.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from .._shortcuts import Shortcut

TARGET_LIMIT = 8 * 1024
"""Bytes that the target of a request may have: a path and a query."""
HEAD_LIMIT = 16 * 1024
"""Bytes that the head of a request may have as a whole, however they arrive."""
FIELD_LIMIT = 100
"""Headers that a request may have; Apache's default."""

Headers = list[tuple[bytes, bytes]]

_LINE_LIMIT = TARGET_LIMIT + 64  # With the method and the version.
_BLANK_LINES = re.compile(rb"(?:\r?\n)*")
_OTHER_END = re.compile(rb"\n\r?\n")  # A head that llhttp is to refuse, and not to wait for.
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/(\d\.\d)\r\n"  # Method, target, version.
)
_VERSIONS = {b"1.1": "1.1", b"1.0": "1.0"}
_HTTP_2 = b"PRI * HTTP/2.0\r\n"
_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_BLANK_LINE: Final = b"\r\n\r\n"
_CHUNKED: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class RefusedError(Exception):
    """A request is refused by the connection, which ends with the response.

    Args:
        status: the status of the response.
        reason: the fault of the request, in one sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Head:
    """The head of one request, with llhttp's callback.

    Once it is parsed it does not change: requests with the same bytes share it.
    """

    __slots__ = ("_first", "headers", "length", "method", "shortcut", "target", "version")

    def __init__(self, method: str, target: bytes, version: str) -> None:
        self.method = method
        self.target = target
        self.version = version
        """`1.0` or `1.1`."""
        self.headers: Headers = []
        """Names in lower case, in the order in which they came."""
        self.length: int | None = 0
        """Bytes of the body; None for one in chunks."""
        self.shortcut: Shortcut | None = None
        """The short way of the request; None where there is none."""
        self._first: dict[bytes, bytes] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header of llhttp's."""
        self.headers.append((name.lower(), value))

    def complete(self, *, has_blanks: bool) -> None:
        """Make the headers ready for look-ups.

        Args:
            has_blanks: whether white space may be behind a value, where llhttp leaves it.
        """
        if has_blanks:
            self.headers = [(name, value.rstrip(b" \t")) for name, value in self.headers]
        self._first = dict(reversed(self.headers))

    def __contains__(self, name: bytes) -> bool:
        return name in self._first

    def get(self, name: bytes, default: bytes = b"") -> bytes:
        """The first header of a name in lower case."""
        return self._first.get(name, default)

    def tokens(self, name: bytes) -> set[bytes]:
        """The members of a list, in lower case, over all headers of a name."""
        if name not in self._first:
            return set()
        return {token.strip().lower() for token in self.joined(name).split(b",")}

    def joined(self, name: bytes) -> bytes:
        """All headers of a name in lower case, with commas between; empty for none."""
        if name not in self._first:
            return b""
        return b",".join(value for known, value in self.headers if known == name)

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another request after this one."""
        if b"connection" not in self._first:
            return self.version == "1.1"
        tokens = self.tokens(b"connection")
        return b"close" not in tokens and (self.version == "1.1" or b"keep-alive" in tokens)


def take_head(waiting: bytearray) -> bytes | None:
    """Take a whole head, and blank lines before it, out of a buffer; None if it is not whole yet.

    Args:
        waiting: the buffer; at least one byte.

    Raises:
        RefusedError: the head is too large.
    """
    if waiting[0] in b"\r\n":
        blank = _BLANK_LINES.match(waiting)
        del waiting[: blank.end() if blank is not None else 0]
    end = waiting.find(_BLANK_LINE, 0, HEAD_LIMIT) + len(_BLANK_LINE)
    if end < len(_BLANK_LINE):
        match = _OTHER_END.search(waiting, 0, HEAD_LIMIT)
        if match is None:
            _check_beginning(waiting)
            return None
        end = match.end()
    head = bytes(waiting[:end])
    del waiting[:end]
    return head


def _check_beginning(waiting: bytearray) -> None:
    """Refuse the beginning of a head that is too large already."""
    if len(waiting) > _LINE_LIMIT and waiting.find(b"\n", 0, _LINE_LIMIT) < 0:
        raise RefusedError(414, f"the target may have {TARGET_LIMIT} bytes")
    if len(waiting) >= HEAD_LIMIT:
        raise RefusedError(431, f"the head may have {HEAD_LIMIT} bytes")
    if waiting.count(b"\n") > FIELD_LIMIT:
        raise RefusedError(431, f"the head may have {FIELD_LIMIT} headers")


def parse_head(head: bytes) -> Head:
    """Parse a whole head.

    Raises:
        RefusedError: it cannot be parsed, has two meanings, or asks for a feature that is not here.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _refused_line(head)
    method, target, version = line.groups()
    if len(target) > TARGET_LIMIT:
        raise RefusedError(414, f"the target may have {TARGET_LIMIT} bytes")
    if version not in _VERSIONS:
        raise RefusedError(505, "the version may be HTTP/1.1 or HTTP/1.0")
    if method.upper() != method:
        # Methods are case-sensitive, and web frameworks are not: `get` is not GET.
        raise RefusedError(501, f"no method is named {method.decode('ascii')}")
    read = Head(method.decode("ascii"), target, _VERSIONS[version])
    try:
        _feed(read, head)
    except httptools.HttpParserInvalidMethodError:  # Perhaps a route has this method.
        read.headers.clear()
        _feed(read, b"POST" + head[len(method) :])
    read.complete(has_blanks=b" \r" in head or b"\t\r" in head)
    _check(read)
    return read


def _feed(read: Head, head: bytes) -> None:
    try:
        httptools.HttpRequestParser(read).feed_data(head)
    except httptools.HttpParserUpgrade:
        return  # An upgrade is an offer, which a server may ignore.
    except httptools.HttpParserInvalidMethodError:
        raise
    except httptools.HttpParserError as error:
        raise _refusal(head, read, error) from None


def _refused_line(head: bytes) -> RefusedError:
    if head.startswith(_HTTP_2):
        return RefusedError(505, "the version may be HTTP/1.1 or HTTP/1.0")
    return RefusedError(400, "the first line is no request line")


def _refusal(head: bytes, read: Head, error: httptools.HttpParserError) -> RefusedError:
    """The refusal of a head that llhttp cannot parse; a wrong coding has its own."""
    read.complete(has_blanks=True)
    if read.get(b"transfer-encoding") and b"content-length" not in head.lower():
        return RefusedError(501, "a body may be in chunks, and in no other coding")
    return RefusedError(400, str(error)[:200])


def _check(read: Head) -> None:
    if len(read.headers) > FIELD_LIMIT:
        raise RefusedError(431, f"the head may have {FIELD_LIMIT} headers")
    hosts = [name for name, _ in read.headers].count(b"host")
    if hosts != 1 and (hosts or read.version == "1.1"):
        raise RefusedError(400, "a request has one Host")
    if b"transfer-encoding" in read:
        if read.tokens(b"transfer-encoding") != {b"chunked"}:
            raise RefusedError(501, "a body may be in chunks, and in no other coding")
        if read.version == "1.0":
            raise RefusedError(400, "HTTP/1.0 has no bodies in chunks")
        read.length = None
    else:
        read.length = int(read.get(b"content-length", b"0"))


def is_websocket_handshake(head: Head) -> bool:
    """Whether a head is the handshake of a websocket.

    Raises:
        RefusedError: it is one, and cannot be accepted.
    """
    if head.get(b"upgrade").lower() != b"websocket" or head.method != "GET":
        return False
    if b"upgrade" not in head.tokens(b"connection"):
        return False
    if head.version != "1.1" or head.get(b"sec-websocket-version") != b"13":
        raise RefusedError(400, "a websocket is of version 13, over HTTP/1.1")
    if not _WEBSOCKET_KEY.fullmatch(head.get(b"sec-websocket-key")):
        raise RefusedError(400, "a Sec-WebSocket-Key is 16 bytes in base64")
    if head.length != 0:
        raise RefusedError(400, "the handshake of a websocket has no body")
    if not all(head.get(name).isascii() for name in (b"connection", b"sec-websocket-protocol")):
        raise RefusedError(400, "the headers of a handshake are ASCII")
    return True


class Chunks:
    """A body in chunks, which llhttp parses.

    After the last chunk llhttp would go on with the next request, and it does not say where that
    begins. So each piece that it is given ends where a body may end: after a blank line.
    """

    __slots__ = ("_last", "_parser", "_pieces", "_unknown", "is_complete")

    def __init__(self) -> None:
        self.is_complete = False
        self._pieces: list[bytes] = []
        self._last = b""  # At most three bytes of a blank line that may have begun.
        self._unknown = 0  # Bytes since the last of the body: sizes, extensions, trailers.
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED)

    def on_body(self, data: bytes) -> None:
        """Add a part of the body."""
        self._pieces.append(data)
        self._unknown = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Pass over a trailer, and the header that made llhttp expect chunks."""

    def on_message_complete(self) -> None:
        """Note the end of the body."""
        self.is_complete = True

    def take(self, waiting: bytearray) -> bytes:
        """Take chunks out of a buffer, up to the end of the body; returns their content.

        Raises:
            RefusedError: the data is not in chunks, or a trailer or an extension is too long.
        """
        try:
            while waiting and not self.is_complete:
                self._feed(waiting)
        except httptools.HttpParserError as error:
            raise RefusedError(400, str(error)[:200]) from None
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def _feed(self, waiting: bytearray) -> None:
        """Give llhttp the data up to the next blank line, which may have begun before."""
        begun = (self._last + waiting[:3]).find(_BLANK_LINE)
        size = begun + 4 - len(self._last) if begun >= 0 else waiting.find(_BLANK_LINE) + 4
        is_whole = begun >= 0 or size >= 4
        piece = bytes(waiting[:size] if is_whole else waiting)
        del waiting[: len(piece)]
        self._last = b"" if is_whole else (self._last + piece)[-3:]
        self._unknown += len(piece)
        self._parser.feed_data(piece)
        if self._unknown > HEAD_LIMIT:
            raise RefusedError(431, f"sizes, extensions and trailers may have {HEAD_LIMIT} bytes")
