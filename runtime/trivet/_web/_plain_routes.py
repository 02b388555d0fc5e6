"""The plugins' routes on the short way: a handler is called without Quart, in the server's task.

Owns which requests go this way, the watch over a client while its handler waits, and the choice of
who makes the response.
Never knows what a return value that is not plain means, nor the answer to an error: Quart goes on
with the outcome of the handler.

Nobody guesses whether a handler uses Quart. On the short way its context variables hold stand-ins
(`_quart._detached`), so that `quart.request` and its like work in every handler and in all that it
calls. If the return value is not plain, or the handler raised, or has left a function to be called
with the response, Quart gets the request with the outcome, and makes the response as if it had
called the handler itself.

A handler may have been called before the layers: by a shortcut of Trivet's own server.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio
from quart import Quart
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, RequestRedirect

from .._plugins._routes import Route
from .._runtime import Runtime
from .._supervision._host import Host
from ._asgi import ASGIApp, HttpScope, Receive, Scope, Send
from ._begun import BEGUN, Begun, Match
from ._bodies import receive_body
from ._context import RequestContext, current_context
from ._doors import Doors
from ._plain_responses import PlainResponse, plain_response
from ._problems import ProblemError
from ._quart._detached import Detached, has_hooks, keeps_context
from ._senders import HttpSender


@attrs.frozen
class PlainRoute:
    """A route of a plugin."""

    host: Host
    route: Route


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
        self.service = runtime.service
        """The service's name."""
        self._limit = runtime.program.settings.max_body
        self._routes: dict[str, PlainRoute] = {}
        self._adapter: MapAdapter | None = None
        self._known: dict[tuple[str, str], Match] = {}
        """The routes without variables that were asked for, by method and path. They are the first
        ones that match, also when others are added."""

    def add(self, endpoint: str, host: Host, route: Route) -> None:
        """Add the route of one of Quart's endpoints."""
        self._routes[endpoint] = PlainRoute(host, route)

    def match(self, method: str, path: str) -> Match | None:
        """The route of a plugin that Quart would find."""
        return self._known.get((method, path)) or self._match(method, path)

    def find(self, method: str, path: str) -> Match | None:
        """The route of a request, if it can go the short way now.

        Args:
            method: the method.
            path: the path, of a request without a body.
        """
        match = self.match(method, path)
        if match is None or not match.host.is_up or self._runtime.leaving.is_set():
            return None
        return None if has_hooks(self._app) else match

    def begin(self, match: Match, context: RequestContext, scope: Callable[[], HttpScope]) -> Begun:
        """Call the handler of a request that may pass.

        Args:
            match: its route.
            context: the request, which is the current one.
            scope: makes the server's scope, or returns it.
        """
        context.rule, context.plugin = match.rule.rule, match.host.name
        detached = Detached(self._app, scope, self._limit, match.rule, match.variables)
        return Begun(self._runtime, context, match, detached)

    def response(self, begun: Begun) -> PlainResponse | None:
        """The response to a plain outcome of a handler; None where Quart has to make it."""
        detached = begun.detached
        if begun.waits or detached.fault is not None or detached.changes_response:
            return None
        return plain_response(self._app, detached.answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the handler of a plugin, or have Quart answer."""
        if scope["type"] == "http" and isinstance(send, HttpSender):
            begun: Begun | None = (scope.get("extensions") or {}).get(BEGUN)
            if begun is not None:
                await self._end(begun, receive, send)
                return
            match = self._find(scope)
            if match is not None:
                await self._answer(match, scope, receive, send)
                return
        await self._fallback(scope, receive, send)

    def _find(self, scope: HttpScope) -> Match | None:
        """The route of a request that can go the short way."""
        if scope["method"] == "OPTIONS" or scope.get("root_path") or not _has_no_body(scope):
            return None
        return None if keeps_context(scope) else self.find(scope["method"], scope["path"])

    def _match(self, method: str, path: str) -> Match | None:
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
        match = Match(plain.host, plain.route, rule, variables)
        if path == rule.rule:
            self._known[method, path] = match
        return match

    async def _answer(
        self, match: Match, scope: HttpScope, receive: Receive, send: HttpSender
    ) -> None:
        try:
            self._doors.admit(match.rule.rule, match.route.scope)
        except ProblemError as problem:
            detached = Detached(self._app, lambda: scope, self._limit, match.rule, match.variables)
            detached.fault = problem
            await detached.go_on(self._fallback, receive, send)
        else:
            begun = self.begin(match, current_context(), lambda: scope)
            await self._end(begun, receive, send)

    async def _end(self, begun: Begun, receive: Receive, send: HttpSender) -> None:
        """Await the end of a handler, and respond to its outcome."""
        detached, has_met_body = begun.detached, False
        if begun.waits:
            watch = _Watch(begun, receive)
            try:
                await begun.finish()
            finally:
                await watch.end()  # noqa: ASYNC102 - shielded, and at once
            has_met_body = not detached.body.is_empty
        response = None if has_met_body else self.response(begun)
        if response is None:
            await detached.go_on(self._fallback, receive, send)
        else:
            await send.respond(*response)


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
        begun: the request.
        receive: the server's.
    """

    __slots__ = ("_body", "_ended", "_fault", "_listening", "_receive")

    def __init__(self, begun: Begun, receive: Receive) -> None:
        self._body = begun.detached.body
        self._receive = receive
        self._fault: BaseException | None = None
        self._listening, self._ended = trio.CancelScope(), trio.Event()
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        begun.unmarked.run(nursery.start_soon, self._listen, self._listening, begun.context.scope)

    async def end(self) -> None:
        """End the listening.

        Raises:
            BaseException: the listening failed.
        """
        self._listening.cancel()
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        if self._fault is not None:
            raise self._fault

    async def _listen(self, listening: trio.CancelScope, request: trio.CancelScope) -> None:
        try:
            with listening:
                await receive_body(self._body, self._receive)
                request.cancel()
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: ASYNC103 - it is raised beside the handler
            self._fault = error  # A fault here would end the server's nursery.
            request.cancel()
        finally:
            self._ended.set()
