"""A snapshot of a program: the numbers that it keeps, at one instant.

Owns the facts, which are read on the event loop and may go to a thread.
Never knows the form in which they are shown.
"""

from __future__ import annotations

from importlib.metadata import version

import attrs

from .._inbox._counts import InboxStatistics
from .._inbox._latencies import LatencyStatistics
from .._log import _writer as _log_writer
from .._loop._usage import SERVICE, Usage
from .._plugins._status import Status
from .._runtime import Runtime
from ._probes import is_ready
from ._traffic import Traffic, TrafficStatistics


@attrs.frozen
class PluginSnapshot:
    """One plugin at one instant."""

    name: str
    status: Status
    since: float
    """The moment of the last change of the status, in seconds since 1970."""
    restarts: int
    critical: bool
    usage: Usage | None
    """Its use of the event loop; None where that is not measured."""
    inbox: InboxStatistics | None
    """None without an inbox."""
    oldest: float | None
    """The moment at which the oldest event inside was published, in seconds since 1970."""
    latencies: LatencyStatistics | None
    """None without an inbox."""


@attrs.frozen
class Snapshot:
    """A program at one instant."""

    service: str
    version: str
    is_ready: bool
    """Whether `/readyz` answers 200."""
    plugins: list[PluginSnapshot]
    service_usage: Usage | None
    """The use of the event loop by Trivet itself."""
    unrouted: dict[str, int]
    """Events that no plugin listened to, by type."""
    store_bytes: int | None
    """None where no inbox is durable."""
    store_fails: bool
    store_is_near_limit: bool
    store_commits: int
    """Transactions that were written since the start."""
    store_waiting: int
    """Events, and ends of events, that wait to be written."""
    lost_lines: int
    traffic: TrafficStatistics


def snapshot(runtime: Runtime, traffic: Traffic) -> Snapshot:
    """The program now."""
    inboxes, oldest, usage = runtime.statistics(), runtime.oldest_events(), runtime.usage()
    latencies = runtime.latencies()
    store = runtime.store
    plugins = [
        PluginSnapshot(
            name,
            host.status,
            host.since.timestamp(),
            host.restarts,
            host.critical,
            usage.get(name),
            inboxes.get(name),
            oldest.get(name),
            latencies.get(name),
        )
        for name, host in runtime.hosts.items()
    ]
    return Snapshot(
        runtime.service,
        version("trivet"),
        is_ready(runtime),
        plugins,
        usage.get(SERVICE),
        dict(runtime.unrouted),
        None if store is None else store.bytes,
        store is not None and store.trouble is not None,
        store is not None and store.is_near_limit,
        0 if store is None else store.commits,
        0 if store is None else store.waiting,
        _log_writer.lost_lines(),
        traffic.statistics(),
    )
