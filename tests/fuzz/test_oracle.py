"""A short differential run beside h11, and servers that are wrong, which it has to tell apart."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from trivet._web._server import _heads, _known_heads, _request

from .framing import conversation
from .oracle import differences

SEED = 20_261_130
SECONDS = 3.0
ENOUGH = 2000
"""Conversations within which a wrong server is found out."""


def test_a_number_is_a_conversation() -> None:
    """The same seed and number make the same conversation; other numbers make other ones."""
    assert conversation(1, 2) == conversation(1, 2) != conversation(2, 1)


@pytest.mark.model
async def test_nothing_is_accepted_that_h11_refuses() -> None:
    """Each request that is accepted, h11 reads as the same; each response, as it was meant."""
    until = time.monotonic() + SECONDS
    number = 0
    while time.monotonic() < until:
        assert await differences(conversation(SEED, number)) == [], number
        number += 1
    assert number > 100


def no_host(patch: pytest.MonkeyPatch) -> None:
    """A server that takes any number of Hosts."""
    parsed = _heads.parse_head

    def parse(head: bytes) -> _heads.Head:
        without = re.sub(rb"(?im)^host:.*\r\n", b"", head)
        read = parsed(without.replace(b"\r\n", b"\r\nHost: x\r\n", 1))
        read.headers.remove((b"host", b"x"))
        read.headers += [(b"host", each) for each in re.findall(rb"(?im)^host: *(.*?)\r\n", head)]
        return read

    patch.setattr(_known_heads, "parse_head", parse)


def one_byte_more(patch: pytest.MonkeyPatch) -> None:
    """A server that takes a byte of the next request for one of a body."""
    made = _request.RequestBody.__init__

    def make(self: _request.RequestBody, head: _heads.Head, received: bytearray) -> None:
        if head.length:
            head.length += 1
        made(self, head, received)

    patch.setattr(_request.RequestBody, "__init__", make)


def every_coding(patch: pytest.MonkeyPatch) -> None:
    """A server that does not see a coding by its name in the HTTP of old."""
    parsed = _heads.parse_head

    def parse(head: bytes) -> _heads.Head:
        return parsed(head.replace(b"Transfer-Encoding: gzip, ", b"Transfer-Encoding: "))

    patch.setattr(_known_heads, "parse_head", parse)


def a_body_for_head(patch: pytest.MonkeyPatch) -> None:
    """A server that answers HEAD with a body."""
    made = _request.Response.__init__

    def make(self: _request.Response, head: _heads.Head) -> None:
        made(self, head)
        self.has_body = True

    patch.setattr(_request.Response, "__init__", make)


def one_more(patch: pytest.MonkeyPatch) -> None:
    """A server that goes on behind `Connection: close`."""
    patch.setattr(_heads.Head, "keeps_alive", True)


@pytest.mark.parametrize("fault", [no_host, one_byte_more, every_coding, a_body_for_head, one_more])
async def test_a_wrong_server_is_found_out(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that reads or answers requests in a wrong way is told apart from h11."""
    fault(monkeypatch)
    for number in range(ENOUGH):
        if await differences(conversation(SEED, number)):
            return
    pytest.fail("h11 has agreed with all of it")
