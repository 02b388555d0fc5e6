"""The plugins' routes and websockets, as views of the Quart application.

Owns what stands between a client and an author's code: the refusal while the plugin is not up,
and the containment of what the code raises.
Never knows how a stop goes: what is open is cut off from outside.
"""

from __future__ import annotations

from typing import Any

import trio
from quart import request, websocket
from quart_trio import QuartTrio

from .._loop._tasks import plugin_of_task
from .._plugins._routes import Route, routes_of
from .._plugins._streams import EventStream
from .._runtime import Runtime
from .._supervision._host import Host
from ._crashes import crash_of, log_crash
from ._event_streams import stream
from ._exchange import current_exchange
from ._problems import ProblemError
from ._senders import INTERNAL_ERROR
from ._websockets import log_unreadable, unreadable_message


def add_views(app: QuartTrio, runtime: Runtime) -> None:
    """Serve the routes of all plugins."""
    for host in runtime.hosts.values():
        for route in routes_of(type(host.plugin)):
            if route.is_websocket:
                _add_websocket(app, runtime, host, route)
            else:
                _add_route(app, runtime, host, route)


def _add_route(app: QuartTrio, runtime: Runtime, host: Host, route: Route) -> None:
    async def view(**variables: Any) -> Any:
        current_exchange().plugin = host.name
        _refuse_unless_up(host)
        plugin_of_task.set(host.name)  # Its time is charged to the plugin.
        try:
            answer = await route.answer(host.plugin, request.method, variables)
            if isinstance(answer, EventStream):
                return stream(answer, runtime, host, has_body=request.method != "HEAD")
            return await _respond(app, host, route, answer)
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            crash = crash_of(error, runtime)
        if isinstance(crash, Exception):
            raise crash  # An abort, perhaps: Quart knows, and asks for the answer to it.
        log_crash(crash)
        raise ProblemError("internal_error", "the handler crashed")

    endpoint = f"{host.name} {route.attribute} {route.path}"
    app.add_url_rule(route.path, endpoint, view, methods=list(route.methods))


async def _respond(app: QuartTrio, host: Host, route: Route, answer: Any) -> Any:
    """The answer as Quart makes it of what a route has returned; else that is a crash, too."""
    try:
        return await app.make_response(answer)
    except TypeError as error:
        kind = "None" if answer is None else f"a {type(answer).__name__}"
        error.add_note(
            f"{route.place(host.plugin)} returned {kind}; "
            "a route returns a dict, a list, text, bytes or a Response, or one with a status"
        )
        raise


def _add_websocket(app: QuartTrio, runtime: Runtime, host: Host, route: Route) -> None:
    async def view(**variables: Any) -> Any:
        exchange = current_exchange()
        exchange.plugin = host.name
        _refuse_unless_up(host)
        plugin_of_task.set(host.name)
        error: BaseException | None = None
        answer: Any = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cut_off_after_lifetime, host)
            try:
                answer = await route.answer(host.plugin, "GET", variables)
            except BaseException as raised:  # noqa: ASYNC103 - out of the nursery, which groups it
                error = raised
            nursery.cancel_scope.cancel()
        if error is not None:
            return await _refuse_or_close(crash_of(error, runtime))
        if answer is None and exchange.status is None:
            # Nothing was to be said: it was open for a moment.
            await websocket.accept()  # pyright: ignore[reportUnknownMemberType]
        return answer

    endpoint = f"{host.name} {route.attribute} {route.path} websocket"
    app.add_websocket(route.path, endpoint, view)


async def _refuse_or_close(crash: BaseException) -> None:
    """Refuse the handshake, by what the author has raised to do so; else close the websocket."""
    exchange = current_exchange()
    if exchange.status is None and isinstance(crash, Exception):
        raise crash
    unreadable = unreadable_message(crash)
    if unreadable is not None and not exchange.has_ended:
        log_unreadable(unreadable)
        exchange.error_code = "malformed_message"
        await websocket.close(unreadable.close_code)
        return
    log_crash(crash)
    exchange.error_code = "internal_error"
    if exchange.status is None:
        raise ProblemError("internal_error", "the handler crashed")
    if not exchange.has_ended:
        await websocket.close(INTERNAL_ERROR)


async def _cut_off_after_lifetime(host: Host) -> None:
    exchange = current_exchange()
    await host.left()
    exchange.scope.cancel()


def _refuse_unless_up(host: Host) -> None:
    if host.is_up:
        return
    retry_after = None if host.is_out else host.retry_in or 1.0
    detail = f"plugin {host.name!r} is not running: {host.status.replace('_', ' ')}"
    facts = {"plugin": host.name, "plugin_status": host.status}
    raise ProblemError("plugin_unavailable", detail, facts, retry_after=retry_after)
