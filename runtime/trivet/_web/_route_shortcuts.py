"""The short way of a plugin's route, from the head of a request to its handler and back.

Owns which requests take it, and their responses.
Never knows how a handler is called, nor which return values are plain: `_plain_routes` does. A
handler that waits, and an outcome that is not plain, go on through the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time as wall_time
from typing import TYPE_CHECKING
from urllib.parse import unquote

import trio

from .._access._passes import Pass
from .._runtime import Runtime
from ._asgi import HttpScope
from ._begun import Begun
from ._context import RequestContext, printable
from ._doors import Door, Doors
from ._fast_path import Endpoints
from ._monitoring import Monitoring
from ._senders import SENT_AT_ONCE
from ._shortcuts import STATUS_LINES, Answer, RequestHead, Shortcut
from ._traffic import Traffic

if TYPE_CHECKING:
    from ._plain_routes import PlainRoutes

_LINES = b"%bcontent-type: %b\r\ncontent-length: %b\r\nluna-request-id: %b\r\n"


class RouteShortcuts:
    """Finds the shortcuts of the plugins' routes.

    Args:
        routes: the routes.
        runtime: the program.
        doors: decides who may pass.
        endpoints: the endpoints that come before the routes.
        traffic: counts the requests.
    """

    def __init__(
        self,
        routes: PlainRoutes,
        runtime: Runtime,
        doors: Doors,
        endpoints: Endpoints,
        traffic: Traffic,
    ) -> None:
        self.routes = routes
        self.monitoring = Monitoring(runtime)
        self.traffic = traffic
        self._doors = doors
        self._endpoints = endpoints

    def find(self, head: RequestHead, server: str) -> Shortcut | None:
        """The shortcut of a head; see `FindShortcut`."""
        target, method = head.target, head.method
        if (
            method in ("HEAD", "OPTIONS")
            or head.length != 0
            or b"expect" in head
            or b"upgrade" in head
        ):
            return None
        if not target.startswith(b"/") or target.startswith(b"//"):
            return None
        path = unquote(target.partition(b"?")[0].decode("ascii"))
        if self._endpoints.find(method, path) is not None:
            return None
        match = self.routes.match(method, path)
        if match is None:
            return None
        right = self._doors.pass_of(head, Door(path, match.route.scope), server)
        return None if right is None else _RouteShortcut(self, head, path, right)


class _RouteShortcut:
    """See `Shortcut`.

    Args:
        shortcuts: the parts of the program.
        head: the request's.
        path: its path.
        right: its right to pass.
    """

    __slots__ = ("_account_id", "_method", "_monitoring", "_path", "_request_id", "_right",
                 "_routes", "_traceparent", "_traffic")  # fmt: skip

    length = 0

    def __init__(
        self, shortcuts: RouteShortcuts, head: RequestHead, path: str, right: Pass
    ) -> None:
        self._routes = shortcuts.routes
        self._monitoring = shortcuts.monitoring
        self._traffic = shortcuts.traffic
        self._right = right
        self._method = head.method
        self._path = path
        self._request_id = printable(head.get(b"luna-request-id"))
        self._account_id = printable(head.get(b"luna-account-id"))
        self._traceparent = printable(head.get(b"traceparent"))

    def answer(
        self, body: bytes, address: str, scope: Callable[[], HttpScope]
    ) -> Answer | Begun | None:
        """See `Shortcut`."""
        routes = self._routes
        match = routes.find(self._method, self._path)
        if match is None or not self._right.holds(address):
            return None
        context = RequestContext(
            self._method, self._request_id, self._account_id, self._traceparent, wall_time()
        )
        context.caller = self._right.use(address)
        context.activate_for_good()
        begun = routes.begin(match, context, scope)
        response = routes.response(begun)
        if response is None or len(response[1]) > 2 or len(response[2]) > SENT_AT_ONCE:
            return begun
        status, ((_, media_type), (_, length)), body = response
        context.status = status
        line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        lines = _LINES % (line, media_type, length, context.request_id.encode("ascii"))
        after = None
        now = trio.current_time()
        self._traffic.ended(context, now)
        if self._monitoring.is_on:
            after = self._monitoring.publish(context.points(routes.service, now), context.origin)
        return Answer(lines, body, True, after)
