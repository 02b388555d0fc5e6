"""`/metrics`: the program's counters for Prometheus, in its text format or in OpenMetrics.

Owns the choice of what is done on the event loop, and what in a thread.
Never knows the names of the metrics.
"""

from __future__ import annotations

from importlib.util import find_spec

import trio

from .._runtime import Runtime
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints, Text
from ._problems import ProblemError
from ._snapshot import snapshot
from ._traffic import Traffic

one_scrape = trio.CapacityLimiter(1)
"""A thread for scrapes: plugins may have taken all of Trio's."""


def add_metrics(fast_path: Endpoints, runtime: Runtime, traffic: Traffic) -> None:
    """Serve `/metrics`."""

    async def metrics(request: EndpointRequest) -> EndpointResponse:
        """The counters of plugins, inboxes, the store and the process, for Prometheus."""
        if find_spec("prometheus_client") is None:
            detail = "prometheus-client is not installed: pip install 'trivet[metrics]'"
            raise ProblemError("not_installed", detail)
        from ._metric_families import exposition  # noqa: PLC0415 - only scrapes need it

        accept = ",".join(value for name, value in request.headers if name == "accept")
        found = snapshot(runtime, traffic)
        # A thousand series take tens of milliseconds, which would be a stall on the event loop.
        media_type, body = await trio.to_thread.run_sync(
            exposition, found, accept, limiter=one_scrape
        )
        return Text(media_type, body), 200

    fast_path.add("GET", "/metrics", "read", metrics)
