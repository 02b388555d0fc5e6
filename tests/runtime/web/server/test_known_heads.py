"""The heads of recent requests: parsed once, in bounded number, and without secrets."""

from __future__ import annotations

import pytest

from trivet._web._server import _known_heads
from trivet._web._server._heads import Head, RefusedError
from trivet._web._server._known_heads import KnownHeads
from trivet._web._shortcuts import RequestHead

HEAD = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"


def parse(known: KnownHeads, path: bytes = b"", headers: bytes = b"", server: str = "1") -> Head:
    """The head of a request."""
    return known.parse(HEAD % (path, headers), server)


def test_the_same_bytes_are_the_same_head() -> None:
    """A head is parsed once for an address of this machine."""
    known = KnownHeads(None)
    assert parse(known) is parse(known)
    assert parse(known) is not parse(known, server="2")
    assert (parse(known, b"a").target, parse(known, b"b").target) == (b"/a", b"/b")


def test_a_head_is_kept_until_others_come() -> None:
    """The number of heads is bounded; the oldest one makes room."""
    known = KnownHeads(None)
    first = parse(known)
    others = [parse(known, b"%d" % number) for number in range(_known_heads.MAX_KNOWN - 1)]
    assert parse(known) is first
    parse(known, b"more")
    assert parse(known, b"0") is others[0]
    assert parse(known) is not first


@pytest.mark.parametrize(
    "headers",
    [
        b"Authorization: Bearer correct-horse-battery\r\n",
        b"Cookie: trivet_session=x\r\n",
        b"Proxy-Authorization: Basic x\r\n",
        b"X-Long: " + b"x" * 1000 + b"\r\n",
    ],
)
def test_heads_that_are_not_kept(headers: bytes) -> None:
    """A head with a secret stays in memory no longer than its request, nor does a long one."""
    for is_token in (None, b"Bearer another-correct-horse".__eq__):
        known = KnownHeads(None, is_token)
        assert parse(known, headers=headers) is not parse(known, headers=headers)


def test_a_head_with_a_token_is_kept() -> None:
    """A token is in memory anyway, so that its heads are kept; a wrong one is not, and a cookie
    beside a token is not either."""
    good = b"Authorization: Bearer correct-horse-battery\r\n"
    known = KnownHeads(None, lambda value: value == b"Bearer correct-horse-battery")
    assert parse(known, headers=good) is parse(known, headers=good)
    wrong = b"Authorization: Basic x\r\n"
    for bad in (good.replace(b"horse", b"mouse"), good + b"Cookie: a=x\r\n", good + wrong):
        assert parse(known, headers=bad) is not parse(known, headers=bad)


def test_a_refused_head_is_refused_each_time() -> None:
    """A refusal is found again."""
    known = KnownHeads(None)
    for _ in range(2):
        with pytest.raises(RefusedError, match="one Host"):
            parse(known, headers=b"Host: other\r\n")


def test_a_shortcut_is_looked_for_once() -> None:
    """A head has its shortcut, unless the connection ends with its response."""
    asked: list[tuple[bytes, str]] = []

    def find(head: RequestHead, server: str) -> None:
        asked.append((head.target, server))

    known = KnownHeads(find)
    for _ in range(2):
        parse(known, b"a")
        parse(known, b"b", b"Connection: close\r\n")
        known.parse(b"GET /c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "1")
    assert asked == [(b"/a", "1")]
