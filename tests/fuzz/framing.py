"""Requests whose framing is nearly right: their heads, lengths, chunks, and what comes between.

Owns the making of a client's bytes from a number, and of the application's responses to them.
Never knows which of them a server accepts.
"""

from __future__ import annotations

import random

import attrs

from .inputs import cut, mutated

LINES = [
    *(b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"HEAD / HTTP/1.1", b"POST /a?b=%00 HTTP/1.1") * 6,
    *(b"GET / HTTP/1.0", b"POST / HTTP/1.0") * 3,
    b"BREW / HTTP/1.1",
    b"M-SEARCH * HTTP/1.1",
    b"CONNECT x:80 HTTP/1.1",
    b"CONNECT / HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"SOURCE / HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"GET / HTTP/1.2",
    b"GET / HTTP/2.0",
    b"GET / HTTP/0.9",
    b"GET / HTTP/1.10",
    b"GET / http/1.1",
    b"GET / ICE/1.0",
    b"GET http://y/ HTTP/1.1",
    b"GET /a b HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET /",
    b"get / HTTP/1.1",
    b"GET /#\xc3\xa9 HTTP/1.1",
    b" GET / HTTP/1.1",
]
HOSTS = [
    *[b"Host: x"] * 20,
    b"",
    b"Host: x\r\nHost: x",
    b"Host: x\r\nhost: y",
    b"Host:",
    b"Host : x",
]
FRAMES = [
    *[b"Content-Length: %d", b"Transfer-Encoding: chunked"] * 4,
    b"content-length:%d",
    b"Content-Length: \t%d ",
    b"Content-Length: 0%d",
    b"Content-Length: +%d",
    b"Content-Length: -%d",
    b"Content-Length: 0x%d",
    b"Content-Length: %d.0",
    b"Content-Length: %d,",
    b"Content-Length: %d\x0b",
    b"Content-Length : %d",
    b"Content-Length: \xb2",
    b"Content-Length: 99999999999999999999%d",
    b"Content_Length: %d",
    b"transfer-encoding:\tCHUNKED ",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: , chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
]
OTHERS = [
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Connection: keep-alive, close",
    b"Connection: x\r\nConnection: CLOSE",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Connection: close, upgrade\r\nUpgrade: websocket",
    b"Upgrade: websocket",
    b"Keep-Alive: timeout=9",
    b"Expect: 100-continue",
    b"Expect: 100-Continue",
    b"Expect: else",
    b"TE: trailers, chunked",
    b"Trailer: T",
    b"X-A:",
    b"X-A: a \t b",
    b"X-A: \xe9",
    b"X-A: \x01",
    b"X-A: a\r\n b",
    b"X A: b",
    b"X-A",
    b": x",
    b"\xe9: x",
    b"\tX: y",
    b"X-Long: " + b"a" * 17_000,
    b"X: y\r\n" * 101 + b"X: y",
]
SIZES = [*[b"%x"] * 12, b"0%x", b"%X", b"%x ", b" %x", b"+%x", b"-%x", b"0x%x", b"%x;", b"%x;a=b",
         b'%x;a="\r\n"', b"%x ;a", b"%x\t", b"%x\n", b"%x\r", b"fffffffffffffffff%x", b"%xg",
         b"%x;a\x00", b"%x;" + b"a" * 17_000, b"00000000000000000000000%x"]  # fmt: skip
ENDS = [*[b"\r\n"] * 20, b"\n", b"\r", b"", b"\r\n\r\n", b"x\r\n"]
TRAILERS = [*[b""] * 8, b"T: t\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
            b"T : t\r\n", b" T: t\r\n", b"T\r\n", b"T: t\n", b"Host: y\r\n", b"T: a\r\n b\r\n",
            b"T: \x00\r\n", b"T: " + b"a" * 17_000 + b"\r\n", b"\xe9: t\r\n"]  # fmt: skip
BETWEEN = [*[b""] * 12, b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\r\n\n"]
STATUSES = [200, 200, 200, 404, 204, 304]


@attrs.frozen
class Answer:
    """A response of the application."""

    status: int
    parts: list[bytes]
    has_length: bool
    closes: bool
    reads_body: bool

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)


@attrs.frozen
class Conversation:
    """The bytes of one client, in pieces, and the responses that the application has for it."""

    pieces: list[bytes]
    answers: list[Answer]


def conversation(seed: int, number: int) -> Conversation:
    """The conversation with a number."""
    dice = random.Random(f"{seed} {number} framing")
    count = dice.randint(1, 5)
    data = b"".join(_request(dice) + dice.choice(BETWEEN) for _ in range(count))
    pieces = cut(dice, mutated(dice, data, 0.2))
    if dice.random() < 0.02:
        pieces = [bytes([byte]) for byte in b"".join(pieces)[:3000]]
    return Conversation(pieces, [_answer(dice) for _ in range(count + 3)])


def _request(dice: random.Random) -> bytes:
    wild = dice.random() < 0.5
    headers = [dice.choice(HOSTS) if wild else b"Host: x"]
    line = dice.choice(LINES if wild else LINES[:30])
    body = dice.choice([b"", b"hello", b"0\r\n\r\n", b"GET /body HTTP/1.1\r\nHost: x\r\n\r\n"])
    count = dice.choice([1, 1, 1, 2, 0]) if body or dice.random() < 0.3 else 0
    frames = [dice.choice(FRAMES if wild else FRAMES[:8]) for _ in range(count)]
    headers += [frame.replace(b"%d", b"%d" % len(body)) for frame in frames]
    headers += dice.sample(OTHERS, dice.choice([0, 0, 1, 2])) if wild else []
    if wild:
        dice.shuffle(headers)
    head = b"\r\n".join([line, *(header for header in headers if header), b"", b""])
    is_chunked = any(b"hunked" in frame.lower() for frame in frames)
    return head + (_chunks(dice, body, is_wild=wild) if is_chunked else body)


def _chunks(dice: random.Random, body: bytes, *, is_wild: bool) -> bytes:
    """A body in chunks, or nearly."""
    made = b""
    size = dice.choice([1, 3, 100])
    for begin in range(0, len(body), size):
        piece = body[begin : begin + size]
        written = dice.choice(SIZES if is_wild else SIZES[:1])
        made += written.replace(b"%x", b"%x" % len(piece)).replace(b"%X", b"%X" % len(piece))
        made += b"\r\n" + piece + (dice.choice(ENDS) if is_wild else b"\r\n")
    last = dice.choice([b"0", b"0", b"000", b"0;a=b"]) if is_wild else b"0"
    return made + last + b"\r\n" + (dice.choice(TRAILERS) if is_wild else b"") + b"\r\n"


def _answer(dice: random.Random) -> Answer:
    parts = [dice.choice([b"", b"a", b"0\r\n\r\n", b"x" * 300]) for _ in range(dice.randint(1, 3))]
    return Answer(
        dice.choice(STATUSES),
        parts,
        has_length=dice.random() < 0.6,
        closes=dice.random() < 0.1,
        reads_body=dice.random() < 0.8,
    )
