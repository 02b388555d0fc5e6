"""One request or websocket: who asks, what is known of the answer, and its monitoring points.

Owns the identity of a request and LUNA's two series.
Never knows what answers, nor how the answer is sent.
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
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    HTTPScope,
    WebsocketScope,
)
from structlog.contextvars import bind_contextvars, reset_contextvars

from .._events._delivery import Origin, current_request
from .._events._event import MonitoringPoint, Value
from .._plugins._routes import METHODS

BODY_WITHIN, BODY_RATE = 20.0, 500
"""Seconds for which a request's body may be waited for, and bytes that are worth one second more:
what Apache's mod_reqtimeout allows by default."""
WEBSOCKET = "websocket"
"""What stands for the HTTP method in the route of a websocket; no method is in small letters."""

_SANE = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")


@attrs.define(eq=False)
class Exchange:
    """One request, or one websocket for as long as it is open."""

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
    has_ended: bool = False
    """Whether the last of the answer was sent, or the websocket closed."""
    client_left: bool = False
    """Whether the client has gone before that."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """What is cancelled to cut it off."""
    is_too_slow: bool = False
    """Whether it was cut off because its body did not arrive in time."""
    account: Callable[[], Mapping[str, object]] = dict
    """What the client is to be told of what was done with its request, if it is cut off."""

    @classmethod
    def begin(cls, scope: HTTPScope | WebsocketScope) -> Exchange:
        """Take a request's identity from its headers, or make one."""
        now = datetime.now(UTC)
        headers = dict(scope["headers"])  # Their names are in small letters.
        return cls(
            method=WEBSOCKET if scope["type"] == "websocket" else scope["method"],
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
        logged = bind_contextvars(request_id=self.request_id)
        try:
            yield
        finally:
            reset_contextvars(**logged)
            current_request.reset(origin)
            _exchange.reset(known)

    @property
    def is_websocket(self) -> bool:
        """Whether it is a websocket."""
        return self.method == WEBSOCKET

    @property
    def route(self) -> str:
        """The method and the template of the path."""
        return route_template(self.method, self.rule)

    def listening(self, receive: ASGIReceiveCallable) -> ASGIReceiveCallable:
        """What the application is to receive with.

        A client's leaving is noted, and one is cut off that drips its body. What counts is the
        time in which the client is waited for, not that in which nobody asks for more.
        """
        left = math.inf if self.is_websocket else BODY_WITHIN

        async def listening() -> ASGIReceiveEvent:
            """Receive, and note it."""
            nonlocal left
            if left == math.inf or self.status is not None:  # Who answers waits for no more of it.
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
                self.client_left = True
            elif message["type"] == "http.request":
                left += len(message["body"]) / BODY_RATE
                if not message["more_body"]:
                    left = math.inf
            return message

        return listening

    def answers(self, status: int) -> None:
        """An answer begins: from now on it may last, and so may what is left of the body."""
        self.status = status
        if self.scope.deadline != math.inf:  # To set it costs something, each time.
            self.scope.deadline = math.inf

    def points(self, service: str) -> list[MonitoringPoint]:
        """What LUNA's services measure: `requests`, and for a failure `errors` too.

        A response that breaks off is a failure whatever its status was. A websocket is measured
        by its failures only: it lasts, for hours perhaps.
        """
        # nginx's 499: the client left before there was an answer.
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


_exchange: ContextVar[Exchange] = ContextVar("trivet_exchange")


def current_exchange() -> Exchange:
    """The exchange that this task belongs to."""
    return _exchange.get()


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


def _sane(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    given = headers.get(name)
    if given is None:
        return None
    value = given.decode("latin-1")
    return value if _SANE.fullmatch(value) else None
