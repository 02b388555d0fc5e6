"""HTTP: the two functions that a program of one's own calls, and the rooms behind them.

    _server/        the server: connections, and their end at a stop
    _service        the layers around a request
    _late           Quart, imported when it is needed
    _importing      imports that a request causes
    _app            the Quart application, and its responses to errors
    _quart/         the parts of Quart that are overridden: requests, responses, websockets
    _views          the plugins' routes and websockets: refused, contained
    _availability   the refusal of a request for a plugin that is not up
    _event_streams  server-sent events
    _fast_path      endpoints that are answered without Quart
    _plain_routes   plugin routes whose handlers are called without Quart
    _ingest/        the events that clients publish, on the fast path
    _probes         /livez, /startupz, /readyz and /plugins
    _snapshot       the program's numbers at one instant
    _metrics        /metrics, of which _metric_families has the names
    _metric_families_http
                    those of requests and connections
    _traffic        the numbers of these
    _admin          an operator's orders to a plugin
    _plugin_details the documents about a plugin, for an operator
    _dead_letters   events that were given up, searched, replayed and purged
    _inspection     event types, live tasks, diagnostics
    _taps _tap      events as they pass, for an operator, and the bound on what that costs
    _plugin_pages   pages that plugins' authors have written
    _inboxes        the events before one plugin, for an operator
    _envelopes      an event as an operator is shown it
    _page/          the page at /-/: its files, the state it shows, the stream that keeps it live
    _reload         the settings read anew, for an operator
    _settings       the settings with their origins, and their change
    _sign_in        a browser's session
    _doors          who may pass: tokens and scopes
    _management     the paths of management, which may have addresses of their own
    _proxies        a request through a proxy, as its client sent it
    _middleware     around each request: admitted, measured, cut off
    _begun          a handler that was called, before it is known whether it waits
    _plain_responses
                    the response to a plain return value of a handler
    _shortcuts      requests that the server answers in one call, without these layers
    _route_shortcuts
                    the requests for plugin routes among them
    _proxied_shortcuts
                    the same through a proxy
    _context        the identity of a request, and its progress
    _monitoring     the points of a request, for the plugins that listen
    _first_wait     the moment at which a coroutine waits for the first time
    _senders        the response as it is sent, and the problem in place of one
    _bodies         the body of a request, received as it is read
    _targets        the path and the host of a request, or its refusal
    _crashes        a plugin's fault, told apart from a stop
    _problems       error codes and RFC 9457 problem details
    _asgi           the types of ASGI

Never knows how plugins are loaded, nor which server runs the application. A program that imports
Trivet for its plugins alone does not wait for an HTTP server and a web framework to be imported.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from .._program._settings import TOKENS
from .._runtime import Runtime

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")

if TYPE_CHECKING:
    from quart_trio import QuartTrio


def create_app(runtime: Runtime) -> QuartTrio:
    """Build the HTTP application of a running program, for any ASGI server on Trio.

    What a client may do is decided as in `trivet serve`: by `[[tokens]]`, the `Host` and the
    `Origin` of a request. The address is that server's affair, so a warning says so if there are no
    tokens.

    It has the routes of the plugins at the paths that their authors wrote, `POST /events/{name}`
    for JSON and `POST /events` for CloudEvents, `/livez`, `/startupz`, `/readyz` and `/plugins`. It
    does not start and stop anything: serve it inside `async with open_runtime(…)`.

    Args:
        runtime: the program that `open_runtime` yields.
    """
    from ._app import build_app  # noqa: PLC0415 - see the top

    warn_of_open_doors(runtime)
    return build_app(runtime)


def warn_of_open_doors(runtime: Runtime) -> None:
    """Say that there are no tokens, where somebody else's server decides whom it lets in."""
    settings = runtime.program.settings
    if not settings.tokens:
        _log.warning("anybody whom this server lets in may publish and read", hint=TOKENS)
    if settings.management_bind is not None:
        _log.warning("management is not served: only `trivet serve` has its `management_bind`")


@asynccontextmanager
async def listening(
    runtime: Runtime, bind: str | Sequence[str], *, management_bind: str | Sequence[str] = ()
) -> AsyncGenerator[list[str]]:
    """Serve the runtime over HTTP within this block; yields the URLs that were bound.

    The end of the block begins the runtime's stop: the listening socket closes, running requests
    may finish within `[shutdown] requests`, and a request without a response by then is answered
    503.

    Args:
        runtime: the program.
        bind: the address, or several: `HOST:PORT` (port 0 is any free one), `unix:PATH`, or
            `fd://NUMBER`.
        management_bind: the address for management, or several; by default it is served at `bind`,
            and nowhere if the settings have a `management_bind`. Their URLs are the last ones.

    Raises:
        ExceptionGroup: with one error, which `open_runtime`, around this block, raises alone: a
            ConfigurationError if other machines reach the address, and there are no tokens; an
            OSError if the address is taken or is not this machine's, a ValueError if `bind` is no
            address, or a ListenerLostError if something has closed the listening socket.
    """
    from ._server import _listening  # noqa: PLC0415 - see the top

    binds, management_binds = (
        [each] if isinstance(each, str) else each for each in (bind, management_bind)
    )
    async with _listening.listening(runtime, binds, management_binds) as urls:
        yield urls
