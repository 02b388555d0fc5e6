"""Plugin routes on the short way: every response is the one that Quart makes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest
import structlog
import trio
from quart import (
    Response,
    abort,
    after_this_request,
    current_app,
    g,
    request,
    request_started,
    session,
    url_for,
)
from trio.testing import MockClock

from trivet import BackgroundPlugin, EventStream, Handler, Runtime, route
from trivet._web._app import build_app
from trivet._web._plain_routes import PlainRoutes
from trivet._web._quart._detached import Detached
from trivet.testing import open_plugins

from .test_middleware import Points


def asked_for() -> str:
    """A function that a handler calls, and that uses the request."""
    return f"{request.method} {request.path} {request.args.get('q')} {request.headers['X-Given']}"


class Once:
    """An iterable of one event."""

    def __init__(self) -> None:
        self._items = iter(["tick"])

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        for item in self._items:
            return item
        raise StopAsyncIteration


class Unprintable:
    """A value that JSON does not have."""


VALUES: dict[str, Any] = {
    "dict": {"b": 1, "a": ["é", None, 1.5]},
    "list": [1, "<b>"],
    "text": "é",
    "empty": "",
    "bytes": b"\x00\xff",
    "none": None,
    "number": 7,
    "object": Unprintable(),
    "unprintable": {"x": Unprintable()},
    "mixed-keys": {1: 1, "a": 2},
    "surrogate": "\udc80",
    "status": ("made", 201),
    "enum": ({"a": 1}, HTTPStatus.ACCEPTED),
    "text-status": ("made", "201"),
    "no-content": ("", 204),
    "not-modified": ("", 304),
    "odd-status": ("odd", 799),
    "no-status": ("odd", None),
    "headers": ("x", {"X-A": "1", "x-b": "2"}),
    "all": ("x", 404, {"X-A": "1"}),
    "pairs": ("x", 200, [("X-A", "1"), ("X-A", "2")]),
    "twice": ("x", {"X-A": "1", "x-a": "2"}),
    "type": ("x", {"Content-Type": "text/csv"}),
    "length": ("x", {"content-length": "7"}),
    "own-id": ("x", {"Luna-Request-Id": "mine", "Connection": "close"}),
    "number-in-header": ("x", {"X-A": 1}),
    "line-in-header": ("x", {"X-A": "1\r\nX-B: 2"}),
    "accent-in-header": ("x", {"X-A": "é"}),
    "one": ("x",),
    "four": ("x", 200, {}, {}),
}


class Shop(BackgroundPlugin):
    """Routes of every kind."""

    @route("/value/<name>")
    async def value(self, name: str) -> Any:
        return VALUES[name]

    @route("/later/<name>")
    async def later(self, name: str) -> Any:
        await trio.sleep(1)
        return VALUES[name]

    @route("/typed/<int:number>/<path:rest>")
    async def typed(self, number: int, rest: str) -> dict[str, object]:
        return {"number": number, "rest": rest}

    @route("/folder/")
    async def folder(self) -> str:
        return "folder"

    @route("/asks", methods=["GET", "POST"])
    async def asks(self) -> str:
        return asked_for()

    @route("/asks-later")
    async def asks_later(self) -> list[str | bytes]:
        before = asked_for()
        await trio.sleep(1)
        return [before, asked_for(), str(request.url_rule), await request.get_data(as_text=True)]

    @route("/reads", methods=["POST"])
    async def reads(self) -> dict[str, object]:
        return {"read": len(await request.get_data())}

    @route("/contexts")
    async def contexts(self) -> dict[str, object]:
        g.given = "given"

        @after_this_request
        async def add(response: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
            response.headers["X-After"] = str(g.given)
            return response

        known = [current_app.name, request.endpoint, url_for("shop folder /folder/")]
        return {"known": known, "session": dict(session)}

    @route("/response")
    async def response(self) -> Response:
        return Response("<p>", 418, {"X-A": "1"}, content_type="text/plain")

    @route("/stream")
    async def stream(self) -> EventStream:
        return EventStream(Once())

    @route("/aborts/<int:status>")
    async def aborts(self, status: int) -> str:
        abort(status)

    @route("/crashes/<kind>")
    async def crashes(self, kind: str) -> str:
        if kind == "group":
            raise ExceptionGroup("both", [ValueError("spilt"), KeyError("lost")])
        raise {"error": ValueError("spilt"), "exit": SystemExit(3)}[kind]

    @route("/verbs")
    class Verbs(Handler["Shop"]):
        """A route with two methods."""

        async def get(self) -> str:
            return "got"

        async def delete(self) -> tuple[str, int]:
            return "deleted", 202


PATHS = [
    *(f"/value/{name}" for name in VALUES),
    *("/later/dict", "/later/all", "/later/none", "/typed/7/a/b", "/typed/x/a", "/typed/7//a"),
    *("/folder/", "/folder", "//folder/", "/asks", "/asks-later", "/reads", "/contexts"),
    *("/response", "/stream", "/aborts/404", "/aborts/500", "/aborts/405", "/verbs"),
    *("/crashes/error", "/crashes/group", "/crashes/exit", "/nowhere", "/value", "/livez", "*"),
]


async def ask(
    app: Any, method: str, path: str, body: bytes | None = None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """The status, the headers and the body of the response."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": body or b"", "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await trio.sleep_forever()
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"shop.test"), (b"x-given", b"given"), (b"luna-request-id", b"r-1")]
    if body is not None:
        headers.append((b"content-length", str(len(body)).encode()))
    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "scheme": "http"}
    scope["method"] = method
    scope["server"] = ("shop.test", 80)
    await app({**scope, "path": path, "query_string": b"q=1", "headers": headers}, receive, send)
    start, *parts = sent
    content = b"".join(part["body"] for part in parts)
    return start["status"], list(start["headers"]), content


def add_nothing(*_: object) -> None:
    """Add no route to the short way."""


def without_short_way(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application of a program, in which Quart calls every handler."""
    with monkeypatch.context() as patch:
        patch.setattr(PlainRoutes, "add", add_nothing)
        return build_app(runtime)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_response_is_quarts(
    path: str, method: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status, the headers and the body of a response are those that Quart sends."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Shop) as runtime:
            expected = await ask(without_short_way(runtime, monkeypatch), method, path)
            begin = len(logs)
            assert await ask(build_app(runtime), method, path) == expected
    told = [(log["event"], log.get("plugin"), log.get("route")) for log in logs]
    assert told[begin : 2 * begin] == told[:begin]


@pytest.mark.parametrize("size", [0, 10, 2_000_000])
async def test_a_body_is_quarts(
    size: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler reads the body as in Quart, and one that is too large is refused."""
    async with open_plugins(Shop, max_body=1_000_000) as runtime:
        expected = await ask(without_short_way(runtime, monkeypatch), "POST", "/reads", bytes(size))
        assert await ask(build_app(runtime), "POST", "/reads", bytes(size)) == expected
    assert expected[0] == (413 if size > 1_000_000 else 200)


@pytest.mark.parametrize(
    ("path", "is_short"),
    [
        ("/value/dict", True),
        ("/value/all", True),
        ("/later/text", True),
        ("/typed/7/a/b", True),
        ("/value/none", False),
        ("/asks", True),
        ("/asks-later", True),
        ("/contexts", False),
        ("/aborts/404", False),
    ],
)
async def test_quart_is_asked_only_where_it_is_needed(
    path: str, is_short: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain answer of a handler that has left nothing to do for Quart is sent without Quart."""
    asked: list[Detached] = []
    go_on = Detached.go_on

    async def note(detached: Detached, *arguments: Any) -> None:
        asked.append(detached)
        await go_on(detached, *arguments)

    monkeypatch.setattr(Detached, "go_on", note)
    async with open_plugins(Shop) as runtime:
        await ask(build_app(runtime), "GET", path)
    assert (not asked) == is_short


async def test_a_hook_is_called(autojump_clock: MockClock) -> None:
    """Code that has connected to a signal of Quart is called for a plain route, too."""
    called: list[str] = []

    async def note(app: object, **_: object) -> None:
        called.append(request.path)

    async with open_plugins(Shop) as runtime:
        app = build_app(runtime)
        with request_started.connected_to(note, app):
            await ask(app, "GET", "/value/dict")
    assert called == ["/value/dict"]


async def test_a_request_is_stopped_on_the_short_way(autojump_clock: MockClock) -> None:
    """A handler that waits when its requests are cut off is cancelled, and answered 503."""
    async with open_plugins(Shop) as runtime:
        app = build_app(runtime)
        async with trio.open_nursery() as nursery:

            async def drain() -> None:
                await trio.sleep(0.5)
                await app.service.drain(trio.current_time())

            nursery.start_soon(drain)
            status, _, body = await ask(app, "GET", "/later/text")
    assert (status, b'"stopping"' in body) == (503, True)


async def test_a_client_that_leaves_ends_its_handler(autojump_clock: MockClock) -> None:
    """A handler that waits is cancelled when its client disconnects, without a fault."""
    sent: list[Any] = []
    messages: list[Any] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await trio.sleep(0.5)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "http_version": "1.1", "scheme": "http", "method": "GET"}
    headers = [(b"host", b"localhost")]
    given: Any = {**scope, "path": "/later/text", "query_string": b"", "headers": headers}
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Shop, Points) as runtime:
            await build_app(runtime)(given, receive, send)
            assert trio.current_time() < 1
            await trio.testing.wait_all_tasks_blocked()
            (points,) = runtime.get(Points).requests
    assert not sent
    assert points[0].tags["status_code"] == 499
    assert not [log for log in logs if log["log_level"] == "error"]


async def test_a_route_is_found_again_after_another_was_added(autojump_clock: MockClock) -> None:
    """A plain route answers by the same handler, also when a rule is added at its path."""

    async def other() -> str:
        return "other"

    async with open_plugins(Shop) as runtime:
        app = build_app(runtime)
        before = await ask(app, "GET", "/verbs")
        app.add_url_rule("/verbs", "other", other)
        assert await ask(app, "GET", "/verbs") == before
        assert (await ask(app, "DELETE", "/verbs"))[2] == b"deleted"
        assert await ask(app, "GET", "/nowhere") == await ask(app, "GET", "/nowhere")


async def test_a_setting_of_the_writer_holds(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain route writes JSON as Quart does, also where it is written in another way."""
    async with open_plugins(Shop) as runtime:
        for build in (build_app, partial(without_short_way, monkeypatch=monkeypatch)):
            app: Any = build(runtime)
            app.json.sort_keys = app.json.ensure_ascii = False
            body = (await ask(app, "GET", "/value/dict"))[2]
            assert body.decode() == '{"b":1,"a":["é",null,1.5]}\n'
