"""The contracts of a program, which its clients read: `/openapi.json` and `/asyncapi.json`.

Owns which routes there are, and that a document is made once, for the first client that asks.
Never knows the form of a document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from quart_trio import QuartTrio

from .._access._tokens import Scope
from .._runtime import Runtime
from ._asyncapi import asyncapi
from ._context import current_context
from ._doors import Doors
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._openapi import Operation, openapi
from ._plain_routes import PlainRoute

AUTOMATIC = ("HEAD", "OPTIONS")
"""The methods that the router adds to each of Trivet's own routes."""


def add_contracts(
    app: QuartTrio,
    fast_path: Endpoints,
    runtime: Runtime,
    doors: Doors,
    scopes: Mapping[str, Scope | None],
    routes: Mapping[str, PlainRoute],
) -> None:
    """Serve `/openapi.json` and `/asyncapi.json`.

    Args:
        app: the Quart application, which has every rule when the first request comes.
        fast_path: where the endpoint goes.
        runtime: the program.
        doors: say which routes are served at the address of a request.
        scopes: the scope of each of Quart's endpoints; `read` where it has none.
        routes: the plugin's route of each of Quart's endpoints.
    """

    @cache
    def routes_document(at_management: bool) -> dict[str, Any]:
        operations = _operations(app, fast_path, scopes, routes)
        served = filter(lambda each: doors.serves(each.rule), operations)
        return openapi(runtime, served, version("trivet"))

    async def describe_routes(request: EndpointRequest) -> EndpointResponse:
        """Every route of the program at this address, in OpenAPI."""
        document, root = routes_document(current_context().at_management), request.root_path
        return (document | {"servers": [{"url": root}]} if root else document), 200

    @cache
    def events_document() -> dict[str, Any]:
        return asyncapi(runtime, version("trivet"))

    async def describe_events(_: EndpointRequest) -> EndpointResponse:
        """Every event type of the program, in AsyncAPI."""
        return events_document(), 200

    fast_path.add("GET", "/openapi.json", "read", describe_routes)
    fast_path.add("GET", "/asyncapi.json", "read", describe_events)


def _operations(
    app: QuartTrio,
    fast_path: Endpoints,
    scopes: Mapping[str, Scope | None],
    routes: Mapping[str, PlainRoute],
) -> Iterator[Operation]:
    """Every method of every rule, the plugins' after Trivet's own."""
    handlers: dict[str, Callable[..., Any]] = {
        f"{endpoint.method} {endpoint.rule}": endpoint.handler for endpoint in fast_path
    }
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.endpoint in routes)
    for rule in rules:
        known = routes.get(rule.endpoint)
        if known is not None:
            target: Any = getattr(known.host.plugin, known.route.attribute)
            methods = ["websocket"] if known.route.is_websocket else list(known.route.methods)
            for method in methods:
                handler = getattr(target, method.lower()) if isinstance(target, type) else target
                scope, plugin = known.route.scope, known.host.name
                yield Operation(method, rule.rule, scope, handler, plugin)
            continue
        own = handlers.get(rule.endpoint) or app.view_functions[rule.endpoint]
        for method in sorted(set(rule.methods or ()) - set(AUTOMATIC)):
            yield Operation(method, rule.rule, scopes.get(rule.endpoint, "read"), own)
