"""The plugins' routes on the short way: a handler is called without Quart, in the server's task.

Owns which requests go this way, the watch over a client while its handler waits, and the response
to a plain return value.
Never knows what a return value that is not plain means, nor the answer to an error: Quart goes on
with the outcome of the handler.

Nobody guesses whether a handler uses Quart. On the short way its context variables hold stand-ins
(`_quart._detached`), so that `quart.request` and its like work in every handler and in all that it
calls. If the return value is not plain, or the handler raised, or has left a function to be called
with the response, Quart gets the request with the outcome, and makes the response as if it had
called the handler itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from http import HTTPStatus
from json import JSONEncoder
from typing import Any, cast

import attrs
import trio
from quart import Quart
from quart.json.provider import DefaultJSONProvider, JSONProvider
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, RequestRedirect, Rule

from .._faults._containment import split_cancelled
from .._loop._tasks import plugin_of_task
from .._plugins._routes import Route
from .._runtime import Runtime
from .._supervision._host import Host
from ._asgi import ASGIApp, HttpScope, Receive, Scope, Send
from ._bodies import receive_body
from ._context import current_context
from ._crashes import fault_of
from ._doors import Doors
from ._first_wait import FirstWait
from ._problems import ProblemError
from ._quart._detached import Detached, has_hooks, keeps_context
from ._senders import HttpSender

JSON_TYPE, TEXT_TYPE = b"application/json", b"text/html; charset=utf-8"
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED)
_PLAIN_HEADERS = frozenset({b"content-length", b"content-type", b"transfer-encoding"})


@attrs.frozen
class PlainRoute:
    """A route of a plugin."""

    host: Host
    route: Route


@attrs.frozen
class _Match:
    """The route of one request."""

    plain: PlainRoute
    rule: Rule
    variables: Mapping[str, Any]


class PlainRoutes:
    """An ASGI application in front of Quart.

    Args:
        app: the Quart application, which has all the routes, too.
        runtime: the program.
        doors: decides who may pass.
        fallback: Quart's own ASGI application.
    """

    def __init__(self, app: Quart, runtime: Runtime, doors: Doors, fallback: ASGIApp) -> None:
        self._app = app
        self._runtime = runtime
        self._doors = doors
        self._fallback = fallback
        self._routes: dict[str, PlainRoute] = {}
        self._adapter: MapAdapter | None = None
        self._known: dict[tuple[str, str], _Match] = {}
        """The routes without variables that were asked for, by method and path. They are the first
        ones that match, also when others are added."""

    def add(self, endpoint: str, host: Host, route: Route) -> None:
        """Add the route of one of Quart's endpoints."""
        self._routes[endpoint] = PlainRoute(host, route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the handler of a plugin, or have Quart answer."""
        if scope["type"] == "http" and isinstance(send, HttpSender):
            match = self._find(scope)
            if match is not None:
                await self._answer(match, scope, receive, send)
                return
        await self._fallback(scope, receive, send)

    def _find(self, scope: HttpScope) -> _Match | None:
        """The route of a request that can go the short way."""
        if scope["method"] == "OPTIONS" or scope.get("root_path") or not _has_no_body(scope):
            return None
        if keeps_context(scope):
            return None
        method, path = scope["method"], scope["path"]
        match = self._known.get((method, path)) or self._match(method, path)
        if match is None or not match.plain.host.is_up or self._runtime.stopping.is_set():
            return None
        return None if has_hooks(self._app) else match

    def _match(self, method: str, path: str) -> _Match | None:
        """The route of a plugin that Quart would find."""
        if self._adapter is None:
            self._adapter = self._app.url_map.bind("")
        try:
            rule, variables = self._adapter.match(
                path, method, return_rule=True, query_args={}, websocket=False
            )
        except (HTTPException, RequestRedirect):
            return None
        plain = self._routes.get(rule.endpoint)
        if plain is None:
            return None
        match = _Match(plain, rule, variables)
        if path == rule.rule:
            self._known[method, path] = match
        return match

    async def _answer(
        self, match: _Match, scope: HttpScope, receive: Receive, send: HttpSender
    ) -> None:
        limit = self._runtime.program.settings.max_body
        detached = Detached(self._app, scope, send, limit, match.rule, match.variables)
        try:
            self._doors.admit(match.rule.rule, match.plain.route.scope)
        except ProblemError as problem:
            detached.fault = problem
            await detached.go_on(self._fallback, receive)
            return
        current_context().plugin = match.plain.host.name
        watch = _Watch(detached, receive)
        try:
            await self._handle(match, scope["method"], detached, watch.begin)
        finally:
            await watch.end()  # noqa: ASYNC102 - shielded, and at once
        response = None
        if not detached.changes_response and detached.fault is None and not watch.has_met_body:
            response = self._plain_response(detached.answer)
        if response is None:
            await detached.go_on(self._fallback, receive)
        else:
            await send.respond(*response)

    async def _handle(
        self, match: _Match, method: str, detached: Detached, begin: Callable[[], None]
    ) -> None:
        """Call the handler, and note its outcome."""
        host, route = match.plain.host, match.plain.route
        mark = plugin_of_task.set(host.name)  # Its time is charged to the plugin.
        before = detached.enter()
        try:
            answering = route.answer(host.plugin, method, dict(match.variables))
            detached.answer = await FirstWait(answering, begin)
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            if split_cancelled(error)[0] is not None:
                fault_of(error, self._runtime)  # It raises the cancellation.
            detached.fault = error
        finally:
            if self._runtime.meter is not None:
                self._runtime.meter.split()
            detached.leave(before)
            plugin_of_task.reset(mark)

    def _plain_response(
        self, answer: object
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """The response to a plain return value, as Quart makes it; None for any other value."""
        status: Any = 200
        given: Any = {}
        if isinstance(answer, tuple):
            parts = cast("tuple[object, ...]", answer)
            if len(parts) == 2 and type(parts[1]) is dict:
                answer, given = parts
            elif len(parts) == 2:
                answer, status = parts
            elif len(parts) == 3 and type(parts[2]) is dict:
                answer, status, given = parts
            else:
                return None
        if type(status) not in (int, HTTPStatus) or not 200 <= status <= 599:
            return None
        encoded = None if status in _WITHOUT_BODY else self._encoded(answer)
        headers = None if encoded is None else _headers(*encoded, given)
        if encoded is None or headers is None:
            return None
        return int(status), headers, encoded[1]

    def _encoded(self, answer: object) -> tuple[bytes, bytes] | None:
        """The media type and the body; None for a value of another type, or a faulty one."""
        if type(answer) is bytes:
            return TEXT_TYPE, answer
        try:
            if type(answer) is str:
                return TEXT_TYPE, answer.encode()
            if type(answer) in (dict, list) and _is_stock(self._app.json) and not self._app.debug:
                return JSON_TYPE, f"{_encode(answer)}\n".encode()
        except Exception:  # Quart encodes it again, and tells whose fault it is.
            return None
        return None


_encode = JSONEncoder(
    separators=(",", ":"),
    ensure_ascii=DefaultJSONProvider.ensure_ascii,
    sort_keys=DefaultJSONProvider.sort_keys,
    default=DefaultJSONProvider.default,
).encode
"""Writes a document as Quart does by default, with an encoder that is made once."""


def _is_stock(json: JSONProvider) -> bool:
    """Whether documents are written as Quart does by default: no setting of the writer is set."""
    return type(json) is DefaultJSONProvider and vars(json).keys() <= {"_app"}


def _headers(
    media_type: bytes, body: bytes, given: Mapping[Any, Any]
) -> list[tuple[bytes, bytes]] | None:
    """The headers of a response in Quart's order; None for given ones that are not plain."""
    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    for name, value in given.items():
        if type(name) is not str or type(value) is not str:
            return None
        if not (name.isascii() and value.isascii() and value.isprintable()):
            return None
        header = name.lower().encode(), value.encode()
        if header[0] in _PLAIN_HEADERS or any(header[0] == known for known, _ in headers):
            return None
        headers.append(header)
    return headers


def _has_no_body(scope: HttpScope) -> bool:
    """Whether a request has no body, which is known of HTTP/1 only."""
    if not scope["http_version"].startswith("1"):
        return False
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return False
    return True


class _Watch:
    """The watch over a client while its handler waits: a disconnect cuts the request off.

    A handler that does not wait needs none. For another one, a task listens beside the server's
    task, in the nursery of the latter, for as long as the handler runs.

    Args:
        detached: the request.
        receive: the server's.
    """

    __slots__ = ("_detached", "_ended", "_fault", "_listening", "_receive", "_unmarked")

    def __init__(self, detached: Detached, receive: Receive) -> None:
        self._detached = detached
        self._receive = receive
        self._unmarked = copy_context()  # Without the mark of the plugin.
        self._listening: trio.CancelScope | None = None
        self._ended: trio.Event
        self._fault: BaseException | None = None

    def begin(self) -> None:
        """Begin to listen."""
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        self._listening, self._ended = trio.CancelScope(), trio.Event()
        self._unmarked.run(nursery.start_soon, self._listen, self._listening)

    @property
    def has_met_body(self) -> bool:
        """Whether a body comes that the head of the request does not announce."""
        return self._listening is not None and not self._detached.body.is_empty

    async def end(self) -> None:
        """End the listening, if it has begun.

        Raises:
            BaseException: the listening failed.
        """
        if self._listening is None:
            return
        self._listening.cancel()
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        if self._fault is not None:
            raise self._fault

    async def _listen(self, listening: trio.CancelScope) -> None:
        request_scope = current_context().scope
        try:
            with listening:
                await receive_body(self._detached.body, self._receive)
                request_scope.cancel()
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: ASYNC103 - it is raised beside the handler
            self._fault = error  # A fault here would end the server's nursery.
            request_scope.cancel()
        finally:
            self._ended.set()
