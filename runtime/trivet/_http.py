"""HTTP for a program of one's own: the door to `_web`, which opens when somebody comes.

Owns what authors call. Who imports Trivet for its plugins, or serves nothing, does not wait for
an HTTP server and a web framework to be imported.
Never knows what is behind it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ._runtime import Runtime

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
    from ._web._app import build_app  # noqa: PLC0415 - see above

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
    from ._web._hypercorn import _server  # noqa: PLC0415 - see above

    async with _server.listening(runtime, bind) as urls:
        yield urls
