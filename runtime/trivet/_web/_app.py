"""The HTTP application of a runtime: its plugins' routes, and an answer for every error.

Owns the Quart application and the form of its error answers.
Never knows who serves it: hypercorn, a test client, or another ASGI server on Trio.
"""

from __future__ import annotations

from typing import Any

import structlog
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Response, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from .._routes import Route, routes_of
from .._runtime import Runtime
from .._supervision._host import Host
from .._supervision._tasks import plugin_of_task
from ._admin import add_admin
from ._cloudevents import add_cloudevents
from ._ingest import add_ingest
from ._measure import Measured, current_exchange
from ._probes import add_probes
from ._problems import MEDIA_TYPE, ProblemError, document

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def create_app(runtime: Runtime) -> QuartTrio:
    """Build the HTTP application of a running program, for any ASGI server on Trio.

    It has the routes of the plugins at the paths that their authors wrote, `POST /events/{name}`
    for JSON and `POST /events` for CloudEvents, `/livez`, `/readyz` and `/plugins`. It does not
    start and stop anything: serve it inside `async with open_runtime(…)`.

    Args:
        runtime: what `open_runtime` yields.
    """
    return build_app(runtime)


def build_app(runtime: Runtime) -> Application:
    """As `create_app`, for who serves it here and has to know when it is quiet."""
    app = Application(runtime)
    app.before_request(_note_route)
    app.register_error_handler(ProblemError, _answer_problem)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_crash)
    add_ingest(app, runtime)
    add_cloudevents(app, runtime)
    add_probes(app, runtime)
    add_admin(app, runtime)
    for host in runtime.hosts.values():
        for route in routes_of(type(host.plugin)):
            _add_route(app, host, route)
    return app


class Application(QuartTrio):
    """The Quart application of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__("trivet", static_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = runtime.program.settings.max_body
        self._measured = Measured(super().asgi_app, runtime)

    async def quiet(self) -> None:
        """Wait until no request is being answered."""
        await self._measured.quiet()

    async def cut_off(self) -> None:
        """Answer with 503 what has not begun to be answered."""

    async def asgi_app(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one scope, measured."""
        await self._measured(scope, receive, send)


def _add_route(app: QuartTrio, host: Host, route: Route) -> None:
    async def view(**variables: Any) -> Any:
        current_exchange().plugin = host.name
        _refuse_unless_running(host)
        plugin_of_task.set(host.name)  # Its time is charged to the plugin.
        answer = await route.answer(host.plugin, request.method, variables)
        return await app.make_response(answer)  # Here, what cannot be answered is a crash too.

    endpoint = f"{host.name} {route.attribute} {route.path}"
    app.add_url_rule(route.path, endpoint, view, methods=list(route.methods))


def _refuse_unless_running(host: Host) -> None:
    if host.is_up:
        return
    retry_after = None if host.is_out else host.retry_in or 1.0
    detail = f"plugin {host.name!r} is not running: {host.status.replace('_', ' ')}"
    facts = {"plugin": host.name, "plugin_status": host.status}
    raise ProblemError("plugin_unavailable", detail, facts, retry_after=retry_after)


async def _note_route() -> None:
    if request.url_rule is not None:
        current_exchange().rule = request.url_rule.rule


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
    if error is not request.routing_exception:
        return None
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        detail = f"{request.method} is not for {request.path}; allowed: {allowed}"
        return ProblemError("method_not_allowed", detail, headers={"Allow": allowed})
    return ProblemError("unknown_path", f"nothing is at {request.path}")


async def _answer_crash(error: Exception) -> ResponseReturnValue:
    exchange = current_exchange()
    # Quart takes a group apart before it asks; what is being handled here is still the whole.
    _log.exception("handler crashed", route=exchange.route, plugin=exchange.plugin)
    return await _answer_problem(ProblemError("internal_error", "the handler crashed"))
