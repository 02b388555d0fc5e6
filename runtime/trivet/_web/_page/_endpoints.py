"""The addresses of the page: its files, the state, the stream.

Owns what is answered at each of them.
Never knows what the page does with it.
"""

from __future__ import annotations

from functools import partial

import trio

from ..._access._tokens import Scope
from ..._runtime import Runtime
from .._admin import one_thread
from .._context import current_context
from .._doors import Doors
from .._fast_path import EndpointRequest, EndpointResponse, Endpoints, Headers, Stream
from .._problems import ProblemError
from ._files import ASK_FIRST, FOR_EVER, INDEX, File, Files, read_files
from ._live import Live
from ._series import Series

STREAM_HEADERS: Headers = [
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events before it passes them on.
]
SCOPES: tuple[Scope, ...] = ("read", "ingest", "admin")


def add_page(fast_path: Endpoints, runtime: Runtime, doors: Doors, series: Series) -> None:
    """Serve the page at `/-/`, and what it asks for by itself."""
    _add_files(fast_path)
    live = Live(runtime, series)

    def client() -> dict[str, object]:
        caller = current_context().caller
        may = {scope: doors.opens(scope, caller) for scope in SCOPES}
        token = {} if caller.token is None else {"token": caller.token.name}
        return {"may": may, "has_tokens": bool(doors.tokens), **token}

    async def overview(_: EndpointRequest) -> EndpointResponse:
        """The state of the service and of each plugin, what is not well, and what to do first."""
        return {**live.state(), "client": client()}, 200

    async def watch(_: EndpointRequest) -> EndpointResponse:
        """The same as server-sent events: first the state, then each second what has changed."""
        return Stream("text/event-stream", STREAM_HEADERS, partial(live.watch, client())), 200

    fast_path.add("GET", "/-/overview", "read", overview)
    fast_path.add("GET", "/-/live", "read", watch)


def _add_files(fast_path: Endpoints) -> None:
    found: list[Files] = []

    async def files() -> Files:
        if not found:
            found.append(await trio.to_thread.run_sync(read_files, limiter=one_thread))
        return found[0]

    def respond(file: File, request: EndpointRequest, caching: bytes) -> EndpointResponse:
        headers = dict(request.headers)
        return file.respond(
            accepts=headers.get("accept-encoding", ""),
            known=headers.get("if-none-match", ""),
            caching=caching,
        )

    async def page(request: EndpointRequest) -> EndpointResponse:
        """The page of the administration, which asks for a token if it needs one."""
        return respond((await files()).by_name[INDEX], request, ASK_FIRST)

    async def file(request: EndpointRequest) -> EndpointResponse:
        """A script or a style sheet of the page."""
        known = await files()
        version, _, name = request.variable.partition("/")
        if version != known.version or name not in known.by_name:
            raise ProblemError("unknown_path", f"the page of this version has no file {name!r}")
        return respond(known.by_name[name], request, FOR_EVER)

    fast_path.add("GET", "/-/", None, page)
    fast_path.add("GET", "/-/page/<version>/<name>", None, file)
