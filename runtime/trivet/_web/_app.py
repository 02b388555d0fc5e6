"""The HTTP application of a runtime: its plugins' routes, and an answer for every error.

Owns the Quart application and the form of its error answers.
Never knows who serves it: hypercorn, a test client, or another ASGI server on Trio.
"""

from __future__ import annotations

import sys
from functools import partial

import structlog
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Response, has_websocket_context, request, websocket
from quart.typing import ResponseReturnValue
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import WebsocketMismatch

from .._faults._advice import explained
from .._runtime import Runtime
from ._admin import add_admin
from ._bodies import HttpConnection
from ._exchange import current_exchange
from ._ingest._by_name import add_ingest
from ._ingest._cloudevents import add_cloudevents
from ._ingest._front import Front, admit
from ._measured import Measured
from ._probes import add_account, add_probes
from ._problems import MEDIA_TYPE, ProblemError, document
from ._requests import Request
from ._responses import Response as PlainResponse
from ._views import add_views
from ._websockets import Websocket, WebsocketConnection

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def build_app(runtime: Runtime) -> Application:
    """As `trivet.create_app`, for who serves it here and has to know when it is quiet."""
    app = Application(runtime)
    app.before_request(partial(_admit, runtime))
    app.before_websocket(partial(_admit, runtime))
    app.register_error_handler(ProblemError, _answer_problem)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_crash)
    add_ingest(app.front, runtime)
    add_cloudevents(app.front, runtime)
    add_probes(app.front, runtime)
    for way in app.front:  # For the other methods that are asked for there.
        app.add_url_rule(way.rule, f"{way.method} {way.rule}", methods=[way.method])
    add_account(app, runtime)
    add_admin(app, runtime)
    add_views(app, runtime)
    return app


class Application(QuartTrio):
    """The Quart application of one runtime."""

    request_class = Request
    response_class = PlainResponse
    asgi_http_class = HttpConnection
    asgi_websocket_class = WebsocketConnection
    websocket_class = Websocket

    def __init__(self, runtime: Runtime) -> None:
        super().__init__("trivet", static_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = runtime.program.settings.max_body
        self.front = Front(super().asgi_app, runtime)
        """Answers before Quart is asked."""
        self._measured = Measured(self.front, runtime)

    async def finish(self, until: float) -> None:
        """Let requests and websockets end, when the stop has begun.

        A websocket has a second for it. A request that is not being answered by `until`, a moment
        on Trio's clock, is answered 503; an answer that has begun by then is to be cut by whoever
        ends the server.
        """
        await self._measured.finish(until)

    async def asgi_app(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one scope, measured."""
        await self._measured(scope, receive, send)


async def _admit(runtime: Runtime) -> None:
    """Note the route; refuse what begins after the stop has begun."""
    rule = _client().url_rule
    if rule is not None:
        admit(runtime, rule.rule)


def _client() -> BaseRequestWebsocket:
    """The request at hand, or the websocket."""
    return websocket if has_websocket_context() else request


async def _answer_problem(problem: ProblemError) -> ResponseReturnValue:
    current_exchange().error_code = problem.error_code
    return Response(
        problem.document(), problem.status.value, problem.headers, content_type=MEDIA_TYPE
    )


async def _answer_http_exception(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None:
        return error.get_response()  # The author's own, whole.
    if (problem := _problem_of(error)) is not None:
        return await _answer_problem(problem)
    status = error.code or 500
    detail = error.description or error.name
    headers = Headers(error.get_headers())
    headers.remove("Content-Type")
    body = document(status, detail, f"http_{status}", {})
    return Response(body, status, headers, content_type=MEDIA_TYPE)


def _problem_of(error: HTTPException) -> ProblemError | None:
    """The problem that a request without a route has."""
    client = _client()
    if error is not client.routing_exception:
        return None
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        detail = f"{client.method} is not for {client.path}; allowed: {allowed}"
        return ProblemError("method_not_allowed", detail, headers={"Allow": allowed})
    if isinstance(error, WebsocketMismatch) and not has_websocket_context():
        detail = f"{client.path} is for websockets"
        return ProblemError("upgrade_required", detail, headers={"Upgrade": "websocket"})
    return ProblemError("unknown_path", f"nothing is at {client.path}")


async def _answer_crash(error: Exception) -> ResponseReturnValue:
    exchange = current_exchange()
    # Quart takes a group apart before it asks; what is being handled here is still the whole.
    whole = sys.exc_info()[1] or error
    _log.error(
        "handler crashed",
        route=exchange.route,
        plugin=exchange.plugin,
        exc_info=explained(whole),
    )
    return await _answer_problem(ProblemError("internal_error", "the handler crashed"))
