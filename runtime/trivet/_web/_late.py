"""Quart, which is imported when it is needed.

Owns the moment at which Quart is imported.
Never knows what Quart answers, nor the layers before it.

Quart, with all that it imports, takes longer than the start of many a program. A program whose
plugins have no routes is asked for events and probes, which are answered without Quart. It imports
Quart when the first other request comes, unless there is nothing at its path. The import runs in a
thread: the event loop goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .._plugins._routes import routes_of
from .._program._garbage import garbage_collector_paused
from .._runtime import Runtime
from ._asgi import HttpScope, Receive, Scope, Send
from ._importing import import_in_thread
from ._management import SHARED
from ._problems import ProblemError
from ._senders import HttpSender
from ._service import Service


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
    if _has_routes(runtime):
        with garbage_collector_paused():
            await _build_on(service)
    return service


def _has_routes(runtime: Runtime) -> bool:
    return any([*routes_of(type(host.plugin))] for host in runtime.hosts.values())


def _renew(service: Service) -> None:
    """Serve what the program has after a reload."""
    service.heed()
    if not isinstance(service.framework, _Late):
        from ._app import build_on  # noqa: PLC0415 - it is imported

        build_on(service)


class _Late:
    """An ASGI application that puts Quart in its own place when it is needed.

    Args:
        service: the service, whose framework it is meanwhile.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        paths = ["/", *SHARED, *(endpoint.rule for endpoint in service.endpoints)]
        self._begun = frozenset(path.split("/")[1] for path in paths)
        """The first segments of the paths at which there is something."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer that nothing is at a path, as Quart does; for anything else import Quart."""
        endpoints = self._service.endpoints
        if scope["type"] == "http" and isinstance(send, HttpSender) and self._is_nothing(scope):
            problem = ProblemError("unknown_path", f"nothing is at {scope['path']}")
            await endpoints.refuse(problem, scope, receive, send)
            return
        await _build_on(self._service)
        # The application may have added the endpoint of the request.
        await endpoints(scope, receive, send)

    def _is_nothing(self, scope: HttpScope) -> bool:
        """Whether there is nothing at the path of a request, nor at one that is like it.

        So a client that asks for an icon, or for a file of another program, does not cause the
        import of Quart.
        """
        path = scope["path"]
        is_plain = path.startswith("/") and path.isascii() and path.isprintable()
        if (
            not is_plain
            or "//" in path
            or scope.get("root_path")
            or _has_routes(self._service.runtime)
        ):
            return False
        return path.split("/")[1] not in self._begun


async def _build_on(service: Service) -> None:
    """Import Quart, and build its application unless another request was first."""
    await import_in_thread("trivet._web._app")
    from ._app import build_on  # noqa: PLC0415 - see the top

    if isinstance(service.framework, _Late):
        build_on(service)
