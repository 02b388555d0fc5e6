"""Heads of requests: the accepted ones, the refused ones, and the end of each."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet._web._server._heads import (
    FIELD_LIMIT,
    HEAD_LIMIT,
    TARGET_LIMIT,
    Chunks,
    Head,
    RefusedError,
    is_websocket_handshake,
    parse_head,
    take_head,
)

LINE = b"POST /path HTTP/1.1\r\n"
HOST = b"Host: x\r\n"
BLANK = b"\r\n"


def read(sent: bytes) -> Head:
    """The head of a request that was received as a whole."""
    waiting = bytearray(sent)
    head = take_head(waiting)
    assert head is not None
    return parse_head(head)


def refused(sent: bytes) -> int:
    """The status with which a request is refused; 0 if it is accepted."""
    try:
        read(sent)
    except RefusedError as error:
        return error.status if error.reason else -1
    return 0


def test_a_head_is_read() -> None:
    """Method, target, version and headers are those of the request, names in lower case."""
    head = read(b"GET /a%20b?c=d HTTP/1.0\r\nX-One:  1 \t\r\nx-one:2\r\nX-Empty:\r\n\r\n")
    assert (head.method, head.target, head.version) == ("GET", b"/a%20b?c=d", "1.0")
    assert head.headers == [(b"x-one", b"1"), (b"x-one", b"2"), (b"x-empty", b"")]
    assert (head.get(b"x-one"), head.get(b"x-two", b"none")) == (b"1", b"none")


def test_a_head_is_taken_out_alone() -> None:
    """Blank lines in front are passed over; the bytes behind it stay for the body."""
    waiting = bytearray(b"\r\n\n\r\n" + LINE + HOST + BLANK + b"body")
    assert take_head(waiting) == LINE + HOST + BLANK
    assert waiting == b"body"


@pytest.mark.parametrize("part", [b"\r", b"\r\n", LINE, LINE + HOST, LINE + HOST + b"\r"])
def test_a_part_of_a_head_waits(part: bytes) -> None:
    """A head that is not whole stays in the buffer."""
    waiting = bytearray(part)
    assert take_head(waiting) is None


LENGTHS = {
    b"": 0,
    b"Content-Length: 0\r\n": 0,
    b"Content-Length: 5\r\n": 5,
    b"Content-Length: 00005\r\n": 5,
    b"Transfer-Encoding: chunked\r\n": None,
    b"Transfer-Encoding: Chunked \r\n": None,
}


@pytest.mark.parametrize("header", LENGTHS)
def test_the_length_of_a_body(header: bytes) -> None:
    """A body has the bytes that its head announces, or comes in chunks."""
    assert read(LINE + HOST + header + BLANK).length == LENGTHS[header]


REFUSED = {
    "both lengths": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
    "both lengths, turned round": (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 6\r\n", 400),
    "a length twice": (b"Content-Length: 5\r\nContent-Length: 5\r\n", 400),
    "a list of lengths": (b"Content-Length: 5, 6\r\n", 400),
    "a list of one length": (b"Content-Length: 5, 5\r\n", 400),
    "a length with a sign": (b"Content-Length: +5\r\n", 400),
    "a negative length": (b"Content-Length: -5\r\n", 400),
    "a length in hexadecimal": (b"Content-Length: 0x5\r\n", 400),
    "a length with a point": (b"Content-Length: 5.0\r\n", 400),
    "a length with an underscore": (b"Content-Length: 1_0\r\n", 400),
    "a length with a space": (b"Content-Length: 1 0\r\n", 400),
    "an empty length": (b"Content-Length:\r\n", 400),
    "a length of foreign digits": ("Content-Length: \u0665\r\n".encode(), 400),
    "a length beyond all numbers": (b"Content-Length: " + b"9" * 30 + b"\r\n", 400),
    "lengths with a tab between": (b"Content-Length: 5\t5\r\n", 400),
    "a length in quotes": (b'Content-Length: "5"\r\n', 400),
    "a length with an exponent": (b"Content-Length: 5e0\r\n", 400),
    "a length behind a comma": (b"Content-Length: ,5\r\n", 400),
    "a length with a semicolon": (b"Content-Length: 5;\r\n", 400),
    "a length with a hard space": (b"Content-Length: 5\xa0\r\n", 400),
    "a length that is folded": (b"Content-Length:\r\n 5\r\n", 400),
    "lengths that differ in case": (b"Content-Length: 5\r\ncontent-length: 5\r\n", 400),
    "two encodings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
    "an encoding in front": (b"Transfer-Encoding: gzip, chunked\r\n", 501),
    "an encoding behind": (b"Transfer-Encoding: chunked, gzip\r\n", 400),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked\r\n", 400),
    "another encoding": (b"Transfer-Encoding: xchunked\r\n", 501),
    "an encoding by another name": (b"Transfer-Encoding: x-chunked\r\n", 501),
    "an encoding in two headers": (
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        501,
    ),
    "an encoding in two headers, turned round": (
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        501,
    ),
    "an encoding with a parameter": (b"Transfer-Encoding: chunked;q=1\r\n", 501),
    "an encoding with a hard space": (b"Transfer-Encoding: chunked\xa0\r\n", 501),
    "an encoding that is folded": (b"Transfer-Encoding:\r\n chunked\r\n", 400),
    "no encoding": (b"Transfer-Encoding:\r\n", 400),
    "identity in front": (b"Transfer-Encoding: identity, chunked\r\n", 501),
    "identity": (b"Transfer-Encoding: identity\r\n", 501),
    "an encoding with a comma": (b"Transfer-Encoding: chunked,\r\n", 400),
    "a quoted encoding": (b'Transfer-Encoding: "chunked"\r\n', 501),
    "an encoding with a tab in it": (b"Transfer-Encoding: chun\tked\r\n", 501),
    "a vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", 400),
    "a space before the colon": (b"Content-Length : 5\r\n", 400),
    "a tab before the colon": (b"Content-Length\t: 5\r\n", 400),
    "a space in a name": (b"Content Length: 5\r\n", 400),
    "a name in brackets": (b"X(A): 5\r\n", 400),
    "no name": (b": 5\r\n", 400),
    "no colon": (b"Content-Length\r\n", 400),
    "a name that is no ASCII": (b"X-\xe9: 5\r\n", 400),
    "a zero in a value": (b"X-A: a\x00b\r\n", 400),
    "a delete in a value": (b"X-A: a\x7fb\r\n", 400),
    "a bare return": (b"X-A: a\rContent-Length: 5\r\n", 400),
    "a bare return at the end": (b"X-A: a\r\r\n", 400),
    "a bare line feed": (b"X-A: a\nContent-Length: 5\r\n", 400),
    "a folded header": (b"X-A: a\r\n Content-Length: 5\r\n", 400),
    "a fold with a tab": (b"X-A: a\r\n\tb\r\n", 400),
    "another host": (b"Host: y\r\n", 400),
    "the same host again": (b"Host: x\r\n", 400),
    "a host in capitals": (b"HOST: x\r\n", 400),
    "an empty host": (b"Host:\r\n", 400),
    "a space before the host's colon": (b"Host : x\r\n", 400),
    "too many headers": (b"X: y\r\n" * FIELD_LIMIT, 431),
    "an upgrade in both lengths": (
        b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n",
        400,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_head_that_means_two_things(name: str) -> None:
    """A head is refused if another program on the way could read it otherwise."""
    header, status = REFUSED[name]
    assert refused(LINE + HOST + header + BLANK) == status
    if name != "a fold with a tab":  # Directly behind the line it would be a part of that.
        assert refused(LINE + header + HOST + BLANK) == status


LINES = {
    b"GET / HTTP/1.1\r\n": 0,
    b"GET //a HTTP/1.1\r\n": 0,
    b"GET http://x/a HTTP/1.1\r\n": 0,
    b"OPTIONS * HTTP/1.1\r\n": 0,
    b"BREW / HTTP/1.1\r\n": 0,
    b"M-SEARCH / HTTP/1.1\r\n": 0,
    b"brew / HTTP/1.1\r\n": 501,
    b"Get / HTTP/1.1\r\n": 501,
    b"GET / HTTP/1.2\r\n": 505,
    b"GET / HTTP/2.0\r\n": 505,
    b"GET / HTTP/0.9\r\n": 505,
    b"PRI * HTTP/2.0\r\n": 505,
    b"GET / HTTP/3.0\r\n": 505,
    b"GET / HTTP/1.9\r\n": 505,
    b"GET / HTTP/0.0\r\n": 505,
    b"PRI * HTTP/1.1\r\n": 400,
    b"GET / HTTP/11\r\n": 400,
    b"GET / HTTP/1\r\n": 400,
    b"GET / HTTP/1.\r\n": 400,
    b"GET / HTTP/1.10\r\n": 400,
    b"GET / HTTP/01.1\r\n": 400,
    b"GET / HTTP/-1.1\r\n": 400,
    b"GET / HTTP/1,1\r\n": 400,
    b"GET / HTTP/1.1x\r\n": 400,
    b"GET / HTTP /1.1\r\n": 400,
    b"GET / HTTPS/1.1\r\n": 400,
    b"GET / HTTP/1.1 \r\n": 400,
    b"GET  / HTTP/1.1\r\n": 400,
    b"GET\t/ HTTP/1.1\r\n": 400,
    b" GET / HTTP/1.1\r\n": 400,
    b"GET / http/1.1\r\n": 400,
    b"GET / RTSP/1.0\r\n": 400,
    b"SOURCE / ICE/1.0\r\n": 400,
    b"GET /\r\n": 400,
    b"GET\r\n": 400,
    b"GET /a b HTTP/1.1\r\n": 400,
    b"GET /\x00 HTTP/1.1\r\n": 400,
    b"GET /\xff HTTP/1.1\r\n": 400,
    b"GET / HTTP/1.1\n": 400,
    b"GET / HTTP/1.1\r\r\n": 400,
    b"G(T / HTTP/1.1\r\n": 400,
    b"\x16\x03\x01\x02\r\n": 400,
}


@pytest.mark.parametrize("line", LINES)
def test_the_first_line(line: bytes) -> None:
    """A request line has one method, one target and a version that this server speaks."""
    assert refused(line + HOST + BLANK) == LINES[line]


@pytest.mark.parametrize(("version", "status"), [(b"1.1", 400), (b"1.0", 0)])
def test_a_request_without_a_host(version: bytes, status: int) -> None:
    """HTTP/1.1 asks for a Host; no version has two."""
    line = b"GET / HTTP/" + version + b"\r\n"
    assert refused(line + BLANK) == status
    assert refused(line + b"X-Host: x\r\n\r\n") == status
    assert refused(line + HOST * 2 + BLANK) == 400


OLD = {
    b"Transfer-Encoding: chunked\r\n": 400,
    b"Transfer-Encoding: Chunked\r\nContent-Length: 5\r\n": 400,
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n": 400,
    b"Transfer-Encoding: gzip, chunked\r\n": 501,
    b"Transfer-Encoding: identity\r\n": 501,
    b"Content-Length: 5\r\n": 0,
    b"Expect: 100-continue\r\n": 0,
}


@pytest.mark.parametrize("header", OLD)
def test_a_body_before_there_were_chunks(header: bytes) -> None:
    """A body of HTTP/1.0 has a length, and no coding."""
    assert refused(b"POST / HTTP/1.0\r\n" + header + BLANK) == OLD[header]
    assert refused(b"POST / HTTP/1.0\r\n" + HOST + header + BLANK) == OLD[header]


@pytest.mark.parametrize(
    ("size", "status"), [(TARGET_LIMIT, 0), (TARGET_LIMIT + 1, 414), (10 * TARGET_LIMIT, 414)]
)
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_long_target(size: int, status: int, is_whole: bool) -> None:
    """A target may have 8 KiB; a longer one is refused before its end has come."""
    target = b"/" + b"x" * (size - 1)
    if is_whole or status == 0:
        assert refused(b"GET " + target + b" HTTP/1.1\r\n" + HOST + BLANK) == status
    elif size > 2 * TARGET_LIMIT:
        with pytest.raises(RefusedError) as caught:
            take_head(bytearray(b"GET " + target))
        assert caught.value.status == status


@pytest.mark.parametrize(("more", "status"), [(0, 0), (1, 431)])
def test_a_long_head(more: int, status: int) -> None:
    """A head may have 16 KiB, blank lines in front not counted."""
    rest = HEAD_LIMIT - len(LINE + HOST + b"X: \r\n" + BLANK) + more
    sent = LINE + HOST + b"X: " + b"x" * rest + b"\r\n" + BLANK
    assert refused(BLANK * 2 + sent) == status
    if status:
        with pytest.raises(RefusedError) as caught:
            take_head(bytearray(sent[:-1]))
        assert caught.value.status == status


KEPT = {
    (b"1.1", b""): True,
    (b"1.1", b"Connection: close\r\n"): False,
    (b"1.1", b"Connection: keep-alive, Close\r\n"): False,
    (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n"): False,
    (b"1.1", b"Connection: x\r\n"): True,
    (b"1.1", b"Connection: closed\r\n"): True,
    (b"1.1", b"Connection: ,, \tCLOSE ,\r\n"): False,
    (b"1.1", b"Connection: close;x\r\n"): True,
    (b"1.1", b"Proxy-Connection: close\r\n"): True,
    (b"1.0", b"Keep-Alive: timeout=5\r\n"): False,
    (b"1.0", b"Connection: x\r\nConnection: keep-alive\r\n"): True,
    (b"1.0", b""): False,
    (b"1.0", b"Connection: Keep-Alive\r\n"): True,
    (b"1.0", b"Connection: keep-alive, close\r\n"): False,
}


@pytest.mark.parametrize("asked", KEPT)
def test_a_connection_that_is_kept(asked: tuple[bytes, bytes]) -> None:
    """The client of 1.1 keeps its connection unless it says otherwise, one of 1.0 if it says so."""
    version, header = asked
    head = read(b"GET / HTTP/" + version + b"\r\n" + HOST + header + BLANK)
    assert head.keeps_alive == KEPT[asked]


SHAKEN = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def test_a_handshake() -> None:
    """A handshake of version 13 is one; any other upgrade is an offer that is ignored."""
    assert is_websocket_handshake(read(SHAKEN + BLANK))
    for other in (b"h2c", b"websocket2", b""):
        assert not is_websocket_handshake(
            read(SHAKEN.replace(b"WebSocket\r", other + b"\r") + BLANK)
        )
    assert not is_websocket_handshake(read(SHAKEN.replace(b"GET", b"POST") + BLANK))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Version: 13", b"Version: 12"),
        (b"Key: dG", b"Key: "),
        (b"Host: x", b"Host: x\r\nContent-Length: 5"),
        (b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked"),
        (b"Host: x", b"Host: x\r\nSec-WebSocket-Protocol: \xff"),
    ],
)
def test_a_handshake_that_is_refused(old: bytes, new: bytes) -> None:
    """A handshake that cannot be accepted is refused before an application sees it."""
    with pytest.raises(RefusedError) as caught:
        is_websocket_handshake(read(SHAKEN.replace(old, new) + BLANK))
    assert caught.value.status == 400


CHUNKS: dict[bytes, bytes] = {
    b"0\r\n\r\n": b"",
    b"5\r\nhello\r\n0\r\n\r\n": b"hello",
    b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n": b"hello!",
    b"A\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n": b"\r\n\r\n\r\n\r\n\r\n",
    b"1\r\nx\r\n0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n": b"x",
    b"001\r\nx\r\n000\r\n\r\n": b"x",
    b'1;a="b;c"\r\nx\r\n0;d\r\n\r\n': b"x",
}
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"


@given(body=st.sampled_from(sorted(CHUNKS)), cuts=st.sets(st.integers(1, 60)))
def test_a_body_in_chunks_ends_where_it_ends(body: bytes, cuts: set[int]) -> None:
    """A body is the content of its chunks, however they are cut, and the next request stays behind
    it."""
    sent = body + NEXT
    edges = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    waiting, chunks, found = bytearray(), Chunks(), b""
    for begin, end in pairwise(edges):
        waiting += sent[begin:end]
        found += chunks.take(waiting)
    assert chunks.is_complete
    assert (found, bytes(waiting)) == (CHUNKS[body], NEXT)


NO_CHUNKS = [
    b"\r\n",
    b";\r\n",
    b"\xb2\r\nx\r\n",
    b"1\t\r\nx\r\n",
    b"1\r\nx\n0\r\n\r\n",
    b"1\r\nx\r0\r\n\r\n",
    b"1\r\nx0\r\n\r\n",
    b"1;a=b\x00\r\nx\r\n",
    b"1,1\r\nx\r\n",
    b"1_0\r\n" + b"x" * 16 + b"\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\nX\r\n\r\n",
    b"0\r\nX: \x00\r\n\r\n",
    b"0\r\nX: a\r\n b\r\n\r\n",
    b"0\r\n\rX: y\r\n\r\n",
    b"x\r\n",
    b"-1\r\n",
    b"+1\r\nx\r\n",
    b"0x1\r\nx\r\n",
    b"1 \r\nx\r\n",
    b" 1\r\nx\r\n",
    b"\r\n1\r\nx\r\n",
    b"1\nx\n0\n\n",
    b"1\r\nxy\r\n",
    b"1;a\nb\r\nx\r\n",
    b"f" * 17 + b"\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nX : 5\r\n\r\n",
    b"0\r\n X: 5\r\n\r\n",
    b"1;" + b"a" * (HEAD_LIMIT + 1),
    b"0\r\nX: " + b"a" * (HEAD_LIMIT + 1) + b"\r\n\r\n",
]


@pytest.mark.parametrize("body", NO_CHUNKS)
def test_a_body_that_is_not_in_chunks(body: bytes) -> None:
    """A size, an extension or a trailer that has two meanings, or never ends, is refused."""
    with pytest.raises(RefusedError):
        Chunks().take(bytearray(body))


TOKENS = st.sampled_from(
    [
        *(b"GET", b"POST", b"brew", b"PRI", b" ", b"  ", b"\t", b"/", b"/a?b", b"*", b"http://x/"),
        *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"RTSP/1.0", b"\r\n", b"\n", b"\r", b":", b": "),
        *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X", b"chunked", b"5"),
        *(b"gzip", b",", b";", b"\x00", b"\x0b", b"\x7f", b"\xff", b"close", b"upgrade", b"+"),
    ]
)
WRITTEN = st.lists(TOKENS, max_size=12).map(b"".join)
BEGUN = [
    LINE + HOST,
    LINE + HOST + b"Content-Length: 5\r\n",
    LINE + HOST + b"Transfer-Encoding: chunked\r\n",
]


def spliced(line: bytes, more: bytes, at: int) -> bytes:
    """A head with something in the midst of it."""
    return line[:at] + more + line[at:]


NEARLY = st.builds(
    spliced,
    st.sampled_from(BEGUN),
    WRITTEN,
    st.integers(0, 60),
)


@given(sent=st.one_of(WRITTEN, NEARLY).map(lambda head: head + b"\r\n\r\n"))
def test_nothing_is_read_that_h11_refuses(sent: bytes) -> None:
    """h11 is the oracle: each head that is accepted here, h11 reads as the same request."""
    waiting = bytearray(sent)
    try:
        head = take_head(waiting)
        if head is None:
            return
        ours = parse_head(head)
    except RefusedError:
        return
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(head)
    request = theirs.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method.decode(), request.target) == (ours.method, ours.target)
    assert list(request.headers) == ours.headers
    body = theirs.next_event()
    announced = None if ours.length is None else ours.length
    assert isinstance(body, h11.EndOfMessage) == (announced == 0)
