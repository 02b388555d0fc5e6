"""The context of a request or a websocket: its identity, its progress, its tags.

Owns the identity of a request, the time limit of its body, and the tags of its monitoring points.
Never knows which code answers, nor how the answer is sent.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from functools import cache
from random import Random
from time import time as wall_time
from typing import Any, NamedTuple

import trio
from structlog.contextvars import bind_contextvars, reset_contextvars

from .._access._tokens import ANYBODY, Caller
from .._events._delivery import Origin, current_request
from .._events._event import MonitoringPoint, Value
from .._plugins._routes import METHODS
from ._asgi import REQUEST_SCOPE, HttpScope, Receive, ReceiveMessage, WebsocketScope
from ._first_wait import FirstWait
from ._monitoring import request_points

BODY_TIMEOUT, MIN_BODY_RATE = 20.0, 500
"""Seconds for which a request's body may be waited for, and bytes that are worth one second more:
what Apache's mod_reqtimeout allows by default."""
WEBSOCKET = "websocket"
"""The method in the route of a websocket; no HTTP method is in lower case."""


def _variable_of_log(name: str) -> ContextVar[Any]:
    """The variable of structlog that holds a value for each line of the log.

    To look it up for each request would take seven times as long as to set it.
    """
    before = bind_contextvars(**{name: ""})
    variable: ContextVar[Any] = before[name].var
    reset_contextvars(**before)
    return variable


_logged_id = _variable_of_log("request_id")
_logged_token = _variable_of_log("token")
_random = Random()
os.register_at_fork(after_in_child=_random.seed)
_VERSION_4 = 4 << 76 | 2 << 62
"""The bits by which a UUID says that it is random, and the mask of the random ones."""
_RANDOM_BITS = (1 << 128) - 1 & ~(0xF << 76 | 3 << 62)
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")


class _Active(NamedTuple):
    """The state of a task before a request was made known in it."""

    context: Token[RequestContext]
    origin: Token[Origin | None]
    logged: Token[Any]
    token_logged: Token[Any] | None


class RequestContext:
    """One request, or one websocket for as long as it is open.

    Each request has one, so that most attributes have their defaults in the class.

    Args:
        method: the method, or `WEBSOCKET`.
        request_id: the client's; None for a new one.
        account_id: the client's account.
        traceparent: the W3C trace context.
        wall_time: the moment at which the request began, in seconds since 1970.
    """

    caller: Caller = ANYBODY
    """The sender, with its token."""
    at_management: bool = False
    """Whether the request has come to an address for management."""
    is_cross_site: bool = False
    """Whether a page of another site asks for a change, or for a websocket."""
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
    scope: trio.CancelScope
    """The scope around the application; to cancel it cuts the request off."""
    is_scope_open: bool = False
    """Whether the server has opened the scope, around all requests of the connection."""
    is_too_slow: bool = False
    """Whether the request was cut off because its body did not arrive in time."""
    progress: Callable[[], Mapping[str, object]] = dict
    """Called if the request is cut off: returns members of the problem, which tell the client how
    much of the request was dealt with."""
    _origin: Origin | None = None
    _receive: Receive
    _body_time: float
    """Seconds for which the body may still be waited for; infinity for any time."""

    def __init__(
        self,
        method: str,
        request_id: str | None,
        account_id: str | None,
        traceparent: str | None,
        wall_time: float,
    ) -> None:
        self.method = method
        self.request_id = request_id or new_request_id(wall_time)
        self.account_id = account_id
        self.traceparent = traceparent
        self.wall_time = wall_time
        """The moment at which the request began, by the calendar."""
        self.began: float = trio.current_time()
        """The same moment, on Trio's clock."""

    @classmethod
    def from_scope(cls, scope: HttpScope | WebsocketScope, receive: Receive) -> RequestContext:
        """Take a request's identity from its headers, or make one.

        Args:
            scope: the server's.
            receive: the server's.
        """
        headers = dict(reversed([*scope["headers"]]))  # The first of a name, in lower case.
        context = cls(
            WEBSOCKET if scope["type"] == "websocket" else scope["method"],
            printable(headers.get(b"luna-request-id")),
            printable(headers.get(b"luna-account-id")),
            printable(headers.get(b"traceparent")),
            wall_time(),
        )
        context.attach(scope, receive)
        return context

    def attach(self, scope: HttpScope | WebsocketScope, receive: Receive) -> None:
        """Take the server's side of a request.

        Args:
            scope: the server's.
            receive: the server's.
        """
        given: trio.CancelScope | None = (scope.get("extensions") or {}).get(REQUEST_SCOPE)
        self.scope = trio.CancelScope() if given is None else given
        self.is_scope_open = given is not None
        self._receive = receive
        self._body_time = math.inf if self.method == WEBSOCKET else BODY_TIMEOUT

    def activate_for_good(self) -> None:
        """Do what `activate` does, where the whole context of the task is replaced afterwards."""
        _context.set(self)
        current_request.set(self.origin)
        _logged_id.set(self.request_id)
        if self.caller.token is not None:
            _logged_token.set(self.caller.token.name)

    def activate(self) -> _Active:
        """Make the request known to everything that is logged and published on its behalf.

        Returns:
            The state before, for `deactivate`.
        """
        token = self.caller.token
        return _Active(
            _context.set(self),
            current_request.set(self.origin),
            _logged_id.set(self.request_id),
            None if token is None else _logged_token.set(token.name),
        )

    @staticmethod
    def deactivate(before: _Active) -> None:
        """Restore the state that was there before `activate`."""
        if before.token_logged is not None:
            _logged_token.reset(before.token_logged)
        _logged_id.reset(before.logged)
        current_request.reset(before.origin)
        _context.reset(before.context)

    @property
    def origin(self) -> Origin:
        """The request as the origin of what it leads to."""
        if self._origin is None:
            self._origin = Origin(self.request_id, self.traceparent, self.account_id)
        return self._origin

    @property
    def is_websocket(self) -> bool:
        """Whether this is a websocket, and not a request."""
        return self.method == WEBSOCKET

    @property
    def route(self) -> str:
        """The method and the template of the path."""
        return route_template(self.method, self.rule)

    @property
    def final_status(self) -> int:
        """The status of a request that has ended: nginx's 499 where its client disconnected first.

        That is, before there was a response.
        """
        return self.status or 499

    async def receive(self) -> ReceiveMessage:
        """Receive a message for the application, and note its meaning.

        A disconnect is noted. A client that sends its body too slowly is cut off. Only the time in
        which the application waits for the client counts.
        """
        # Once the response has begun, the application does not wait for the body.
        if self._body_time == math.inf or self.status is not None:
            message = await self._receive()
        else:
            message = await self._receive_in_time()
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            self.client_disconnected = True
        elif message["type"] == "http.request":
            if message["more_body"]:
                self._body_time += len(message["body"]) / MIN_BODY_RATE
            else:
                self._body_time = math.inf
        return message

    async def _receive_in_time(self) -> ReceiveMessage:
        since = math.inf

        def begin() -> None:
            nonlocal since
            since = trio.current_time()
            self.scope.deadline = since + self._body_time

        try:
            message: ReceiveMessage = await FirstWait(self._receive(), begin)
        except trio.Cancelled:
            self.is_too_slow = trio.current_time() >= self.scope.deadline
            raise
        if since != math.inf:
            self.scope.deadline = math.inf
            self._body_time -= trio.current_time() - since
        return message

    def response_started(self, status: int) -> None:
        """Note the status; from now on the response may last, and so may the rest of the body."""
        self.status = status
        if self.scope.deadline != math.inf:  # To set it costs something, each time.
            self.scope.deadline = math.inf

    def points(self, service: str, now: float) -> list[MonitoringPoint]:
        """The points that LUNA's services measure: `requests`, and for a failure `errors` too.

        A response that breaks off is a failure whatever its status was. A websocket is measured
        by its failures only: it lasts, for hours perhaps.

        Args:
            service: the service's name.
            now: the moment at which the request has ended, on Trio's clock.
        """
        status = self.final_status
        tags: dict[str, Value] = {
            "service": service,
            "account_id": self.account_id or "none",
            "route": self.route,
            "status_code": status,
        }
        taken = None if self.method == WEBSOCKET else now - self.began
        error = self.error_code or (f"http_{status}" if status >= 400 else None)
        return request_points(
            tags, datetime.fromtimestamp(self.wall_time, UTC), self.request_id, taken, error
        )


_context: ContextVar[RequestContext] = ContextVar("trivet_request_context")


def current_context() -> RequestContext:
    """The context of the request or websocket that this task works for."""
    return _context.get()


_NAMED = frozenset({*METHODS, WEBSOCKET})


@cache
def _template(method: str, rule: str | None) -> str:
    """See `route_template`; the method is one of few."""
    path = "unmatched" if rule is None else re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule)
    return f"{method}:{path}"


def route_template(method: str, rule: str | None) -> str:
    """A route as a tag: few distinct values, whatever clients ask for.

    >>> route_template("GET", "/teapot/<int:cup>")
    'GET:/teapot/{cup}'
    >>> route_template("GET", None), route_template("BREW", None)
    ('GET:unmatched', 'other:unmatched')
    """
    return _template(method if method in _NAMED else "other", rule)


def new_request_id(now: float) -> str:
    """A request id in LUNA's form: the second, and a random UUID (of version 4).

    Args:
        now: the moment at which the request began, in seconds since 1970.
    """
    digits = "%032x" % (_random.getrandbits(128) & _RANDOM_BITS | _VERSION_4)
    return f"{int(now)},{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def printable(given: bytes | None) -> str | None:
    """The value of a header; None where it is missing, too long, or not printable ASCII."""
    if given is None:
        return None
    value = given.decode("latin-1")
    return value if _HEADER_VALUE.fullmatch(value) else None
