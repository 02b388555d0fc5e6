"""The metrics of a program's HTTP: their names, types, labels and descriptions.

Owns these names; those of plugins, inboxes and the store are in `_metric_families`.
Never knows where the numbers come from.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar

from .._inbox._histogram import Distribution
from ._traffic import ServerStatistics, TrafficStatistics

Bucket = tuple[str, float] | tuple[str, float, Exemplar]
"""The bound, the durations, and perhaps one of them."""


def families_of_http(traffic: TrafficStatistics) -> Iterator[Metric]:
    """The metrics of requests, and of Trivet's own server."""
    requests = HistogramMetricFamily(
        "trivet_http_request_seconds",
        "Time of each request, by the template of its route, and by 2xx to 5xx.",
        labels=["method", "route", "status"],
    )
    for (route, status), found in traffic.requests.items():
        add_histogram(requests, [*route.split(":", 1), f"{status}xx"], found)
    yield requests
    errors = CounterMetricFamily(
        "trivet_http_errors",
        "Requests and websockets that a problem has ended, by its error_code.",
        labels=["method", "route", "error_code"],
    )
    for (route, code), count in traffic.errors.items():
        errors.add_metric([*route.split(":", 1), code], count)
    yield errors
    yield GaugeMetricFamily(
        "trivet_http_open_requests",
        "Requests and websockets that are being answered.",
        traffic.open,
    )
    if traffic.server is not None:
        yield from _of_the_server(traffic.server)


def _of_the_server(server: ServerStatistics) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "trivet_http_connections", "Connections that are open.", server.connections
    )
    yield CounterMetricFamily(
        "trivet_http_refused_connections",
        "Connections that were refused, because too many were open.",
        server.refused,
    )
    yield CounterMetricFamily(
        "trivet_http_received_bytes", "Bytes that clients have sent.", server.received
    )
    yield CounterMetricFamily("trivet_http_sent_bytes", "Bytes sent to clients.", server.sent)


def add_histogram(family: HistogramMetricFamily, labels: list[str], found: Distribution) -> None:
    """Add a distribution to a histogram."""
    family.add_metric(labels, [*_buckets(found)], found.seconds)


def _buckets(found: Distribution) -> Iterator[Bucket]:
    """The buckets, some with a duration and its trace, which only OpenMetrics shows."""
    for number, (bound, count) in enumerate(found.cumulative):
        limit, each = "+Inf" if bound is None else str(bound), found.exemplars.get(number)
        if each is None:
            yield limit, float(count)
        else:
            trace = {"trace_id": each.trace_id}
            yield limit, float(count), Exemplar(trace, each.seconds, each.moment)
