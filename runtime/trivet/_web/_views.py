"""The plugins' routes and websockets, as views of the Quart application.

Owns the guard around an author's code: requests are refused while the plugin is not up, and errors
that the code raises are contained.
Never knows the order of a stop: open requests are cut off by the middleware.
"""

from __future__ import annotations

from typing import Any, cast

from quart import request, websocket
from quart_trio import QuartTrio

from .._access._tokens import Scope
from .._faults._containment import open_transparent_nursery
from .._loop._tasks import plugin_of_task
from .._plugins._routes import Route, routes_of
from .._plugins._streams import EventStream
from .._runtime import Runtime
from .._supervision._host import Host
from ._availability import require_running
from ._context import current_context
from ._crashes import fault_of, report_crash
from ._event_streams import stream_response
from ._plain_routes import PlainRoute, PlainRoutes
from ._quart._detached import DETACHED, Detached
from ._quart._websockets import log_unreadable, unreadable_message
from ._senders import INTERNAL_ERROR


def add_views(
    app: QuartTrio,
    plain_routes: PlainRoutes,
    runtime: Runtime,
    scopes: dict[str, Scope | None],
    routes: dict[str, PlainRoute],
) -> None:
    """Serve the routes of all plugins.

    Args:
        app: the Quart application.
        plain_routes: where the routes go besides.
        runtime: the program.
        scopes: where the scope of each endpoint goes.
        routes: where the route of each endpoint goes.
    """
    for host in runtime.hosts.values():
        for route in routes_of(type(host.plugin)):
            if route.is_websocket:
                endpoint = _add_websocket(app, runtime, host, route)
            else:
                endpoint = _add_route(app, runtime, host, route)
                plain_routes.add(endpoint, host, route)
            scopes[endpoint] = route.scope
            routes[endpoint] = PlainRoute(host, route)


def _add_route(app: QuartTrio, runtime: Runtime, host: Host, route: Route) -> str:
    """Add a route of a plugin; returns its endpoint."""

    async def view(**variables: Any) -> Any:
        current_context().plugin = host.name
        detached: Detached | None = cast("Any", request.scope).get(DETACHED)
        if detached is None:
            require_running(host)
        plugin_of_task.set(host.name)  # Its time is charged to the plugin.
        try:
            if detached is None:
                answer = await route.answer(host.plugin, request.method, variables)
            else:
                answer = detached.outcome()
            if isinstance(answer, EventStream):
                return stream_response(answer, runtime, host, has_body=request.method != "HEAD")
            return await _respond(app, host, route, answer)
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            fault = fault_of(error, runtime)
        if isinstance(fault, Exception):
            raise fault  # An abort, perhaps: Quart asks the application's error handlers.
        raise report_crash(fault)

    endpoint = f"{host.name} {route.attribute} {route.path}"
    app.add_url_rule(route.path, endpoint, view, methods=list(route.methods))
    return endpoint


async def _respond(app: QuartTrio, host: Host, route: Route, answer: Any) -> Any:
    """The response that Quart makes of a route's return value; a wrong one is a crash, too."""
    try:
        return await app.make_response(answer)
    except TypeError as error:
        error.add_note(f"{route.place(host.plugin)} returned {_fault_of_answer(answer)}")
        raise


def _fault_of_answer(answer: object) -> str:
    name, kinds = type(answer).__name__, [type(answer)]
    if isinstance(answer, tuple):  # A document and its status, perhaps.
        kinds = [type(part) for part in cast("tuple[object, ...]", answer)[:1]]
    if any(issubclass(kind, (dict, list)) for kind in kinds):
        return f"a {kinds[0].__name__} with a value that JSON cannot express"
    kind = "None" if answer is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    return (
        f"{kind}; a route returns a dict, a list, text, bytes or a Response, or one with a status"
    )


def _add_websocket(app: QuartTrio, runtime: Runtime, host: Host, route: Route) -> str:
    """Add a websocket of a plugin; returns its endpoint."""

    async def view(**variables: Any) -> Any:
        context = current_context()
        context.plugin = host.name
        require_running(host)
        plugin_of_task.set(host.name)
        answer: Any = None
        fault: BaseException | None = None
        try:
            async with open_transparent_nursery() as nursery:
                nursery.start_soon(_cancel_after_lifetime, host)
                answer = await route.answer(host.plugin, "GET", variables)
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            fault = fault_of(error, runtime)
        if fault is not None:
            return await _refuse_or_close(fault)
        if answer is None and context.status is None:
            # The handler had nothing to say: the websocket was open for a moment.
            await websocket.accept()  # pyright: ignore[reportUnknownMemberType]
        return answer

    endpoint = f"{host.name} {route.attribute} {route.path} websocket"
    app.add_websocket(route.path, endpoint, view)
    return endpoint


async def _refuse_or_close(fault: BaseException) -> None:
    """Refuse the handshake by the error that the author has raised; else close the websocket."""
    context = current_context()
    if context.status is None and isinstance(fault, Exception):
        raise fault
    unreadable = unreadable_message(fault)
    if unreadable is not None and not context.is_complete:
        log_unreadable(unreadable)
        context.error_code = "malformed_message"
        await websocket.close(unreadable.close_code)
        return
    problem = report_crash(fault)
    context.error_code = problem.error_code
    if context.status is None:
        raise problem
    if not context.is_complete:
        await websocket.close(INTERNAL_ERROR)


async def _cancel_after_lifetime(host: Host) -> None:
    context = current_context()
    await host.wait_until_down()
    context.scope.cancel()
