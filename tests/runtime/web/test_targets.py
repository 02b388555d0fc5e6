"""The first line and the Host of a request, and the responses to wrong ones."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from trivet import BackgroundPlugin, create_app, route
from trivet._web._problems import ProblemError
from trivet._web._targets import validated
from trivet.testing import open_plugins, serving

from .clients import ask, get, status

LIVE = get(b"/livez", b"Connection: close")


class Pages(BackgroundPlugin):
    @route("/")
    async def home(self) -> str:
        return "here"

    @route("/cups/<path:cup>")
    async def cup(self, cup: str) -> dict[str, str]:
        return {"cup": cup}


@asynccontextmanager
async def served() -> AsyncGenerator[str]:
    """The URL of some pages."""
    hosts = ["x", "y", "under_score"]
    async with open_plugins(Pages, allowed_hosts=hosts) as runtime, serving(runtime) as url:
        yield url


def line(target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    """A request with these headers and no others."""
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *headers, b"", b""])


HOST = b"Host: x"
REFUSED = {
    "no path": (line(b"?x", HOST), 400),
    "a relative path": (line(b"livez", HOST), 400),
    "a fragment only": (line(b"#", HOST), 400),
    "a scheme and a bracket": (line(b"http://[", HOST), 400),
    "a scheme and no host": (line(b"http:///livez", HOST), 400),
    "a scheme and half an address": (line(b"http://[::1/livez", HOST), 400),
    "a host that unicode makes a path": (line(b"http://%E2%84%80/livez", HOST), 400),
    "a user in the host": (line(b"http://u@x/livez", HOST), 400),
    "another scheme": (line(b"ftp://x/livez", HOST), 400),
    "a host and a port": (line(b"x:80", HOST, method=b"CONNECT"), 400),
    "bytes beyond ASCII": (line(b"/caf\xc3\xa9", HOST), 400),
    "a space": (line(b"/a b", HOST), 400),
    "no host": (line(b"/livez"), 400),
    "two hosts": (line(b"/livez", HOST, b"Host: y"), 400),
    "a host of dots": (line(b"/livez", b"Host: .."), 400),
    "a long label": (line(b"/livez", b"Host: " + b"a" * 64), 400),
    "a long name": (line(b"/livez", b"Host: " + b"a." * 128 + b"a"), 400),
    "a host beyond ASCII": (line(b"/livez", b"Host: caf\xe9"), 400),
    "a host with a path": (line(b"/livez", b"Host: x/y"), 400),
    "a host with a user": (line(b"/livez", b"Host: u@x"), 400),
    "a port that is none": (line(b"/livez", b"Host: x:http"), 400),
    "a port too large": (line(b"/livez", b"Host: x:65536"), 400),
    "an address too many": (line(b"/livez", b"Host: [1::2::3]"), 400),
    "an empty address": (line(b"/livez", b"Host: []"), 400),
    "a method in small letters": (line(b"/livez", HOST, method=b"get"), 501),
    "HEAD in small letters": (line(b"/", HOST, method=b"head"), 501),
    "a method in both": (line(b"/livez", HOST, method=b"Get"), 501),
    "a method not there": (line(b"/", HOST, method=b"BREW"), 405),
    "a new version": (line(b"/", HOST).replace(b"1.1", b"2.0"), 505),
    "a long target": (line(b"/livez?" + b"a" * 8192, HOST), 414),
    "a very long target": (line(b"/livez?" + b"a" * 40_000, HOST), 414),
    "many headers": (line(b"/livez", HOST, *[b"A: b"] * 200), 431),
    "long headers": (line(b"/livez", HOST, b"A: " + b"b" * 16_384), 431),
    "very long headers": (line(b"/livez", HOST, b"A: " + b"b" * 100_000), 431),
}


async def test_requests_that_are_refused() -> None:
    """A wrong request is a problem document, one log line at most, and costs no other request."""
    async with served() as url:
        for name, (asked, expected) in REFUSED.items():
            with structlog.testing.capture_logs() as logs:
                answer = await ask(url, asked, within=2 if expected == 405 else 60)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert (name, status(answer)) == (name, expected)
            assert b"application/problem+json" in head, name
            assert json.loads(body)["status"] == expected, name
            lines = [log["event"] for log in logs]
            assert lines == ([] if expected == 405 else ["request refused"]), name
            assert not [log for log in logs if "exc_info" in log], name
        assert status(await ask(url, LIVE)) == 200


ANSWERED = [
    line(b"/livez", b"Host:"),
    line(b"/livez", b"Host: x."),
    line(b"/livez", b"Host: under_score:0"),
    line(b"/livez", b"Host: 127.0.0.1:65535"),
    line(b"/livez", b"Host: [::1]:80"),
    line(b"/livez", b"host: x"),
    line(b"http://x/livez", b"Host: y"),
    line(b"HTTP://x:80/livez?a=b", HOST),
    line(b"/livez?" + b"a" * 8000, HOST),
    line(b"/livez", HOST, *[b"A: b"] * 90),
    line(b"/", HOST, method=b"HEAD"),
    line(b"http://x", b"Host: y"),
    line(b"http://x?a", b"Host: y"),
    *[get(b"/cups/" + path) for path in (b"%00", b"%ff", b"%", b"%zz", b"\\", b"%e2%80%a8")],
]


async def test_requests_that_are_answered() -> None:
    """An unusual request that is right is answered; an escape in its path is text for the route."""
    async with served() as url:
        for asked in ANSWERED:
            answer = await ask(url, asked + LIVE)
            assert (asked, answer.count(b"HTTP/1.1 200")) == (asked, 2)
        assert status(await ask(url, line(b"/livez").replace(b"1.1", b"1.0"))) == 200


async def test_all_servers_are_asked_alike() -> None:
    """A malformed target or host is a 400 behind another server, too."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    wrong: list[dict[str, Any]] = [
        {"path": ""},
        {"path": "http://["},
        {"query_string": b"\xff"},
        {"headers": [(b"host", b"..")]},
        {"headers": [(b"host", b"x"), (b"host", b"y")]},
    ]
    async with open_plugins(Pages) as runtime:
        for fault in wrong:
            scope: Any = {
                "type": "http",
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": "/",
                "query_string": b"",
                "headers": [(b"host", b"x")],
                **fault,
            }
            await create_app(runtime)(scope, trio.sleep_forever, send)
            (start, *_) = sent
            assert start["status"] == 400
            sent.clear()


@given(path=st.text(), raw=st.none() | st.binary(), host=st.lists(st.binary(), max_size=2))
def test_any_target(path: str, raw: bytes | None, host: list[bytes]) -> None:
    """A target becomes a path, or it is refused."""
    scope: Any = {
        "type": "http",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", name) for name in host],
    }
    if raw is not None:
        scope["raw_path"] = raw
    try:
        found = validated(scope)["path"]
    except ProblemError as problem:
        found = "/" if problem.status.value == 400 else ""
    assert found == "*" or found.startswith("/")
