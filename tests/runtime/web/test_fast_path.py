"""The fast path: which requests are answered without the web framework, and how they are read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, cast
from urllib.parse import unquote_to_bytes

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header
from werkzeug.routing import RequestRedirect
from werkzeug.urls import uri_to_iri

from trivet import (
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    MonitoringPlugin,
    MonitoringPoint,
    Runtime,
    Settings,
    create_app,
    route,
)
from trivet._program._loader import load
from trivet._web._app import build_app
from trivet._web._fast_path import QUERY_ERRORS, EndpointRequest
from trivet.testing import client, open_plugins

HOST = (b"host", b"localhost")


class Ping(Event):
    number: int = 0


class Pong(EventPlugin[Ping]):
    """A subscriber."""

    async def handle_event(self, event: Ping) -> None:
        pass


class Stuck(EventPlugin[Ping]):
    """A subscriber with one event in flight for ever, and room for one; publishers wait for a
    minute."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=1, block_for=60)

    async def handle_event(self, event: Ping) -> None:
        await trio.sleep_forever()


class Points(MonitoringPlugin):
    """A plugin that notes the points of each request."""

    noted: ClassVar[list[MonitoringPoint]] = []

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        self.noted.extend(points)


class Greedy(BackgroundPlugin):
    """A plugin with routes that match everywhere."""

    @route("/<path:rest>", methods=["GET", "POST", "PATCH"])
    async def everything(self, rest: str) -> str:
        return f"greedy {rest}"

    @route("/<first>/<second>", methods=["GET", "POST", "DELETE"])
    async def pair(self, first: str, second: str) -> str:
        return f"greedy {first} {second}"


APP = build_app(Runtime(load(Settings(), plugins=[Pong, Greedy])))
RULES = APP.url_map.bind("")
OURS = {(endpoint.method, endpoint.rule) for endpoint in APP.service.endpoints}


def rule_of(method: str, path: str) -> str | None:
    """The rule that Quart finds."""
    try:
        rule, _ = RULES.match(path, method, return_rule=True)
    except (HTTPException, RequestRedirect):
        return None
    return rule.rule


SEGMENTS = st.sampled_from(
    ["livez", "readyz", "events", "plugins", "x", "", "é", "a b", "%2F", "-", "restart"]
)
ACTIONS = st.tuples(st.sampled_from(["-", "x"]), st.just("plugins"), SEGMENTS, SEGMENTS)
PATHS = (st.lists(SEGMENTS, max_size=4) | ACTIONS).map(lambda segments: "/" + "/".join(segments))


@given(path=PATHS, method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]))
def test_an_endpoint_has_the_requests_of_its_rule(path: str, method: str) -> None:
    """A request has an endpoint if Quart would find its rule for the request, and not otherwise."""
    found = APP.service.endpoints.find(method, "/" + path.lstrip("/"))
    rule = rule_of(method, path)
    known = "GET" if method == "HEAD" else method
    assert (found is not None) == ((known, rule) in OURS)
    if found is not None:
        assert found[0].rule == rule


async def ask(
    runtime: Runtime, method: str, path: str, *received: Any, **scope: Any
) -> list[dict[str, Any]]:
    """Make a request as a server would pass it on; then the client waits for ever."""
    sent: list[dict[str, Any]] = []
    messages = list(received)

    async def receive() -> Any:
        if not messages:
            await trio.sleep_forever()
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    head = {"type": "http", "http_version": "1.1", "scheme": "http", "query_string": b""}
    whole: Any = {**head, "method": method, "path": path, "headers": [HOST], **scope}
    await create_app(runtime)(whole, receive, send)
    return sent


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/livez", ""),
        ("//livez", ""),
        ("http://example.org/livez", ""),
        ("/shop/livez", "/shop"),
        ("/shop//livez", "/shop"),
    ],
)
async def test_a_path_in_another_form(path: str, root: str) -> None:
    """A path in a proxy's form, and one below a server's root, mean the same as in Quart."""
    async with open_plugins(Greedy) as runtime:
        start, body = await ask(runtime, "GET", path, root_path=root)
    assert (start["status"], body["body"]) == (200, b'{"status":"alive"}\n')


@pytest.mark.parametrize("path", ["/livez", "/shop", "/shoplivez"])
async def test_a_path_outside_of_the_root(path: str) -> None:
    """A path outside of the server's root is not found."""
    async with open_plugins(Pong) as runtime:
        start, *_ = await ask(runtime, "GET", path, root_path="/shop")
    assert start["status"] == (200 if path == "/shoplivez" else 404)


async def test_head_is_get_without_the_document(autojump_clock: MockClock) -> None:
    """HEAD has GET's headers; the server leaves the body out."""
    async with open_plugins(Pong) as runtime:
        asking = client(runtime)
        got, head = await asking.get("/readyz"), await asking.head("/readyz")
    assert head.status_code == 200
    assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert head.headers["Content-Type"] == got.headers["Content-Type"] == "application/json"


async def test_the_other_methods_are_said(autojump_clock: MockClock) -> None:
    """OPTIONS, and the refusal of a wrong method, name the allowed methods."""
    async with open_plugins(Pong) as runtime:
        asking = client(runtime)
        for path, methods in (
            ("/livez", {"GET", "HEAD", "OPTIONS"}),
            ("/events/ping", {"POST", "OPTIONS"}),
            ("/events", {"POST", "OPTIONS"}),
        ):
            response = await asking.options(path)
            assert set(response.headers["Allow"].split(", ")) == methods
            response = await asking.put(path)
            assert response.status_code == 405
            assert set(response.headers["Allow"].split(", ")) == methods


async def test_a_client_that_leaves_while_its_event_waits(autojump_clock: MockClock) -> None:
    """An event that waits for room is not published after its client has disconnected."""
    async with open_plugins(Stuck, Points) as runtime:
        asking = client(runtime)
        for _ in range(2):
            await asking.post("/events/ping", json={})
            await wait_all_tasks_blocked()
        begun, into = trio.current_time(), trio.open_memory_channel[Any](3)
        await into[0].send({"type": "http.request", "body": b"{}", "more_body": False})
        Points.noted.clear()
        await _ask_and_leave(runtime, into)
        assert trio.current_time() == begun + 5
        await wait_all_tasks_blocked()
        assert runtime.statistics()["stuck"].accepted == 2
        assert [point.tags["status_code"] for point in Points.noted] == [499, 499]


async def _ask_and_leave(runtime: Runtime, into: Any) -> None:
    send, receive = into
    sent: list[Any] = []

    async def leave() -> None:
        await trio.sleep(5)
        await send.send({"type": "http.disconnect"})

    async def note(message: Any) -> None:
        sent.append(message)

    head = {"type": "http", "http_version": "1.1", "scheme": "http", "query_string": b""}
    headers = [HOST, (b"content-type", b"application/json"), (b"content-length", b"2")]
    scope: Any = {**head, "method": "POST", "path": "/events/ping", "headers": headers}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await create_app(runtime)(scope, receive.receive, note)
    assert sent == []


async def test_a_client_that_leaves_in_the_midst_of_its_event(autojump_clock: MockClock) -> None:
    """A body that breaks off publishes nothing, and is not answered."""
    piece = {"type": "http.request", "body": b'{"number": ', "more_body": True}
    headers = [HOST, (b"content-type", b"application/json"), (b"content-length", b"200")]
    async with open_plugins(Pong) as runtime:
        sent = await ask(
            runtime, "POST", "/events/ping", piece, {"type": "http.disconnect"}, headers=headers
        )
        assert runtime.statistics()["pong"].accepted == 0
    assert sent == []


async def test_an_event_in_pieces(autojump_clock: MockClock) -> None:
    """A body is received to its end, whether its length was announced or not."""
    pieces = [
        {"type": "http.request", "body": body, "more_body": True}
        for body in (b'{"number"', b": 7}")
    ]
    end = {"type": "http.request", "body": b"", "more_body": False}
    headers = [HOST, (b"content-type", b"application/json")]
    async with open_plugins(Pong) as runtime:
        start, *_ = await ask(
            runtime,
            "POST",
            "/events/ping",
            *pieces,
            headers=[*headers, (b"content-length", b"13")],
        )
        assert start["status"] == 202
        start, *_ = await ask(runtime, "POST", "/events/ping", *pieces, end, headers=headers)
        assert start["status"] == 202


@asynccontextmanager
async def uploading(to_app: trio.MemorySendChannel[Any]) -> AsyncGenerator[None]:
    """A client that sends without end."""

    async def upload() -> None:
        while True:
            await to_app.send({"type": "http.request", "body": b"x" * 65536, "more_body": True})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("path", "status"), [("/events/none", 404), ("/events/ping", 413), ("/events/ping?wait=x", 400)]
)
async def test_the_rest_of_a_body_goes_by(
    path: str, status: int, autojump_clock: MockClock
) -> None:
    """A server that passes the rest of a body on before it ends the response is not kept
    waiting."""
    to_app, from_server = trio.open_memory_channel[Any](1)
    answer: list[Any] = []

    async def send(message: Any) -> None:
        answer.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await to_app.send({"type": "http.disconnect"})

    path, _, query = path.partition("?")
    head = {"type": "http", "http_version": "1.1", "scheme": "http", "query_string": query.encode()}
    headers = [HOST, (b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    scope: Any = {**head, "method": "POST", "path": path, "headers": headers}
    async with open_plugins(Pong, max_body=100_000) as runtime:
        begun = trio.current_time()
        async with uploading(to_app):
            await create_app(runtime)(scope, from_server.receive, send)
        assert trio.current_time() == begun
    assert answer[0]["status"] == status


async def test_a_crash_of_ours_tells_the_client_nothing(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of an endpoint is a JSON 500 without the exception, which is in the log."""
    async with open_plugins(Pong, Points) as runtime:
        asking = client(runtime)

        def fail(*_: object, **__: object) -> None:
            raise ValueError("swordfish")

        Points.noted.clear()
        monkeypatch.setattr(runtime.events, "decode", fail)
        response = await asking.post("/events/ping", json={})
        await wait_all_tasks_blocked()
    assert response.status_code == 500
    assert await response.get_json() == {
        "title": "Internal Server Error",
        "status": 500,
        "detail": "the handler crashed",
        "error_code": "internal_error",
    }
    log = capsys.readouterr().out
    assert "ValueError: swordfish" in log
    assert "POST:/events/{name}" in log
    assert [point.series for point in Points.noted] == ["requests", "errors"]


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\n")))
def test_a_media_type_is_read_as_quart_reads_it(value: str) -> None:
    """An endpoint and Quart see the same media type in a header."""
    headers = [(b"content-type", value.encode("latin-1"))]
    scope: Any = {"http_version": "1.1", "query_string": b"", "headers": headers}
    request = EndpointRequest(scope, cast("Any", None), "", 0)
    assert request.media_type == parse_options_header(value)[0].lower()


@pytest.mark.parametrize("escaped", ["%FF", "%C3"])
def test_bytes_that_are_not_utf8_stay_escaped(escaped: str) -> None:
    """A query's bytes that are not UTF-8 stay escaped, as in a route of Quart's."""
    assert unquote_to_bytes(escaped).decode(errors=QUERY_ERRORS) == escaped
    assert uri_to_iri(f"?{escaped}") == f"?{escaped}"
