"""Quart, which is imported when it is needed.

Owns the moment at which Quart is imported.
Never knows what Quart answers, nor the layers before it.

Quart, with all that it imports, takes longer than the start of many a program. A program whose
plugins have no routes is asked for events and probes, which are answered without Quart. It imports
Quart when the first other request comes. The import runs in a thread: the event loop goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module

import trio

from .._plugins._routes import routes_of
from .._runtime import Runtime
from ._asgi import Receive, Scope, Send
from ._service import Service

_one_thread = trio.CapacityLimiter(1)
"""A thread of its own: plugins may have taken all of Trio's."""


async def build_service(
    runtime: Runtime, addresses: Sequence[str], management: Sequence[str]
) -> Service:
    """Build the service of a program; it has Quart if a plugin has routes, and else gets it late.

    Args:
        runtime: the program.
        addresses: the addresses that are listened at, `HOST:PORT` or `unix:PATH`.
        management: addresses for management, besides.
    """
    service = Service(runtime, addresses, management)
    service.framework = _Late(service)
    runtime.on_adopt.append(partial(_renew, service))
    if any([*routes_of(type(host.plugin))] for host in runtime.hosts.values()):
        await _build_on(service)
    return service


def _renew(service: Service) -> None:
    """Serve what the program has after a reload."""
    service.heed()
    if not isinstance(service.framework, _Late):
        from ._app import build_on  # noqa: PLC0415 - it is imported

        build_on(service)


class _Late:
    """An ASGI application that puts Quart in its own place when it is asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _build_on(self._service)
        # The application may have added the endpoint of the request.
        await self._service.endpoints(scope, receive, send)


async def _build_on(service: Service) -> None:
    """Import Quart, and build its application unless another request was first."""
    await trio.to_thread.run_sync(import_module, "trivet._web._app", limiter=_one_thread)
    from ._app import build_on  # noqa: PLC0415 - see the top

    if isinstance(service.framework, _Late):
        build_on(service)
