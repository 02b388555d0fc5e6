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
from ._asgi import ASGIApp, Receive, Scope, Send
from ._context import current_context
from ._contracts import add_contracts
from ._crashes import report_crash
from ._page._root import add_root
from ._plain_routes import PlainRoute, PlainRoutes
from ._problems import MEDIA_TYPE, ProblemError, document
from ._quart._detached import DETACHED, Detached
from ._quart._requests import HttpConnection, Request
from ._quart._responses import RangedResponse
from ._quart._websockets import Websocket, WebsocketConnection
from ._route_shortcuts import RouteShortcuts
from ._service import Service
from ._views import add_views


def build_app(runtime: Runtime, addresses: Sequence[str] | None = None) -> Application:
    """Build the application of `trivet.create_app`.

    Args:
        runtime: the program.
        addresses: the addresses that are listened at, `HOST:PORT` or `unix:PATH`; None under
            somebody else's server.
    """
    return build_on(Service(runtime, addresses))


def build_on(service: Service) -> Application:
    """Build the application, which the service asks from now on."""
    app = Application(service)
    service.framework = app.answer
    service.find_route = RouteShortcuts(
        app.answer, service.runtime, service.doors, service.endpoints, service.traffic
    ).find
    app.before_request(partial(_admit, app))
    app.before_websocket(partial(_admit, app))
    app.register_error_handler(ProblemError, _answer_problem)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_crash)
    routes: dict[str, PlainRoute] = {}
    add_contracts(app, service.endpoints, service.runtime, service.doors, app.scopes, routes)
    for endpoint in service.endpoints:  # For the 405 of requests with another method.
        name = f"{endpoint.method} {endpoint.rule}"
        app.add_url_rule(endpoint.rule, name, methods=[endpoint.method])
        app.scopes[name] = endpoint.scope
    _sign_in.add_sign_in(app, service.doors)
    app.scopes |= _sign_in.SCOPES
    add_views(app, app.answer, service.runtime, app.scopes, routes)
    add_root(app, service.doors, app.scopes)
    return app


class Application(QuartTrio):
    """The Quart application of one runtime.

    Args:
        service: the layers before Quart.
    """

    request_class = Request
    response_class = RangedResponse
    asgi_http_class = HttpConnection
    asgi_websocket_class = WebsocketConnection
    websocket_class = Websocket

    def __init__(self, service: Service) -> None:
        super().__init__("trivet", static_folder=None)
        runtime = service.runtime
        self.config["MAX_CONTENT_LENGTH"] = runtime.program.settings.max_body
        self.service = service
        """The layers before Quart."""
        self.scopes: dict[str, AccessScope | None] = {}
        """The scope that each of Quart's endpoints asks for, None for a public one. `read` is that
        of an endpoint that is not in here."""
        quart = cast("ASGIApp", super().asgi_app)
        self.answer = PlainRoutes(self, runtime, service.doors, quart)
        """Answers a request that the layers before have let in. The handlers of the plugins' routes
        are called before Quart is asked."""

    def request_context(self, request: QuartRequest) -> Any:
        """The context of a request: its handler's, where that was called outside of Quart."""
        detached: Detached | None = cast("Any", request.scope).get(DETACHED)
        return super().request_context(request) if detached is None else detached.contexts[-1]

    # Quart's types are hypercorn's; here they are ASGI's.
    async def asgi_app(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Answer one scope, by the service that this application belongs to."""
        await self.service(scope, receive, send)


async def _admit(app: Application) -> None:
    """Note the route, and refuse a request that may not pass."""
    current = _current()
    rule, is_handled = current.url_rule, DETACHED in cast("Any", current.scope)
    if rule is not None and not is_handled:
        app.service.doors.admit(rule.rule, app.scopes.get(rule.endpoint, "read"))


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
