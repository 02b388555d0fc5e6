"""The metrics of a program: their names, types, labels and descriptions.

Owns the one list of them, from which the documents' table is made.
Never knows the program: it is given a snapshot, in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from operator import attrgetter

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .._inbox._counts import COUNTERS
from .._loop._usage import SERVICE
from .._plugins._status import Status
from ._metric_families_http import add_histogram, families_of_http
from ._snapshot import PluginSnapshot, Snapshot

_PLUGIN = ["plugin"]


def exposition(snapshot: Snapshot, accept: str) -> tuple[str, bytes]:
    """The metrics as a scraper accepts them: the media type, and the text.

    Args:
        snapshot: the program.
        accept: the request's `Accept`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_OfSnapshot(snapshot))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    encode, media_type = choose_encoder(accept)
    return media_type, encode(registry)


class _OfSnapshot(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        return families(self._snapshot)


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every metric of Trivet's own."""
    yield InfoMetricFamily(
        "trivet",
        "The service's name, and the version of Trivet.",
        {"service": snapshot.service, "version": snapshot.version},
    )
    yield GaugeMetricFamily("trivet_ready", "Whether /readyz answers 200.", snapshot.is_ready)
    yield from _of_plugins(snapshot.plugins)
    yield from _of_inboxes([each for each in snapshot.plugins if each.inbox is not None])
    yield from _of_latencies(snapshot.plugins)
    yield from _of_the_loop(snapshot)
    unrouted = CounterMetricFamily(
        "trivet_unrouted_events", "Events that no plugin listened to.", labels=["event"]
    )
    for event, count in snapshot.unrouted.items():
        unrouted.add_metric([event], count)
    yield unrouted
    yield CounterMetricFamily(
        "trivet_log_lost_lines", "Lines of the log that could not be written.", snapshot.lost_lines
    )
    if snapshot.store_bytes is not None:
        yield from _of_the_store(snapshot, snapshot.store_bytes)
    yield from families_of_http(snapshot.traffic)


def _of_plugins(plugins: list[PluginSnapshot]) -> Iterator[Metric]:
    status = StateSetMetricFamily(
        "trivet_plugin_status", "The status of a plugin: 1 for the one that it has.", labels=_PLUGIN
    )
    for each in plugins:
        status.add_metric([each.name], {known.value: known is each.status for known in Status})
    yield status
    yield _gauge(
        "trivet_plugin_up",
        "Whether a plugin is running or degraded.",
        {each.name: each.status.is_up for each in plugins},
    )
    yield _gauge(
        "trivet_plugin_critical",
        "Whether the program ends when the plugin is given up.",
        {each.name: each.critical for each in plugins},
    )
    yield _gauge(
        "trivet_plugin_status_since_timestamp_seconds",
        "When the status of a plugin last changed.",
        {each.name: each.since for each in plugins},
    )
    yield _counter(
        "trivet_plugin_restarts",
        "Restarts of a plugin; a replacement by a reload, or by a change of its settings, is none.",
        {each.name: each.restarts for each in plugins},
    )


def _of_inboxes(plugins: list[PluginSnapshot]) -> Iterator[Metric]:
    inboxes = {each.name: each.inbox for each in plugins if each.inbox is not None}
    inside = GaugeMetricFamily(
        "trivet_inbox_events",
        "Events in an inbox, by their state: queued, in_flight or backing_off.",
        labels=["plugin", "state"],
    )
    for name, inbox in inboxes.items():
        for state in ("queued", "in_flight", "backing_off"):
            inside.add_metric([name, state], attrgetter(state)(inbox))
    yield inside
    yield _gauge(
        "trivet_inbox_bytes",
        "Memory of the events from outside in an inbox.",
        {name: inbox.bytes for name, inbox in inboxes.items()},
    )
    yield _gauge(
        "trivet_inbox_oldest_event_timestamp_seconds",
        "When the oldest event in memory was published; none where the inbox is empty.",
        {each.name: each.oldest for each in plugins if each.oldest is not None},
    )
    yield _counter(
        "trivet_inbox_accepted_events",
        "Events that an inbox has accepted.",
        {name: inbox.accepted for name, inbox in inboxes.items()},
    )
    ended = CounterMetricFamily(
        "trivet_inbox_ended_events",
        "Events that have ended, or were refused, by their fate.",
        labels=["plugin", "fate"],
    )
    for name, inbox in inboxes.items():
        for fate, counter in COUNTERS.items():
            ended.add_metric([name, fate.value], attrgetter(counter)(inbox))
    yield ended
    yield _counter(
        "trivet_inbox_failed_attempts",
        "Attempts that failed, and are followed by another.",
        {name: inbox.retried for name, inbox in inboxes.items()},
    )
    yield _counter(
        "trivet_inbox_timed_out_attempts",
        "Attempts that took longer than their time limit.",
        {name: inbox.timed_out for name, inbox in inboxes.items()},
    )


def _of_latencies(plugins: list[PluginSnapshot]) -> Iterator[Metric]:
    waits = HistogramMetricFamily(
        "trivet_event_wait_seconds",
        "Time from the acceptance of an event until the plugin gets it, or its batch.",
        labels=["plugin", "event"],
    )
    attempts = HistogramMetricFamily(
        "trivet_event_attempt_seconds",
        "Time of each attempt: from then until the plugin asks for the next event, or fails.",
        labels=["plugin", "event"],
    )
    for each in plugins:
        if each.latencies is not None:
            for event, found in each.latencies.waiting.items():
                add_histogram(waits, [each.name, event], found)
            for event, found in each.latencies.handling.items():
                add_histogram(attempts, [each.name, event], found)
    yield waits
    yield attempts


def _of_the_loop(snapshot: Snapshot) -> Iterator[Metric]:
    usage = {each.name: each.usage for each in snapshot.plugins if each.usage is not None}
    if snapshot.service_usage is not None:
        usage[SERVICE] = snapshot.service_usage
    yield _counter(
        "trivet_loop_busy_seconds",
        f"Time for which a plugin held the event loop; the plugin {SERVICE} is Trivet itself.",
        {name: each.busy for name, each in usage.items()},
    )
    yield _counter(
        "trivet_loop_cpu_seconds",
        "Processor time of a plugin on the event loop, by an estimate.",
        {name: each.cpu for name, each in usage.items()},
    )
    yield _counter(
        "trivet_loop_stalls",
        "Times that a plugin held the event loop for longer than [stalls] warn.",
        {name: each.stalls for name, each in usage.items()},
    )
    yield _counter(
        "trivet_loop_stalled_seconds",
        "Time of these stalls.",
        {name: each.stalled for name, each in usage.items()},
    )
    yield _gauge(
        "trivet_loop_longest_step_seconds",
        "The longest time for which a plugin held the event loop at once.",
        {name: each.longest for name, each in usage.items()},
    )


def _of_the_store(snapshot: Snapshot, taken: int) -> Iterator[Metric]:
    yield GaugeMetricFamily("trivet_store_bytes", "Bytes that the events in the store take.", taken)
    yield GaugeMetricFamily(
        "trivet_store_failing", "Whether events cannot be stored.", snapshot.store_fails
    )
    yield GaugeMetricFamily(
        "trivet_store_near_limit",
        "Whether the store is near [store] max_bytes.",
        snapshot.store_is_near_limit,
    )
    yield CounterMetricFamily(
        "trivet_store_commits", "Transactions that were written.", snapshot.store_commits
    )
    yield GaugeMetricFamily(
        "trivet_store_waiting",
        "Events, and ends of events, that wait to be written.",
        snapshot.store_waiting,
    )


def _by_plugin(
    family: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    about: str,
    values: dict[str, float],
) -> Metric:
    """A metric with one value for each plugin."""
    made = family(name, about, labels=_PLUGIN)
    for plugin, value in values.items():
        made.add_metric([plugin], value)
    return made


_gauge = partial(_by_plugin, GaugeMetricFamily)
_counter = partial(_by_plugin, CounterMetricFamily)
