"""HTTP: the two functions that a program of one's own calls, and the rooms behind them.

    _hypercorn/     the server: it listens, and ends what is left at a stop
    _app            the Quart application, and its answers to errors
    _views          the plugins' routes and websockets: refused, contained
    _event_streams  server-sent events
    _ingest/        events that come in, answered without Quart
    _probes         /livez, /readyz and /plugins
    _admin          an operator's requests, with a token
    _requests       a request as a route reads it: text, JSON and forms, within limits
    _responses      the part of an answer that a client asks for
    _bodies         the body of a request, taken from its client as it is read
    _websockets     the messages of a websocket, taken from its client as they are received
    _measured       around each request: open, cut off, measured
    _targets        the path and the host of a request, or its refusal
    _senders        the answer as its client is sent it, and the last word to that client
    _crashes        the difference between a plugin's fault and a stop
    _exchange       each request's identity, and its monitoring points
    _problems       error codes and RFC 9457 problem details

Never knows how plugins are loaded, nor who serves the application. A program that imports Trivet
for its plugins alone does not wait for an HTTP server and a web framework to be imported.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .._runtime import Runtime

if TYPE_CHECKING:
    from quart_trio import QuartTrio


def create_app(runtime: Runtime) -> QuartTrio:
    """Build the HTTP application of a running program, for any ASGI server on Trio.

    It has the routes of the plugins at the paths that their authors wrote, `POST /events/{name}`
    for JSON and `POST /events` for CloudEvents, `/livez`, `/readyz` and `/plugins`. It does not
    start and stop anything: serve it inside `async with open_runtime(…)`.

    Args:
        runtime: what `open_runtime` yields.
    """
    from ._app import build_app  # noqa: PLC0415 - see the top

    return build_app(runtime)


@asynccontextmanager
async def listening(runtime: Runtime, bind: str) -> AsyncGenerator[list[str]]:
    """Serve the runtime over HTTP within this block; yields the URLs that were bound.

    To leave it begins the runtime's stop: the listening socket closes, the requests that are
    being answered may finish within `[shutdown] requests`, and what has had no answer by then
    gets 503.

    Args:
        runtime: what to serve.
        bind: `HOST:PORT` (port 0 is any free one), `unix:PATH`, or `fd://NUMBER`.
    """
    from ._hypercorn import _server  # noqa: PLC0415 - see the top

    async with _server.listening(runtime, bind) as urls:
        yield urls
