"""The traffic of a program's HTTP: how many requests, how long they took, what was refused.

Owns the numbers, by route and by the class of the status.
Never knows which way a request is answered: each way says when one has ended.

The labels have few distinct values, whatever clients ask for: routes are templates, and each
problem has one of the documented codes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

import attrs

from .._inbox._histogram import Distribution, Histogram
from ._context import WEBSOCKET, RequestContext

RouteAndClass = tuple[str, int]
"""A route, as `route_template` has it, and the first digit of the status."""
RouteAndCode = tuple[str, str]
"""A route, and the code of an error."""


@attrs.frozen(kw_only=True)
class ServerStatistics:
    """Trivet's own server at one instant."""

    connections: int = 0
    """Connections that are open."""
    refused: int = 0
    """Connections that were refused since the start, because too many were open."""
    received: int = 0
    """Bytes that clients have sent, before TLS is taken off."""
    sent: int = 0
    """Bytes that were sent to clients, with TLS."""


@attrs.frozen
class TrafficStatistics:
    """The traffic at one instant."""

    requests: Mapping[RouteAndClass, Distribution]
    """Seconds of each request, from its head to the end of the response."""
    errors: Mapping[RouteAndCode, int]
    """Requests and websockets that a problem has ended."""
    open: int
    """Requests and websockets that are being answered, and had to wait."""
    server: ServerStatistics | None
    """None under somebody else's server."""


class Traffic:
    """The traffic of one program."""

    def __init__(self) -> None:
        self._requests: defaultdict[RouteAndClass, Histogram] = defaultdict(Histogram)
        self._errors = Counter[RouteAndCode]()
        self.count_open: Callable[[], int] = int
        """Counts the open requests; the middleware sets it."""
        self.of_server: Callable[[], ServerStatistics] | None = None
        """The statistics of Trivet's own server, which sets it."""

    def durations(self, route: str, status: int) -> Histogram:
        """The durations of the requests for a route that end with such a status."""
        return self._requests[route, status // 100]

    def ended(self, context: RequestContext, now: float) -> None:
        """Count a request, or a websocket, that ends now."""
        route = context.route
        if context.method != WEBSOCKET:
            durations, taken = self.durations(route, context.final_status), now - context.began
            durations.add(taken)
            if context.traceparent is not None:
                durations.exemplify(taken, context.traceparent)
        if context.error_code is not None:
            self._errors[route, context.error_code] += 1

    def statistics(self) -> TrafficStatistics:
        """The traffic now."""
        return TrafficStatistics(
            {key: histogram.distribution() for key, histogram in self._requests.items()},
            dict(self._errors),
            self.count_open(),
            None if self.of_server is None else self.of_server(),
        )
