"""The rates of the last quarter of an hour, for the page's small curves.

Owns how rates are made of counters, and how many of them are kept: 1.4 KiB for each plugin.
Never knows who looks at them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping

import attrs
import trio

from ..._inbox._counts import InboxStatistics
from ..._inbox._histogram import Distribution
from ..._loop._usage import Usage
from ..._plugins._event_plugins import BatchPlugin
from ..._runtime import Runtime

EVERY = 10.0
"""Seconds between two samples."""
KEPT = 90
"""Samples that are kept: a quarter of an hour."""
NAMES = ("in", "out", "waiting", "busy")
"""The curves of one plugin, in the order of `Rates`."""


@attrs.frozen
class Rates:
    """The use of one plugin since the last look."""

    came: float
    """Events that its inbox took in, per second."""
    ended: float
    """Events that came to an end, per second."""
    waiting: int
    """Events in the inbox now: queued, in flight, or backing off."""
    busy: float
    """Share of the time in which it held the event loop, from 0 to 1."""


class Pace:
    """The counters at the last look, from which the rates at the next one are made."""

    def __init__(self) -> None:
        self._before: Mapping[str, tuple[int, int, float]] = {}
        self._at = -math.inf

    def rates(self, inboxes: Mapping[str, InboxStatistics], runtime: Runtime) -> dict[str, Rates]:
        """The rates of each plugin since the last call; zero for a plugin that was not there.

        Args:
            inboxes: the statistics of the inboxes now.
            runtime: the program.
        """
        now = trio.current_time()
        seconds, self._at = max(now - self._at, 1e-3), now  # Infinite before the first call.
        usage = runtime.usage()
        counted = {name: _counters(inboxes.get(name), usage.get(name)) for name in runtime.hosts}
        before, self._before = self._before, counted
        rates: dict[str, Rates] = {}
        for name, (came, ended, busy) in counted.items():
            was = before.get(name, counted[name])
            rates[name] = Rates(
                max(0, came - was[0]) / seconds,
                max(0, ended - was[1]) / seconds,
                came - ended,
                max(0.0, busy - was[2]) / seconds,
            )
        return rates


def _counters(inbox: InboxStatistics | None, usage: Usage | None) -> tuple[int, int, float]:
    """Events that came in, events that have ended, and seconds of the event loop."""
    busy = 0.0 if usage is None else usage.busy
    if inbox is None:
        return 0, 0, busy
    inside = inbox.queued + inbox.in_flight + inbox.backing_off
    return inbox.accepted, inbox.accepted - inside, busy


class Series:
    """The samples of a program's plugins."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._pace = Pace()
        self._curves: dict[str, tuple[array[float], ...]] = {}
        self._due = -math.inf
        self.number: int = 0
        """The number of samples so far."""
        self.last: Mapping[str, Rates] = {}
        """The last sample."""
        self.latencies: Mapping[str, tuple[float, float]] = {}
        """Seconds in which half of the attempts, and 99 percent of them, have ended since the
        sample before; without the plugins that have handled nothing."""
        self.handling: Mapping[str, float] = {}
        """The share of that time in which the handlers of a plugin were handling, from 0 to 1;
        without the plugins that take batches."""
        self.dropping: Mapping[str, float] = {}
        """The events that each inbox has dropped for want of room since the sample before, per
        second; without the inboxes that have dropped none."""
        self._dropped: Mapping[str, int] = {}
        self._handled: Mapping[str, Distribution] = {}

    async def keep(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.sample()
            await trio.sleep_until(self._due)

    def sample(self) -> None:
        """Take a sample if it is time for one."""
        now = trio.current_time()
        if now < self._due:
            return
        # Where nobody has kept the samples, the mean stands for all that are missing.
        missed = 1 if self.number == 0 else 1 + min(int((now - self._due) / EVERY), KEPT)
        self._due = now + EVERY
        inboxes = self._runtime.statistics()
        self.last = self._pace.rates(inboxes, self._runtime)
        before, self._dropped = (
            self._dropped,
            {name: each.dropped for name, each in inboxes.items()},
        )
        self.dropping = {
            name: (dropped - before[name]) / (missed * EVERY)
            for name, dropped in self._dropped.items()
            if dropped > before.get(name, dropped)
        }
        self._look_at_latencies()
        self.number += missed
        for _ in range(missed):
            self._add(self.last)

    def _look_at_latencies(self) -> None:
        before, handled = (
            self._handled,
            {
                name: Distribution.merged(found.handling.values())
                for name, found in self._runtime.latencies().items()
            },
        )
        lately = {
            name: since
            for name, now in handled.items()
            if (since := now.since(before.get(name, Distribution()))).total
        }
        self.latencies = {
            name: (median, slow)
            for name, since in lately.items()
            if (median := since.quantile(0.5)) is not None
            and (slow := since.quantile(0.99)) is not None
        }
        self._handled = handled
        self.handling = {
            name: self._share(name, since.seconds / since.total)
            for name, since in lately.items()
            if name in self.last and not self._takes_batches(name)
        }

    def _share(self, name: str, each: float) -> float:
        """The share of the time that events take of a plugin's handlers, if each takes so long."""
        # Not each event is timed, and each is counted.
        handlers = self._runtime.hosting.inboxes[name].policy.concurrency
        return min(1.0, each * self.last[name].ended / handlers)

    def _takes_batches(self, name: str) -> bool:
        return isinstance(self._runtime.hosts[name].plugin, BatchPlugin)

    def _add(self, sample: Mapping[str, Rates]) -> None:
        for name in self._curves.keys() - sample.keys():
            del self._curves[name]
        for name, rates in sample.items():
            curves = self._curves.get(name)
            if curves is None:
                curves = self._curves[name] = tuple(array("f", bytes(4 * KEPT)) for _ in NAMES)
            for curve, value in zip(curves, attrs.astuple(rates), strict=True):
                del curve[0]
                curve.append(value)

    def described(self) -> dict[str, dict[str, list[float]]]:
        """The curves by plugin and name, the earliest sample first; those of zeros are left out."""
        return {
            name: {
                kind: [short(value) for value in curve]
                for kind, curve in zip(NAMES, curves, strict=True)
                if any(curve)
            }
            for name, curves in self._curves.items()
        }

    def described_last(self) -> dict[str, list[float]]:
        """The last sample by plugin, in the order of `NAMES`; those of zeros are left out."""
        values = {name: _short_all(attrs.astuple(rates)) for name, rates in self.last.items()}
        return {name: sample for name, sample in values.items() if any(sample)}


def _short_all(values: Iterable[float]) -> list[float]:
    return [short(value) for value in values]


def short(value: float) -> float:
    """The value with three digits that count, as it is drawn.

    >>> short(1234.5), short(0.0123456), short(2.0)
    (1230, 0.0123, 2)
    """
    rounded = float(f"{value:.3g}")
    return int(rounded) if rounded.is_integer() else rounded
