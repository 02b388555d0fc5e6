"""Around every request: who asks, how it ended, and its monitoring points.

Owns the request's identity, LUNA's two series, and the safe end of a response.
Never knows what answers: it wraps any ASGI application.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from uuid import uuid4

import attrs
import structlog
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    Scope,
)

from .._envelope import Origin, current_request
from .._events import MonitoringEvent, MonitoringPoint, Value
from .._routes import METHODS
from .._runtime import Runtime
from ._problems import MEDIA_TYPE, ProblemError

LAST_SEND_WITHIN = 5.0
"""Seconds in which the end of a response may be sent after its application is cancelled."""
PUBLISH_WITHIN = 2.0
"""Seconds in which a request's points are published, also when the stop has cut it off; twice
what a full inbox makes a publisher wait by default."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")

_SANE = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")


@attrs.define(eq=False)
class Exchange:
    """One request, and what is known of its answer."""

    method: str
    request_id: str
    account_id: str | None
    traceparent: str | None
    time: datetime
    """When it began, by the calendar."""
    began: float
    """When it began, on Trio's clock."""
    rule: str | None = None
    """The rule, in Quart's syntax, of the route that it matched."""
    plugin: str | None = None
    """The plugin that answers it."""
    status: int | None = None
    """The status of the answer; None before it has begun."""
    error_code: str | None = None
    """What went wrong, where that is more than the status says."""

    @classmethod
    def begin(cls, scope: HTTPScope) -> Exchange:
        """Take a request's identity from its headers, or make one."""
        now = datetime.now(UTC)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        return cls(
            method=scope["method"],
            request_id=_sane(headers, b"luna-request-id") or f"{int(now.timestamp())},{uuid4()}",
            account_id=_sane(headers, b"luna-account-id"),
            traceparent=_sane(headers, b"traceparent"),
            time=now,
            began=trio.current_time(),
        )

    @contextmanager
    def in_context(self) -> Generator[None]:
        """Let the request be known to what is logged and published on its behalf."""
        known = _exchange.set(self)
        origin = current_request.set(Origin(self.request_id, self.traceparent, self.account_id))
        try:
            with structlog.contextvars.bound_contextvars(request_id=self.request_id):
                yield
        finally:
            current_request.reset(origin)
            _exchange.reset(known)

    @property
    def route(self) -> str:
        """The method and the template of the path."""
        return route_template(self.method, self.rule)

    def points(self, service: str) -> list[MonitoringPoint]:
        """What LUNA's services measure: `requests`, and for a failure `errors` too.

        A response that breaks off is a failure whatever its status was.
        """
        # nginx's 499: the client left before there was an answer.
        status = self.status or 499
        tags: dict[str, Value] = {
            "service": service,
            "account_id": self.account_id or "none",
            "route": self.route,
            "status_code": status,
        }
        taken = trio.current_time() - self.began
        fields: dict[str, Value] = {"request_id": self.request_id, "execution_time": taken}
        points = [MonitoringPoint("requests", self.time, tags, fields)]
        if self.error_code or status >= 400:
            error_code = self.error_code or f"http_{status}"
            fields = {"request_id": self.request_id, "error_code": error_code}
            points.append(MonitoringPoint("errors", self.time, tags, fields))
        return points


_exchange: ContextVar[Exchange] = ContextVar("trivet_exchange")


def current_exchange() -> Exchange:
    """The exchange that this task belongs to."""
    return _exchange.get()


def route_template(method: str, rule: str | None) -> str:
    """A route as a tag: few distinct values, whatever clients ask for.

    >>> route_template("GET", "/teapot/<int:cup>")
    'GET:/teapot/{cup}'
    >>> route_template("GET", None), route_template("BREW", None)
    ('GET:unmatched', 'other:unmatched')
    """
    template = "unmatched" if rule is None else re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule)
    return f"{method if method in METHODS else 'other'}:{template}"


class Measured:
    """An ASGI application, measured. What is not an HTTP request passes through untouched."""

    def __init__(self, app: ASGIFramework, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime
        self._in_flight = 0
        self._ended = trio.Event()

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one request, or another scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange.begin(scope)
        with exchange.in_context(), self._counted():
            try:
                await self._answer(exchange, scope, receive, _sending(exchange, send))
            finally:
                await self._publish(exchange)  # noqa: ASYNC102 - shielded and bounded in there

    async def quiet(self) -> None:
        """Wait until no request is being answered."""
        while self._in_flight:
            self._ended = trio.Event()
            await self._ended.wait()

    @contextmanager
    def _counted(self) -> Generator[None]:
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._ended.set()

    async def _publish(self, exchange: Exchange) -> None:
        if not self._runtime.listens(MonitoringEvent):
            return
        points = exchange.points(self._runtime.service)
        with trio.move_on_after(PUBLISH_WITHIN, shield=True) as publishing:
            await self._runtime.publish(MonitoringEvent(points))
        if publishing.cancelled_caught:
            _log.warning("monitoring points lost: an inbox is full", after=PUBLISH_WITHIN)

    async def _answer(
        self,
        exchange: Exchange,
        scope: HTTPScope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
    ) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            _log.exception("request failed", route=exchange.route, plugin=exchange.plugin)
            if exchange.status is not None:
                exchange.error_code = "internal_error"
                raise  # The server cuts the connection, which tells the client.
            await _send_problem(exchange, send)


def _sane(headers: Mapping[bytes, str], name: bytes) -> str | None:
    value = headers.get(name, "")
    return value if _SANE.fullmatch(value) else None


def _sending(exchange: Exchange, send: ASGISendCallable) -> ASGISendCallable:
    async def sending(message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            await send(_with_request_id(message, exchange.request_id))
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            # To end the response makes hypercorn report a disconnect to the application, upon
            # which quart-trio cancels the very send that does so, before hypercorn has made the
            # connection idle: it would be kept alive for ever.
            with trio.move_on_after(LAST_SEND_WITHIN, shield=True):
                await send(message)
        else:
            await send(message)

    return sending


def _with_request_id(start: HTTPResponseStartEvent, request_id: str) -> HTTPResponseStartEvent:
    headers: Iterable[tuple[bytes, bytes]] = [
        *((name, value) for name, value in start["headers"] if name != b"luna-request-id"),
        (b"luna-request-id", request_id.encode("ascii")),
    ]
    return {**start, "headers": headers}


async def _send_problem(exchange: Exchange, send: ASGISendCallable) -> None:
    problem = ProblemError("internal_error", "the request could not be answered")
    exchange.error_code = problem.error_code
    headers = [(b"content-type", MEDIA_TYPE.encode("ascii"))]
    await send({"type": "http.response.start", "status": problem.status.value, "headers": headers})
    await send({"type": "http.response.body", "body": problem.document(), "more_body": False})
