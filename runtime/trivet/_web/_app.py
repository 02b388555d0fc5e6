"""The HTTP application of a runtime: its plugins' routes, and a response for every error.

Owns the Quart application and the form of its error responses.
Never knows which server runs it: hypercorn, a test client, or another ASGI server on Trio.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from quart import Request as QuartRequest
from quart import Response, has_websocket_context, request, websocket
from quart import Websocket as QuartWebsocket
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import WebsocketMismatch

from .._access._tokens import Scope as AccessScope
from .._runtime import Runtime
from . import _sign_in
from ._admin import add_admin
from ._asgi import ASGIApp, Receive, Scope, Send
from ._context import current_context
from ._contracts import add_contracts
from ._crashes import report_crash
from ._doors import Doors
from ._fast_path import Endpoints
from ._ingest._by_name import add_ingest
from ._ingest._cloudevents import add_cloudevents
from ._middleware import RequestMiddleware
from ._plain_routes import PlainRoute, PlainRoutes
from ._probes import add_plugin_status, add_probes
from ._problems import MEDIA_TYPE, ProblemError, document
from ._proxies import Proxies
from ._quart._detached import DETACHED, Detached
from ._quart._requests import HttpConnection, Request
from ._quart._responses import RangedResponse
from ._quart._websockets import Websocket, WebsocketConnection
from ._views import add_views


def build_app(runtime: Runtime, addresses: Sequence[str] | None = None) -> Application:
    """Build the application of `trivet.create_app`, with the method `drain` for a server's stop.

    Args:
        runtime: the program.
        addresses: the addresses that are listened at, `HOST:PORT` or `unix:PATH`; None under
            somebody else's server.
    """
    app = Application(runtime, addresses)
    app.before_request(partial(_admit, app))
    app.before_websocket(partial(_admit, app))
    app.register_error_handler(ProblemError, _answer_problem)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_crash)
    add_ingest(app.fast_path, runtime, app.doors.event_rates)
    add_cloudevents(app.fast_path, runtime, app.doors.event_rates)
    add_probes(app.fast_path, runtime)
    add_admin(app.fast_path, runtime)
    routes: dict[str, PlainRoute] = {}
    add_contracts(app, app.fast_path, runtime, app.scopes, routes)
    for endpoint in app.fast_path:  # For the 405 of requests with another method.
        name = f"{endpoint.method} {endpoint.rule}"
        app.add_url_rule(endpoint.rule, name, methods=[endpoint.method])
        app.scopes[name] = endpoint.scope
    add_plugin_status(app, runtime)
    _sign_in.add_sign_in(app, app.doors)
    app.scopes |= _sign_in.SCOPES
    add_views(app, app.plain_routes, runtime, app.scopes, routes)
    return app


class Application(QuartTrio):
    """The Quart application of one runtime."""

    request_class = Request
    response_class = RangedResponse
    asgi_http_class = HttpConnection
    asgi_websocket_class = WebsocketConnection
    websocket_class = Websocket

    def __init__(self, runtime: Runtime, addresses: Sequence[str] | None) -> None:
        super().__init__("trivet", static_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = runtime.program.settings.max_body
        self.doors = Doors(runtime, addresses)
        """The decision who may pass."""
        self.scopes: dict[str, AccessScope | None] = {}
        """The scope that each of Quart's endpoints asks for, None for a public one. `read` is that
        of an endpoint that is not in here."""
        quart = cast("ASGIApp", super().asgi_app)
        self.plain_routes = PlainRoutes(self, runtime, self.doors, quart)
        """The plugins' routes, whose handlers are called before Quart is asked."""
        self.fast_path = Endpoints(self.plain_routes, runtime, self.doors)
        """The endpoints that are answered before Quart is asked."""
        self._proxies = Proxies.of(runtime.program.settings)
        self._middleware = RequestMiddleware(self.fast_path, runtime, self.doors)

    async def drain(self, until: float) -> None:
        """Let requests and websockets end, when the stop has begun.

        A websocket has a second for it. A request whose response has not begun by `until`, a moment
        on Trio's clock, is answered 503; a response that has begun by then is cut off by the
        server, when it ends.
        """
        await self._middleware.drain(until)

    def request_context(self, request: QuartRequest) -> Any:
        """The context of a request: its handler's, where that was called outside of Quart."""
        detached: Detached | None = cast("Any", request.scope).get(DETACHED)
        return super().request_context(request) if detached is None else detached.contexts[-1]

    # Quart's types are hypercorn's; here they are ASGI's.
    async def asgi_app(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Answer one scope, within the middleware."""
        if self._proxies is not None and scope["type"] != "lifespan":
            scope = self._proxies.original(scope)
        await self._middleware(scope, receive, send)


async def _admit(app: Application) -> None:
    """Note the route, and refuse a request that may not pass."""
    current = _current()
    rule, is_handled = current.url_rule, DETACHED in cast("Any", current.scope)
    if rule is not None and not is_handled:
        app.doors.admit(rule.rule, app.scopes.get(rule.endpoint, "read"))


def _current() -> QuartRequest | QuartWebsocket:
    """The current request, or the current websocket."""
    return websocket if has_websocket_context() else request


async def _answer_problem(problem: ProblemError) -> ResponseReturnValue:
    current_context().error_code = problem.error_code
    return Response(
        problem.document(), problem.status.value, problem.headers, content_type=MEDIA_TYPE
    )


async def _answer_http_exception(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None:
        return error.get_response()  # The author's own, whole.
    if (problem := _routing_problem(error)) is not None:
        return await _answer_problem(problem)
    status = error.code or 500
    detail = error.description or error.name
    headers = Headers(error.get_headers())
    headers.remove("Content-Type")
    body = document(status, detail, f"http_{status}", {})
    return Response(body, status, headers, content_type=MEDIA_TYPE)


def _routing_problem(error: HTTPException) -> ProblemError | None:
    """The problem of a request without a route."""
    current = _current()
    if error is not current.routing_exception:
        return None
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        detail = f"{current.method} is not for {current.path}; allowed: {allowed}"
        return ProblemError("method_not_allowed", detail, headers={"Allow": allowed})
    if isinstance(error, WebsocketMismatch) and not has_websocket_context():
        detail = f"{current.path} is for websockets"
        return ProblemError("upgrade_required", detail, headers={"Upgrade": "websocket"})
    return ProblemError("unknown_path", f"nothing is at {current.path}")


async def _answer_crash(error: Exception) -> ResponseReturnValue:
    # Quart takes a group apart before it asks; the exception that is being handled is the whole.
    return await _answer_problem(report_crash(sys.exc_info()[1] or error))
