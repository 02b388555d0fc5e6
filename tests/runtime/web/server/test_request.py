"""A request in ASGI's form: its scope, its body piece by piece, and the bytes of its response."""

from __future__ import annotations

import re
from typing import cast

import pytest

from trivet._web._server._heads import Head, RefusedError, parse_head
from trivet._web._server._request import (
    SKIPPED_BODY_LIMIT,
    RequestBody,
    Response,
    ResponseError,
    own_response,
    scope_of,
)
from trivet._web._server._transport import Transport


class Ends:
    """A transport as a scope sees it."""

    client = ("192.0.2.1", 5000)
    server = ("192.0.2.2", 80)
    is_secure = False


DATE = re.compile(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n")


def head_of(*headers: bytes, line: bytes = b"GET / HTTP/1.1") -> Head:
    """The head of a request."""
    return parse_head(b"\r\n".join([line, b"Host: x", *headers, b"", b""]))


def bare(answer: bytes) -> bytes:
    """A response without its date; it has one."""
    assert len(DATE.findall(answer)) == 1
    return DATE.sub(b"", answer)


def test_a_scope() -> None:
    """The path is decoded, its raw form and the query are as the client wrote them."""
    head = head_of(b"X-A: b", line=b"PUT /a%20b%2Fc/%C3%A9?d=%20e HTTP/1.0")
    scope = scope_of(head, "http", cast("Transport", Ends()))
    assert scope["path"] == "/a b/c/\u00e9"
    assert scope["raw_path"] == b"/a%20b%2Fc/%C3%A9"
    assert scope["query_string"] == b"d=%20e"
    assert (scope["http_version"], scope["scheme"]) == ("1.0", "http")
    assert scope["headers"] == [(b"host", b"x"), (b"x-a", b"b")]
    assert (scope["client"], scope["server"]) == (("192.0.2.1", 5000), ("192.0.2.2", 80))


def test_a_body_of_known_length() -> None:
    """Bytes behind the body are left for the next request."""
    waiting = bytearray(b"he")
    body = RequestBody(head_of(b"Content-Length: 5"), waiting)
    assert (body.left, body.is_complete) == (5, False)
    assert body.take() == b"he"
    assert (body.left, body.is_complete) == (3, False)
    waiting += b"lloGET"
    assert body.take() == b"llo"
    assert (body.left, body.is_complete, bytes(waiting)) == (0, True, b"GET")


def test_a_body_in_chunks() -> None:
    """The rest of a body in chunks has an unknown length, until its end was received."""
    waiting = bytearray(b"5\r\nhel")
    body = RequestBody(head_of(b"Transfer-Encoding: chunked"), waiting)
    assert body.left == float("inf")
    assert body.take() == b"hel"
    waiting += b"lo\r\n0\r\n\r\nGET"
    assert body.take() == b"lo"
    assert (body.left, body.is_complete, bytes(waiting)) == (0, True, b"GET")


def test_a_body_in_no_chunks() -> None:
    """A body that is not as announced is refused."""
    body = RequestBody(head_of(b"Transfer-Encoding: chunked"), bytearray(b"hello\r\n"))
    with pytest.raises(RefusedError):
        body.take()


@pytest.mark.parametrize(
    ("line", "header", "expected"),
    [
        (b"POST / HTTP/1.1", b"Expect: 100-Continue", True),
        (b"POST / HTTP/1.0", b"Expect: 100-continue", False),
        (b"POST / HTTP/1.1", b"X: y", False),
    ],
)
def test_a_body_that_waits_to_be_asked_for(line: bytes, header: bytes, expected: bool) -> None:
    """Only a client of HTTP/1.1 may wait for `100 Continue`."""
    assert (
        RequestBody(head_of(header, b"Content-Length: 1", line=line), bytearray()).is_expected
        is expected
    )


def test_a_body_that_may_be_left_out() -> None:
    """A client that waits for `100 Continue` may leave its body out after a response."""
    body = RequestBody(head_of(b"Expect: 100-continue", b"Content-Length: 5"), bytearray())
    assert body.left == float("inf")
    body.is_expected = False
    assert body.left == 5
    assert RequestBody(head_of(b"Expect: 100-continue"), bytearray()).left == 0


def test_an_answer_of_known_length() -> None:
    """The head waits for the first part of the body, and both are sent as one."""
    answer = Response(head_of())
    headers = [(b"Content-Length", b"5"), (b"x-a", b"b")]
    assert answer.begin(200, headers, left=0) == b""
    sent = answer.body_part(b"he", more=True)
    assert bare(sent) == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-a: b\r\n\r\nhe"
    assert answer.body_part(b"llo", more=False) == b"llo"
    assert (answer.has_ended, answer.keeps_alive) == (True, True)


def test_an_answer_of_unknown_length() -> None:
    """The head does not wait, and the body comes in chunks; an empty part is no chunk."""
    answer = Response(head_of())
    assert bare(answer.begin(404, [], left=0)) == (
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert answer.body_part(b"x" * 20, more=True) == b"14\r\n" + b"x" * 20 + b"\r\n"
    assert answer.body_part(b"", more=True) == b""
    assert answer.body_part(b"y", more=False) == b"1\r\ny\r\n0\r\n\r\n"


def test_an_answer_to_an_old_client() -> None:
    """A response without a length ends with the connection."""
    answer = Response(head_of(line=b"GET / HTTP/1.0"))
    assert bare(answer.begin(200, [], left=0)) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    assert answer.body_part(b"hello", more=False) == b"hello"
    assert not answer.keeps_alive
    head = head_of(b"Connection: keep-alive", line=b"GET / HTTP/1.0")
    answer = Response(head)
    answer.begin(200, [(b"content-length", b"0")], left=0)
    assert b"\r\nConnection: keep-alive\r\n" in answer.body_part(b"", more=False)


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [(b"HEAD", 200, [(b"content-length", b"5")]), (b"HEAD", 200, []), (b"GET", 204, []),
     (b"GET", 304, [(b"content-length", b"5")])],
)  # fmt: skip
def test_an_answer_without_a_body(
    method: bytes, status: int, length: list[tuple[bytes, bytes]]
) -> None:
    """A response that has no body sends none, nor any chunk."""
    answer = Response(head_of(line=method + b" / HTTP/1.1"))
    sent = answer.begin(status, length, left=0)
    sent += answer.body_part(b"hello", more=False)
    assert sent.endswith(b"\r\n\r\n")
    assert b"chunked" not in sent
    assert answer.keeps_alive


@pytest.mark.parametrize(
    ("headers", "left", "kept"),
    [
        ([], 0, True),
        ([(b"Connection", b"Close")], 0, False),
        ([], SKIPPED_BODY_LIMIT, True),
        ([], SKIPPED_BODY_LIMIT + 1, False),
        ([], float("inf"), False),
    ],
)
def test_the_last_answer(headers: list[tuple[bytes, bytes]], left: float, kept: bool) -> None:
    """A response says that it is the last, if the application says so or too much would follow."""
    answer = Response(head_of())
    sent = answer.begin(200, headers, left=left)
    assert (answer.keeps_alive, b"Connection: close" in sent) == (kept, not kept)


@pytest.mark.parametrize(
    "header",
    [
        (b"x-a", b"b\r\nSet-Cookie: c"),
        (b"x-a", b"b\nc"),
        (b"x-a", b"b\x00"),
        (b"x a", b"b"),
        (b"x:a", b"b"),
        (b"", b"b"),
        (b"content-length", b"-1"),
        (b"content-length", b"five"),
    ],
)
def test_a_header_that_is_none(header: tuple[bytes, bytes]) -> None:
    """An application cannot end a header, or the head, with a header's value."""
    answer = Response(head_of())
    with pytest.raises(ResponseError):
        answer.begin(200, [header], left=0)


@pytest.mark.parametrize("second", [b"5", b"6"])
def test_two_lengths(second: bytes) -> None:
    """A response has one length."""
    answer = Response(head_of())
    with pytest.raises(ResponseError):
        answer.begin(200, [(b"content-length", b"5"), (b"Content-Length", second)], left=0)


@pytest.mark.parametrize("status", [0, 99, 100, 101, 103, 199, 1000])
def test_a_status_that_is_not_final(status: int) -> None:
    """A client would wait for another status behind an informational one."""
    with pytest.raises(ResponseError):
        Response(head_of()).begin(status, [], left=0)


def test_no_content_has_no_length() -> None:
    """A response without content does not announce the length of its content."""
    answer = Response(head_of())
    assert bare(answer.begin(204, [(b"content-length", b"0")], left=0) + answer.held) == (
        b"HTTP/1.1 204 No Content\r\n\r\n"
    )


def test_an_answer_that_is_not_as_long_as_it_said() -> None:
    """A body has the announced length: more would be read as the next response, fewer waited
    for."""
    for body in (b"hell", b"hello!"):
        answer = Response(head_of())
        answer.begin(200, [(b"content-length", b"5")], left=0)
        with pytest.raises(ResponseError):
            answer.body_part(body, more=False)
        assert (answer.keeps_alive, answer.has_ended) == (False, False)


def test_an_answer_out_of_order() -> None:
    """A response has one head, a body behind it, and one end."""
    answer = Response(head_of())
    with pytest.raises(ResponseError):
        answer.body_part(b"", more=False)
    answer.begin(200, [], left=0)
    with pytest.raises(ResponseError):
        answer.begin(200, [], left=0)
    answer.body_part(b"", more=False)
    with pytest.raises(ResponseError):
        answer.body_part(b"", more=False)


def test_an_answer_of_the_server() -> None:
    """A response of the server itself is whole, and the last of its connection."""
    sent = own_response(400, [(b"Content-Type", b"text/plain")], b"no")
    assert bare(sent) == (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\nno"
    )
    assert own_response(400, [], b"no", has_body=False).endswith(b"\r\n\r\n")
