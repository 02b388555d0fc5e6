"""The context of a request or a websocket: its identity, its progress, its monitoring points.

Owns the identity of a request, the time limit of its body, and LUNA's two series.
Never knows which code answers, nor how the answer is sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from uuid import uuid4

import attrs
import trio
from structlog.contextvars import bind_contextvars, reset_contextvars

from .._events._delivery import Origin, current_request
from .._events._event import MonitoringPoint, Value
from .._plugins._routes import METHODS
from ._asgi import HttpScope, Receive, ReceiveMessage, WebsocketScope

BODY_TIMEOUT, MIN_BODY_RATE = 20.0, 500
"""Seconds for which a request's body may be waited for, and bytes that are worth one second more:
what Apache's mod_reqtimeout allows by default."""
WEBSOCKET = "websocket"
"""The method in the route of a websocket; no HTTP method is in lower case."""

_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")


@attrs.define(eq=False)
class RequestContext:
    """One request, or one websocket for as long as it is open."""

    method: str
    request_id: str
    account_id: str | None
    traceparent: str | None
    time: datetime
    """The moment at which the request began, by the calendar."""
    began: float
    """The same moment, on Trio's clock."""
    rule: str | None = None
    """The rule of the matched route, in Quart's syntax; None before the routing."""
    plugin: str | None = None
    """The plugin that answers the request; None where no plugin does."""
    status: int | None = None
    """The status of the response; None before the response has begun."""
    error_code: str | None = None
    """The error, where that is more than the status says."""
    is_complete: bool = False
    """Whether the last part of the response was sent, or the websocket closed."""
    client_disconnected: bool = False
    """Whether the client has disconnected before `is_complete`."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """The scope around the application; to cancel it cuts the request off."""
    is_too_slow: bool = False
    """Whether the request was cut off because its body did not arrive in time."""
    progress: Callable[[], Mapping[str, object]] = dict
    """Called if the request is cut off: returns members of the problem, which tell the client how
    much of the request was dealt with."""

    @classmethod
    def from_scope(cls, scope: HttpScope | WebsocketScope) -> RequestContext:
        """Take a request's identity from its headers, or make one."""
        now = datetime.now(UTC)
        headers = dict(scope["headers"])  # Their names are in lower case.
        return cls(
            method=WEBSOCKET if scope["type"] == "websocket" else scope["method"],
            request_id=_printable(headers, b"luna-request-id")
            or f"{int(now.timestamp())},{uuid4()}",
            account_id=_printable(headers, b"luna-account-id"),
            traceparent=_printable(headers, b"traceparent"),
            time=now,
            began=trio.current_time(),
        )

    @contextmanager
    def activate(self) -> Generator[None]:
        """Make the request known to everything that is logged and published on its behalf."""
        context = _context.set(self)
        origin = current_request.set(Origin(self.request_id, self.traceparent, self.account_id))
        logged = bind_contextvars(request_id=self.request_id)
        try:
            yield
        finally:
            reset_contextvars(**logged)
            current_request.reset(origin)
            _context.reset(context)

    @property
    def is_websocket(self) -> bool:
        """Whether this is a websocket, and not a request."""
        return self.method == WEBSOCKET

    @property
    def route(self) -> str:
        """The method and the template of the path."""
        return route_template(self.method, self.rule)

    def wrap_receive(self, receive: Receive) -> Receive:
        """The `receive` of the application.

        It notes when the client disconnects, and cuts off a client that sends its body too slowly.
        Only the time in which the application waits for the client counts.
        """
        left = math.inf if self.is_websocket else BODY_TIMEOUT

        async def receive_and_note() -> ReceiveMessage:
            """Receive a message, and note what it says."""
            nonlocal left
            # Once the response has begun, the application does not wait for the body.
            if left == math.inf or self.status is not None:
                message = await receive()
            else:
                since = trio.current_time()
                self.scope.deadline = since + left
                try:
                    message = await receive()
                except trio.Cancelled:
                    self.is_too_slow = trio.current_time() >= self.scope.deadline
                    raise
                self.scope.deadline = math.inf
                left -= trio.current_time() - since
            if message["type"] in ("http.disconnect", "websocket.disconnect"):
                self.client_disconnected = True
            elif message["type"] == "http.request":
                left += len(message["body"]) / MIN_BODY_RATE
                if not message["more_body"]:
                    left = math.inf
            return message

        return receive_and_note

    def response_started(self, status: int) -> None:
        """Note the status; from now on the response may last, and so may the rest of the body."""
        self.status = status
        if self.scope.deadline != math.inf:  # To set it costs something, each time.
            self.scope.deadline = math.inf

    def points(self, service: str) -> list[MonitoringPoint]:
        """The points that LUNA's services measure: `requests`, and for a failure `errors` too.

        A response that breaks off is a failure whatever its status was. A websocket is measured
        by its failures only: it lasts, for hours perhaps.
        """
        # nginx's 499: the client disconnected before there was a response.
        status = self.status or 499
        tags: dict[str, Value] = {
            "service": service,
            "account_id": self.account_id or "none",
            "route": self.route,
            "status_code": status,
        }
        points: list[MonitoringPoint] = []
        if not self.is_websocket:
            taken = trio.current_time() - self.began
            fields: dict[str, Value] = {"request_id": self.request_id, "execution_time": taken}
            points.append(MonitoringPoint("requests", self.time, tags, fields))
        if self.error_code or status >= 400:
            error_code = self.error_code or f"http_{status}"
            fields = {"request_id": self.request_id, "error_code": error_code}
            points.append(MonitoringPoint("errors", self.time, tags, fields))
        return points


_context: ContextVar[RequestContext] = ContextVar("trivet_request_context")


def current_context() -> RequestContext:
    """The context of the request or websocket that this task works for."""
    return _context.get()


@cache
def _template(rule: str) -> str:
    return re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule)


def route_template(method: str, rule: str | None) -> str:
    """A route as a tag: few distinct values, whatever clients ask for.

    >>> route_template("GET", "/teapot/<int:cup>")
    'GET:/teapot/{cup}'
    >>> route_template("GET", None), route_template("BREW", None)
    ('GET:unmatched', 'other:unmatched')
    """
    template = "unmatched" if rule is None else _template(rule)
    return f"{method if method in (*METHODS, WEBSOCKET) else 'other'}:{template}"


def _printable(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """The value of a header; None where it is missing, too long, or not printable ASCII."""
    given = headers.get(name)
    if given is None:
        return None
    value = given.decode("latin-1")
    return value if _HEADER_VALUE.fullmatch(value) else None
