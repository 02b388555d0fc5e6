"""The middleware around every request: its identity, its monitoring points."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

import pytest
import structlog
import trio
from quart import Response
from trio.testing import MockClock

from trivet import (
    App,
    BackgroundPlugin,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    MonitoringEvent,
    MonitoringPlugin,
    MonitoringPoint,
    Runtime,
    create_app,
    route,
)
from trivet import current_delivery as envelope
from trivet._events._delivery import current_origin
from trivet._web._asgi import REQUEST_SCOPE, RESPOND
from trivet._web._context import route_template
from trivet._web._doors import Doors
from trivet._web._middleware import RequestMiddleware
from trivet._web._traffic import Traffic
from trivet.testing import client, open_plugins

HEADERS = [(b"host", b"localhost")]


class Points(MonitoringPlugin):
    """A plugin that notes the points of each request."""

    def __init__(self, app: App) -> None:
        self.requests: list[list[MonitoringPoint]] = []

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        self.requests.append(points)


class Ping(Event):
    pass


class Pong(EventPlugin[Ping]):
    """A subscriber that notes its events, in their envelopes."""

    def __init__(self, app: App) -> None:
        self.deliveries: list[Delivery[Event]] = []

    async def handle_event(self, event: Ping) -> None:
        self.deliveries.append(envelope())


class Half(AsyncIterator[bytes]):
    """A body that breaks after its first piece."""

    def __init__(self) -> None:
        self._begun = False

    async def __anext__(self) -> bytes:
        if self._begun:
            raise ValueError("spilt")
        self._begun = True
        return b"half"


class Cafe(BackgroundPlugin):
    """Routes that take their time."""

    @route("/cups/<int:cup>")
    async def cup(self, cup: int) -> str:
        await trio.sleep(0.25)
        return f"cup {cup}"

    @route("/gone")
    async def gone(self) -> tuple[str, int]:
        return "", 410

    @route("/crash")
    async def crash(self) -> str:
        raise ValueError("spilt")

    @route("/half")
    async def half(self) -> Response:
        return Response(Half())

    @route("/ping")
    async def ping(self) -> str:
        await self.app.publish(Ping())
        request_id: str = structlog.contextvars.get_contextvars()["request_id"]
        return request_id

    @route("/slow")
    async def slow(self) -> str:
        await trio.sleep_forever()
        return ""

    @route("/own-id")
    async def own_id(self) -> tuple[str, Mapping[str, str]]:
        return "", {"Luna-Request-Id": "mine"}


async def measured(
    path: str, *, method: str = "GET", **request: Any
) -> tuple[Response, list[MonitoringPoint]]:
    """Make a request to a service named "shop"; returns the response and its points."""
    async with open_plugins(Points, Cafe, Pong, service="shop") as runtime:
        ask = getattr(client(runtime), method.lower())
        response: Response = await ask(path, **request)
        await trio.testing.wait_all_tasks_blocked()
        (points,) = runtime.get(Points).requests
    return response, points


async def serve(
    runtime: Runtime,
    path: str,
    *,
    method: str = "GET",
    query: bytes = b"",
    leaves: bool = False,
) -> list[tuple[float, Any]]:
    """Make a request as a server would pass it on; the client may disconnect after a second.

    Returns the messages that were sent, each with its time.
    """
    scope: Any = {
        "type": "http",
        "http_version": "2",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": query,
        "headers": [(b"host", b"localhost")],
    }
    sent: list[tuple[float, Any]] = []

    async def receive() -> Any:
        await trio.sleep(1 if leaves else math.inf)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append((trio.current_time(), message))

    await create_app(runtime)(scope, receive, send)
    return sent


async def test_a_request_is_a_point(autojump_clock: MockClock) -> None:
    """A request that succeeds is one point of `requests`, with LUNA's tags and fields."""
    before = datetime.now(UTC)
    headers = {"Luna-Request-Id": "1700000000,abc", "Luna-Account-Id": "account-7"}
    _, (point,) = await measured("/cups/7?sugar=2", headers=headers)
    assert point.series == "requests"
    assert point.tags == {
        "service": "shop",
        "account_id": "account-7",
        "route": "GET:/cups/{cup}",
        "status_code": 200,
    }
    assert point.fields == {
        "request_id": "1700000000,abc",
        "execution_time": pytest.approx(0.25),
    }
    assert before <= point.time <= datetime.now(UTC)
    assert point.time.tzinfo is UTC


@pytest.mark.parametrize(
    ("method", "path", "route", "status", "error_code"),
    [
        ("GET", "/nowhere/4711", "GET:unmatched", 404, "unknown_path"),
        ("DELETE", "/cups/7", "DELETE:unmatched", 405, "method_not_allowed"),
        ("GET", "/gone", "GET:/gone", 410, "http_410"),
        ("GET", "/crash", "GET:/crash", 500, "internal_error"),
        ("POST", "/events/pingg", "POST:/events/{name}", 404, "unknown_event"),
        ("POST", "/events", "POST:/events", 415, "unsupported_media_type"),
    ],
)
async def test_a_failure_is_an_error_too(
    method: str, path: str, route: str, status: int, error_code: str, autojump_clock: MockClock
) -> None:
    """A failure is a point of `requests`, and one of `errors` with the same tags and its code."""
    response, (request, error) = await measured(path, method=method)
    assert response.status_code == status
    assert (request.series, error.series) == ("requests", "errors")
    assert request.tags == error.tags
    assert error.tags["route"] == route
    assert error.tags["status_code"] == status
    assert error.tags["account_id"] == "none"
    assert error.time == request.time
    assert error.fields == {
        "error_code": error_code,
        "request_id": response.headers["Luna-Request-Id"],
    }


async def test_a_method_of_ones_own_is_no_tag(autojump_clock: MockClock) -> None:
    """A client cannot make tags out of methods that no route has."""
    async with open_plugins(Points) as runtime:
        (_, start), *_ = await serve(runtime, "/livez", method="BREW")
        await trio.testing.wait_all_tasks_blocked()
        ((request, _),) = runtime.get(Points).requests
    assert cast("dict[str, Any]", start)["status"] == 405
    assert request.tags["route"] == "other:unmatched"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/plugins"])
async def test_probes_are_requests(path: str, autojump_clock: MockClock) -> None:
    """The probes are measured as all other routes."""
    _, (point,) = await measured(path)
    assert point.tags["route"] == f"GET:{path}"


async def test_ingest_is_measured(autojump_clock: MockClock) -> None:
    """`POST /events/{name}` is one route, whatever the event's name."""
    _, (point,) = await measured("/events/ping", method="POST", json={})
    assert point.tags["route"] == "POST:/events/{name}"
    assert point.tags["status_code"] == 202


@pytest.mark.parametrize(
    ("rule", "template"),
    [
        ("/", "GET:/"),
        ("/a/<b>", "GET:/a/{b}"),
        ("/a/<path:rest>", "GET:/a/{rest}"),
        ("/<any(tea,coffee):drink>/<int(min=1):cup>", "GET:/{drink}/{cup}"),
        ('/<any("a:b",c):what>', "GET:/{what}"),
    ],
)
def test_a_rule_as_a_template(rule: str, template: str) -> None:
    """A rule's variables stand in braces, without their converters."""
    assert route_template("GET", rule) == template


@pytest.mark.parametrize("given", ["", "  ", "ü", "x" * 201, "a\tb", None])
async def test_a_request_id_is_made(given: str | None, autojump_clock: MockClock) -> None:
    """A request without a sane `Luna-Request-Id` gets one: `<unix seconds>,<uuid4>`."""
    headers = {} if given is None else {"Luna-Request-Id": given}
    before = int(datetime.now(UTC).timestamp())
    response, (point, *_) = await measured("/livez", headers=headers)
    request_id = response.headers["Luna-Request-Id"]
    assert point.fields["request_id"] == request_id
    seconds, _, uuid = request_id.partition(",")
    assert before <= int(seconds) <= datetime.now(UTC).timestamp()
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", uuid
    )


async def test_an_insane_account_is_none(autojump_clock: MockClock) -> None:
    """An account that is no printable word of at most 200 characters does not become a tag."""
    _, (point,) = await measured("/livez", headers={"Luna-Account-Id": "x" * 201})
    assert point.tags["account_id"] == "none"


async def test_the_request_id_is_returned_and_known(autojump_clock: MockClock) -> None:
    """The id of a request is returned, once, and bound to the log lines of the request."""
    headers = {"Luna-Request-Id": "1700000000,a b"}
    response, _ = await measured("/ping", headers=headers)
    assert await response.get_data(as_text=True) == "1700000000,a b"
    response, _ = await measured("/own-id", headers=headers)
    assert response.headers.getlist("Luna-Request-Id") == ["1700000000,a b"]
    assert "request_id" not in structlog.contextvars.get_contextvars()


async def test_an_event_of_a_handler_carries_the_request(autojump_clock: MockClock) -> None:
    """Events that a route publishes have the request's id and trace context in their envelope."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with open_plugins(Pong, Cafe) as runtime:
        headers = {"Luna-Request-Id": "1700000000,abc", "traceparent": trace}
        await client(runtime).get("/ping", headers=headers)
        await client(runtime).post("/events/ping", json={}, headers=headers)
        await runtime.publish(Ping())
        await trio.testing.wait_all_tasks_blocked()
        by_route, by_ingest, by_nobody = runtime.get(Pong).deliveries
    for delivery in (by_route, by_ingest):
        assert (delivery.request_id, delivery.traceparent) == ("1700000000,abc", trace)
    assert (by_nobody.request_id, by_nobody.traceparent) == (None, None)


async def test_a_request_leaves_no_trace_in_its_callers_context() -> None:
    """A task that calls the application publishes in its own name afterwards."""
    async with open_plugins() as runtime:
        before = current_origin()
        await serve(runtime, "/livez")
        assert current_origin() == before
        assert structlog.contextvars.get_contextvars() == {}


class Swamped(MonitoringPlugin):
    """A subscriber with room for one event, for whose room publishers wait for a second."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(
        buffer=1, overflow="block", block_for=1.0
    )

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        await trio.sleep_forever()


async def test_a_swamped_exporter_delays_no_response(autojump_clock: MockClock) -> None:
    """The response has ended before its points are published."""
    async with open_plugins(Swamped) as runtime:
        asking = client(runtime)
        for _ in range(2):
            await asking.get("/livez")
            await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        *_, (ended, message) = await serve(runtime, "/livez")
        assert (message["type"], message["more_body"]) == ("http.response.body", False)
        assert ended == begun
        assert trio.current_time() - begun == pytest.approx(1.0)
        assert runtime.statistics()["swamped"].rejected == 1


class Drowned(Swamped):
    """A subscriber of that kind, for whose room publishers wait for a minute."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(
        buffer=1, overflow="block", block_for=60
    )


async def test_points_wait_two_seconds_at_most(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A connection waits for two seconds, however long an inbox lets publishers wait; loss is
    logged."""
    async with open_plugins(Drowned) as runtime:
        asking = client(runtime)
        for _ in range(2):
            await asking.get("/livez")
            await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        await asking.get("/livez")
        assert trio.current_time() - begun == pytest.approx(2.0)
    assert "monitoring points lost" in capsys.readouterr().out


async def test_a_client_that_leaves_is_measured(autojump_clock: MockClock) -> None:
    """A request whose client disconnects before the response is a 499, as in nginx."""
    async with open_plugins(Points, Cafe) as runtime:
        assert await serve(runtime, "/slow", leaves=True) == []
        await trio.testing.wait_all_tasks_blocked()
        ((request, error),) = runtime.get(Points).requests
    assert request.tags["status_code"] == 499
    assert request.fields["execution_time"] == pytest.approx(1)
    assert error.fields["error_code"] == "http_499"


async def test_a_response_that_breaks_off_is_a_failure(autojump_clock: MockClock) -> None:
    """A response that breaks off is a point of `errors`, although its status was 200."""
    async with open_plugins(Points, Cafe) as runtime:
        with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
            await serve(runtime, "/half")
        await trio.testing.wait_all_tasks_blocked()
        ((request, error),) = runtime.get(Points).requests
    assert request.tags["status_code"] == 200
    assert error.fields["error_code"] == "internal_error"


async def test_a_request_that_the_stop_cuts_off_is_measured(autojump_clock: MockClock) -> None:
    """A request that is cancelled still leaves its points."""
    async with open_plugins(Points, Cafe) as runtime:
        app = create_app(runtime)
        with trio.move_on_after(5):
            await app.test_client().get("/slow")
        await trio.testing.wait_all_tasks_blocked()
        ((request, _),) = runtime.get(Points).requests
    assert request.tags["route"] == "GET:/slow"
    assert request.fields["execution_time"] == pytest.approx(5)


async def test_nothing_is_measured_after_the_inboxes_are_closed(autojump_clock: MockClock) -> None:
    """A request that outlives the exporters is answered as any other."""
    async with open_plugins(Points) as runtime:
        runtime.hosts["points"].stop(
            drain_until=trio.current_time(), close_until=trio.current_time()
        )
        assert (await client(runtime).get("/livez")).status_code == 200


async def call(runtime: Runtime, scope: Any, received: list[Any]) -> tuple[list[Any], list[Any]]:
    """Pass a scope through the middleware, to an application that echoes a message."""
    seen: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send(await receive())

    async def receive() -> Any:
        return received.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await RequestMiddleware(app, runtime, Doors(runtime), Traffic())(scope, receive, send)
    return seen, sent


async def test_other_scopes_pass_through(autojump_clock: MockClock) -> None:
    """A lifespan scope reaches the application as it is, and is not measured."""
    scope: Any = {"type": "lifespan"}
    message: Any = {"type": "lifespan.something"}
    async with open_plugins(Points) as runtime:
        seen, sent = await call(runtime, scope, [message])
        await trio.testing.wait_all_tasks_blocked()
        assert runtime.get(Points).requests == []
    assert seen[0] is scope
    assert sent[0] is message


async def test_a_request_that_is_refused_before_any_route(autojump_clock: MockClock) -> None:
    """A query that is not ASCII is a 400, and measured as one."""
    async with open_plugins(Points) as runtime:
        sent = await serve(runtime, "/livez", query=b"\xff")
        await trio.testing.wait_all_tasks_blocked()
        ((request, error),) = runtime.get(Points).requests
    start, body = (cast("dict[str, Any]", message) for _, message in sent)
    assert start["status"] == 400
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert b'"error_code":"malformed_request"' in body["body"]
    assert request.tags["status_code"] == 400
    assert error.fields["error_code"] == "malformed_request"


async def test_an_application_that_breaks_before_it_answers(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error that Quart itself lets through is a JSON 500, and measured as one."""
    sent: list[Any] = []

    async def broken(*_: object) -> None:
        raise ValueError("swordfish")

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/"}
    async with open_plugins(Points) as runtime:
        middleware: Any = RequestMiddleware(broken, runtime, Doors(runtime), Traffic())
        await middleware(
            {**scope, "query_string": b"", "headers": HEADERS}, trio.sleep_forever, send
        )
        await trio.testing.wait_all_tasks_blocked()
        ((request, error),) = runtime.get(Points).requests
    start, body = sent
    assert start["status"] == 500
    assert b'"error_code":"internal_error"' in body["body"]
    assert b"swordfish" not in body["body"]
    assert request.tags["status_code"] == 500
    assert error.fields["error_code"] == "internal_error"
    assert "swordfish" in capsys.readouterr().out


async def test_points_are_events_of_the_service(autojump_clock: MockClock) -> None:
    """Points travel as a monitoring event with the request's id in its envelope."""

    class Envelopes(EventPlugin[MonitoringEvent]):
        def __init__(self, app: App) -> None:
            self.deliveries: list[Delivery[Event]] = []

        async def handle_event(self, event: MonitoringEvent) -> None:
            self.deliveries.append(envelope())

    async with open_plugins(Envelopes, service="shop") as runtime:
        await client(runtime).get("/livez", headers={"Luna-Request-Id": "1700000000,abc"})
        await trio.testing.wait_all_tasks_blocked()
        (delivery,) = runtime.get(Envelopes).deliveries
    assert (delivery.source, delivery.request_id) == ("shop", "1700000000,abc")


async def test_a_server_may_open_the_scope_of_a_request(autojump_clock: MockClock) -> None:
    """A request within a scope of its server is cut off by that scope, and answered 503."""
    sent: list[Any] = []

    async def slow(*_: object) -> None:
        await trio.sleep(100)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/"}
    async with open_plugins(Points) as runtime:
        middleware: Any = RequestMiddleware(slow, runtime, Doors(runtime), Traffic())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(middleware.drain, trio.current_time() + 1)
            with trio.CancelScope() as of_server:
                given: Any = {**scope, "query_string": b"", "headers": HEADERS}
                given["extensions"] = {REQUEST_SCOPE: of_server}
                await middleware(given, trio.sleep_forever, send)
        await trio.testing.wait_all_tasks_blocked()
        ((request, _),) = runtime.get(Points).requests
    assert of_server.cancelled_caught
    assert (sent[0]["status"], request.tags["status_code"]) == (503, 503)
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize(
    ("headers", "reads", "is_closed"),
    [
        ([(b"content-length", b"2")], 0, True),
        ([(b"content-length", b"2")], 1, True),
        ([(b"content-length", b"2")], 2, False),
        ([(b"transfer-encoding", b"chunked")], 2, True),
        ([(b"transfer-encoding", b"chunked")], 3, False),
        ([(b"content-length", b"0")], 0, False),
        ([], 0, False),
    ],
)
async def test_a_response_before_the_body(
    headers: list[tuple[bytes, bytes]], reads: int, is_closed: bool
) -> None:
    """A response before the end of the body says that the connection is closed, since such a server
    closes it."""
    sent: list[Any] = []
    parts = [b"a", b"b", b""]

    async def receive() -> Any:
        body = parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    async def early(_: object, receive: Any, send: Any) -> None:
        for _each in range(reads):
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    scope: Any = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/"}
    async with open_plugins(Points) as runtime:
        middleware: Any = RequestMiddleware(early, runtime, Doors(runtime), Traffic())
        given = {"query_string": b"", "headers": [*HEADERS, *headers]}
        await middleware({**scope, **given}, receive, send)
    assert ((b"connection", b"close") in sent[0]["headers"]) is is_closed


async def test_a_response_before_the_body_to_a_server_that_receives_the_rest() -> None:
    """Such a server keeps the connection, and the response does not say otherwise."""
    sent: list[Any] = []

    async def respond(status: int, headers: Any, body: bytes, within: float) -> None:
        sent.extend(headers)

    async def early(_: object, __: object, send: Any) -> None:
        await send.respond(200, [], b"")

    scope: Any = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/"}
    async with open_plugins(Points) as runtime:
        middleware: Any = RequestMiddleware(early, runtime, Doors(runtime), Traffic())
        given: Any = {"query_string": b"", "headers": [*HEADERS, (b"content-length", b"2")]}
        given["extensions"] = {RESPOND: respond}
        await middleware({**scope, **given}, trio.sleep_forever, trio.sleep_forever)
    assert sent
    assert (b"connection", b"close") not in sent
