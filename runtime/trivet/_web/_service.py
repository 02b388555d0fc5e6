"""The HTTP service of a runtime: the layers around a request, with Trivet's own endpoints.

Owns the order of the layers.
Never knows the framework, which answers all other requests, nor which server calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from .._runtime import Runtime
from ._admin import add_admin
from ._asgi import ASGIApp, Receive, Scope, Send
from ._dead_letters import add_dead_letters
from ._doors import Doors
from ._fast_path import Endpoints
from ._inboxes import add_inboxes
from ._ingest._by_name import add_ingest
from ._ingest._cloudevents import add_cloudevents
from ._ingest._shortcut import EventShortcuts
from ._inspection import add_inspection
from ._management import MANAGEMENT
from ._metrics import add_metrics
from ._middleware import RequestMiddleware
from ._page._endpoints import add_page
from ._page._series import Series
from ._plugin_pages import add_plugin_pages
from ._probes import add_plugin_status, add_probes
from ._proxied_shortcuts import ProxiedShortcut
from ._proxies import Proxies
from ._reload import add_reload
from ._replacement import add_replacement
from ._settings import add_settings
from ._shortcuts import FindShortcut, RequestHead, Shortcut
from ._stalls import add_stalls
from ._taps import add_taps
from ._traffic import Traffic


class Service:
    """An ASGI application with everything that a runtime answers.

    Args:
        runtime: the program.
        addresses: the addresses that are listened at, `HOST:PORT` or `unix:PATH`; None under
            somebody else's server.
        management: addresses for management, besides.
    """

    def __init__(
        self, runtime: Runtime, addresses: Sequence[str] | None, management: Sequence[str] = ()
    ) -> None:
        self.runtime = runtime
        """The program."""
        known = None if addresses is None else [*addresses, *management]
        self.doors = Doors(runtime, known, has_management=bool(management))
        """The decision who may pass."""
        self.traffic: Traffic = Traffic()
        """The traffic, of which `/metrics` tells."""
        self.framework: ASGIApp
        """The application for requests without an endpoint; whoever makes the service sets it."""
        self.find_route: FindShortcut = lambda head, server: None
        """Finds the shortcuts of routes; the framework's application sets it."""
        self.endpoints = Endpoints(self._ask_framework, runtime, self.doors)
        """The endpoints that are answered before Quart is asked."""
        add_ingest(self.endpoints, runtime, self.doors.event_rates)
        add_cloudevents(self.endpoints, runtime, self.doors.event_rates)
        add_probes(self.endpoints, runtime, self.doors)
        add_plugin_status(self.endpoints, runtime)
        add_metrics(self.endpoints, runtime, self.traffic)
        add_admin(self.endpoints, runtime)
        add_replacement(self.endpoints, runtime)
        add_dead_letters(self.endpoints, runtime)
        add_inspection(self.endpoints, runtime)
        add_inboxes(self.endpoints, runtime)
        add_plugin_pages(self.endpoints, runtime)
        add_stalls(self.endpoints, runtime)
        add_taps(self.endpoints, runtime, self.doors)
        add_reload(self.endpoints, runtime)
        add_settings(self.endpoints, runtime)
        self.series = Series(runtime)
        """The rates of the last quarter of an hour."""
        add_page(self.endpoints, runtime, self.doors, self.series)
        self._proxies = Proxies.of(runtime.program.settings)
        self._middleware = RequestMiddleware(self.endpoints, runtime, self.doors, self.traffic)
        self._events = EventShortcuts(runtime, self.doors, self.traffic)

    def heed(self) -> None:
        """Go by the present settings of the program from now on."""
        self.doors.heed()
        self._middleware.heed()
        self._proxies = Proxies.of(self.runtime.program.settings)
        self._events.heed()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scope, within the middleware."""
        if self._proxies is not None and scope["type"] != "lifespan":
            scope = self._proxies.original(scope)
        await self._middleware(scope, receive, send)

    async def manage(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scope that has come to an address for management."""
        if scope["type"] != "lifespan":
            given = scope.get("extensions") or {}
            scope = cast("Scope", {**scope, "extensions": {**given, MANAGEMENT: True}})
        await self(scope, receive, send)

    def shortcut(self, head: RequestHead, server: str) -> Shortcut | None:
        """The shortcut of a request; None where it has to go through the layers.

        Args:
            head: the request's.
            server: the address of this machine that the client has reached.
        """
        proxies, has_layers = self._proxies, self._middleware.needs_layers
        if has_layers or (proxies is not None and proxies.has_root):
            return None
        found = self._events.find(head, server) or self.find_route(head, server)
        return found if found is None or proxies is None else ProxiedShortcut(found, proxies, head)

    async def drain(self, until: float) -> None:
        """Let requests and websockets end, when the stop has begun.

        A websocket has a second for it. A request whose response has not begun by `until`, a moment
        on Trio's clock, is answered 503; a response that has begun by then is cut off by the
        server, when it ends.
        """
        await self._middleware.drain(until)

    async def _ask_framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.framework(scope, receive, send)
