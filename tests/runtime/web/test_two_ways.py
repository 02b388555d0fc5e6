"""Random conversations at Trivet's own server: by shortcuts, and through the layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from trivet._access._attempts import BURST
from trivet._events import _delivery
from trivet.testing import open_plugins, serving

from .clients import connect, get
from .test_passes import READERS, TOKENS, WRONG, Ordered, Refunded, Shop, Till, bearer, by
from .ways import Taken, uniform

T = TypeVar("T")

HOSTS = ["localhost", "evil.example", "127.0.0.1:99", "", "a b", "[::1]", "LOCALHOST.", "shop.x"]
NAMES = ["all", "reader", "clerk", "slow", "slower", "wrong", ""]
SITES = ["cross-site", "same-origin", "none"]
ORIGINS = ["http://localhost", "null", "http://evil.example", "https://shop.x:8"]
PROXIES = [
    by("192.0.2.7"),
    by("192.0.2.8"),
    by("192.0.2.7", "127.0.0.1"),
    by("", "x"),
    b"X-Forwarded-Host: localhost",
    b"X-Forwarded-Host: shop.x",
    b"X-Forwarded-Proto: https",
    b"Forwarded: for=192.0.2.7;host=localhost",
]
OTHERS = [
    b"Authorization: Basic x",
    b"Cookie: a=b",
    b"Cookie: trivet_session=x:y.z",
    b"Connection: close",
    b"Luna-Request-Id: r",
    b"Luna-Account-Id: \xff",
    b"traceparent: 00-t",
    b"Expect: 100-continue",
    b"Upgrade: x",
]
PATHS = ["/around", "/public", "/asks", "/waits", "/admin", "/hook", "/nothing", "/around?a=b",
         "/%61round", "/around/", "/livez", "/plugins"]  # fmt: skip
EVENTS = ["ordered", "refunded", "nothing", "ordered?wait=false", "monitoring_event", "%6frdered"]
BODIES = [b"{}", b'{"number":1}', b"{", b'{"number":"x"}', b""]


class Client:
    """A source of requests, most of which take the short way if their token may.

    Args:
        random: decides.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def mostly(self, usual: T, others: Sequence[T]) -> T:
        """The usual value; in one of five cases any other."""
        return usual if self._random.random() < 0.8 else self._random.choice(others)

    def request(self) -> bytes:
        """One request."""
        headers = [
            b"Host: " + self.mostly(HOSTS[0], HOSTS).encode(),
            bearer(self._random.choice(NAMES)),
            self.mostly(b"", [b"Sec-Fetch-Site: " + site.encode() for site in SITES]),
            self.mostly(b"", [b"Origin: " + origin.encode() for origin in ORIGINS]),
            self.mostly(b"", PROXIES),
            self.mostly(b"", OTHERS),
        ]
        body = b""
        if self._random.random() < 0.5:
            method, path = (
                self.mostly("GET", ["POST", "HEAD", "OPTIONS"]),
                self.mostly(PATHS[0], PATHS),
            )
        else:
            method, path = "POST", "/events/" + self.mostly(EVENTS[0], EVENTS)
            body = self.mostly(BODIES[0], BODIES)
            kind = self.mostly("application/json", ["text/plain", "application/json; charset=x"])
            headers += [b"Content-Type: " + kind.encode(), b"Content-Length: %d" % len(body)]
        self._random.shuffle(headers)
        lines = [f"{method} {path} HTTP/1.1".encode(), *filter(None, headers), b"", b""]
        return b"\r\n".join(lines) + body

    def conversation(self) -> list[bytes]:
        """Requests, some of which come again."""
        known = [self.request() for _ in range(8)]
        requests = [self.mostly(self._random.choice(known), [self.request()]) for _ in range(40)]
        if self._random.random() < 0.3:
            requests[BURST:BURST] = WRONG
        return [get(b"/public"), *requests]

    def program(self) -> dict[str, Any]:
        """The settings of a program."""
        return {
            "tokens": self._random.choice([TOKENS, TOKENS[:1], READERS, []]),
            "trusted_proxies": self._random.choice([[], ["127.0.0.1"], ["0.0.0.0/0"]]),
            "proxy_headers": self.mostly("x-forwarded", ["forwarded"]),
            "allowed_hosts": self.mostly(list[str](), [["shop.x"]]),
            "event_rates": self.mostly(dict[str, float](), [{"ordered": 0.001}]),
        }


async def shown(requests: list[bytes], program: dict[str, Any]) -> tuple[list[bytes], list[object]]:
    """Everything that a program shows of these requests, each over a connection of its own."""
    async with open_plugins(Shop, Till, event_types=[Ordered, Refunded], **program) as runtime:
        with capture_logs() as logs:
            got: list[bytes] = []
            async with serving(runtime) as url:
                for request in requests:
                    async with await connect(url) as stream:
                        await stream.send_all(request)
                        await stream.send_eof()
                        got.append(uniform(b"".join([data async for data in stream])))
        effects: list[object] = [
            sorted(runtime.unrouted.items()),
            *((name, each.handled) for name, each in runtime.statistics().items()),
            *((log["event"], log.get("route"), log.get("error")) for log in logs),
        ]
    return [re.sub(rb"Retry-After: \d+", b"", each, flags=re.IGNORECASE) for each in got], effects


@pytest.mark.parametrize("seed", range(10))
async def test_random_conversations(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """No request of a conversation is answered otherwise by a shortcut than through the layers."""
    client = Client(Random(seed))
    requests, program = client.conversation(), client.program()
    found: list[tuple[list[bytes], list[object]]] = []
    answers = 0
    for is_short in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(_delivery, "_numbers", count(1000))
            taken = Taken(patch, short=is_short)
            found.append(await shown(requests, program))
            answers += len(taken.answers)
    for request, mine, theirs in zip(requests, found[0][0], found[1][0], strict=True):
        assert (request, mine) == (request, theirs)
    assert found[0] == found[1]
    assert answers
