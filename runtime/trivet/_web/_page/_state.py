"""The state of a program as the page shows it: one JSON document.

Owns which facts are in it. A fact that does not apply is left out, and none of them is null: null
says in a difference that a fact is gone.
Never knows who reads it. It has what `GET /plugins` has: no secret, no error text, no payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import attrs

from ..._events._delivery import utc_now
from ..._inbox._counts import InboxStatistics
from ..._loop._usage import Usage
from ..._runtime import Runtime
from ..._supervision._host import Host
from .._probes import describe_log, describe_store, kind_of, readiness
from .._problems import ProblemError
from ._advice import advice
from ._series import Pace, Rates, Series, short

LATELY = timedelta(minutes=5)
"""The time in which starts are counted, to tell a crash loop."""
STALL_SHOWN = 900.0
"""Seconds for which the page names a plugin that has held the event loop."""


class States:
    """Makes the state, again and again.

    Args:
        runtime: the program.
        series: its samples, of which the last has the latencies.
    """

    def __init__(self, runtime: Runtime, series: Series) -> None:
        self._runtime = runtime
        self._series = series
        self._pace = Pace()
        self._began = utc_now().timestamp()
        self._stalls: dict[str, int] = {}
        self._stalled: dict[str, float] = {}

    def make(self) -> dict[str, Any]:
        """The state now; rates are those since the last call."""
        runtime, at = self._runtime, utc_now().timestamp()
        inboxes, oldest, durable = runtime.statistics(), runtime.oldest_events(), runtime.durable
        rates, usage = self._pace.rates(inboxes, runtime), runtime.usage()
        plugins: dict[str, dict[str, Any]] = {}
        for name, host in runtime.hosts.items():
            facts = self._of_host(host, usage.get(name), at) | {"busy": short(rates[name].busy)}
            if name in inboxes:
                facts |= self._of_inbox(name, inboxes[name], rates[name])
                facts |= {"oldest": oldest.get(name), "durable": name in durable or None}
            plugins[name] = without_none(facts)
        status, reasons = _readiness(runtime)
        state: dict[str, Any] = {
            "service": runtime.service,
            "version": version("trivet"),
            "since": round(self._began, 1),
            "at": round(at, 1),
            "status": status,
            "reasons": reasons,
            "busy": short(sum(each.busy for each in rates.values())),
            "unrouted": dict(runtime.unrouted),
            "log": without_none(describe_log()),
            "plugins": plugins,
        }
        store = describe_store(runtime)
        if store is not None:
            state["store"] = without_none({**store, "path": None})  # Where it is, is no matter.
        if runtime.program.settings.insecure:
            state["insecure"] = True
        state["advice"] = [without_none(attrs.asdict(each)) for each in advice(state)]
        return state

    def _of_host(self, host: Host, usage: Usage | None, at: float) -> dict[str, Any]:
        starts = self._runtime.history.starts_since(host.name, utc_now() - LATELY)
        return {
            "class": type(host.plugin).__qualname__,
            "status": host.status,
            "since": round(host.since.timestamp(), 1),
            "restarts": host.restarts,
            "critical": host.critical or None,
            "paused": host.is_paused or None,
            "error": _error(host, starts),
            "trouble": host.trouble,
            "remedy": host.remedy,
            "waits_for": host.waits_for.name if host.waits_for else None,
            "starts": starts or None,
            "longest": None if usage is None else short(usage.longest),
            "stalled": None if usage is None else self._stall(host.name, usage.stalls, at),
        }

    def _of_inbox(self, name: str, inbox: InboxStatistics, rates: Rates) -> dict[str, Any]:
        median, slow = self._series.latencies.get(name, (None, None))
        return {
            "in": short(rates.came),
            "out": short(rates.ended),
            "queued": inbox.queued,
            "in_flight": inbox.in_flight,
            "backing_off": inbox.backing_off,
            "failed": inbox.failed,
            "dead_lettered": inbox.dead_lettered,
            "handled": inbox.handled,
            "room": self._runtime.hosting.inboxes[name].policy.buffer,
            "p50": None if median is None else short(median),
            "p99": None if slow is None else short(slow),
            "handling": short(self._series.handling.get(name, 0.0)) or None,
            "dropping": short(self._series.dropping.get(name, 0.0)) or None,
            "dropped": inbox.dropped or None,
        }

    def _stall(self, name: str, stalls: int, at: float) -> float | None:
        """The moment of the plugin's last stall as it was seen here; None for none lately."""
        if stalls > self._stalls.get(name, 0):
            self._stalled[name] = round(at, 1)
        self._stalls[name] = stalls
        last = self._stalled.get(name, 0.0)
        return last if at - last < STALL_SHOWN else None


def _error(host: Host, starts: int) -> str | None:
    """The class of the last error while it matters; its text may hold a secret."""
    if host.failure is None or (host.is_up and not starts):
        return None
    return kind_of(host.failure)


def _readiness(runtime: Runtime) -> tuple[str, list[str]]:
    """The status of the service, and the reasons why it is not ready."""
    if runtime.stopping.is_set():
        return "stopping", []
    try:
        return str(readiness(runtime)["status"]), []
    except ProblemError as problem:
        return "not_ready", problem.detail.split("; ")


def without_none(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that apply."""
    return {name: value for name, value in facts.items() if value is not None}
