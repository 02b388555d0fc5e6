"""How long the events of one inbox wait, and how long each attempt takes.

Owns the two histograms of each event type, and which of the events are timed.
Never knows the loops that hand events out: these say how long an attempt took.

An attempt lasts from the moment at which its event is handed out until the next one is asked for,
or the handler has ended otherwise. Every attempt is timed, except on the fast path: there one of
`TIMED_EVERY` stands for the others. Besides, one that begins `PAUSE` seconds after the last of that
kind is timed for itself, so that a plugin with few events need not wait for the next of the many.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from time import time as wall_time

import attrs

from .._events._delivery import Delivery
from .._events._event import Event
from ._histogram import BOUNDS, Distribution, Histogram

TIMED_EVERY = 128
"""Events of the fast path of which one is timed. To time one takes as long as to deliver two."""
PAUSE = 0.01
"""Seconds after which the next event of the fast path is timed, however few there were."""


class Sampling:
    """The choice of the events that one reader times, and for how many each of them stands."""

    __slots__ = ("_besides", "again")

    def __init__(self) -> None:
        self.again: float = -math.inf
        """The moment from which on the next event is timed in any case, by the reader's clock."""
        self._besides = 0

    def for_others(self) -> int:
        """Time the next event, after so many; returns the number of events for which it stands."""
        weight, self._besides = TIMED_EVERY - self._besides, 0
        return weight

    def for_itself(self, now: float) -> int:
        """Time the next event, which begins now and stands for no other; returns 1."""
        self._besides += self._besides < TIMED_EVERY - 1
        self.again = now + PAUSE
        return 1


@attrs.frozen
class LatencyStatistics:
    """The latencies of one inbox at one instant, by the name of the event type."""

    waiting: Mapping[str, Distribution]
    """Seconds from the acceptance of an event to the moment at which it is handed out first."""
    handling: Mapping[str, Distribution]
    """Seconds of each attempt; of a batch, for each of its events."""


class Latencies:
    """The latencies of one inbox."""

    __slots__ = ("_by_event",)

    def __init__(self) -> None:
        self._by_event: defaultdict[str, tuple[Histogram, Histogram]] = defaultdict(
            lambda: (Histogram(), Histogram())
        )

    def add(self, delivery: Delivery[Event], took: float, weight: int = 1) -> None:
        """Count an attempt that ends now.

        Args:
            delivery: its event.
            took: seconds since the event was handed out.
            weight: the number of events for which this one stands.
        """
        waiting, handling = self._by_event[delivery.event.__event_name__]
        # As `Histogram.add`, without its calls.
        handling.counts[bisect_left(BOUNDS, took)] += weight
        handling.seconds += took * weight
        if delivery.attempt == 1:
            waited = wall_time() - took - delivery.published
            waiting.counts[bisect_left(BOUNDS, waited)] += weight
            if waited > 0.0:
                waiting.seconds += waited * weight
        if (traceparent := delivery.origin.traceparent) is not None:
            handling.exemplify(took, traceparent)

    def add_batch(
        self, deliveries: Sequence[Delivery[Event]], took: float, *, every: int = 1
    ) -> None:
        """Count an attempt at several events that ends now.

        Args:
            deliveries: its events.
            took: seconds since they were handed out.
            every: the number of events of which one is counted, and stands for the others.
        """
        count = len(deliveries)
        # The first event of a batch has waited longest: the one in the middle stands for the rest.
        for first in range(0, count, every):
            weight = min(every, count - first)
            self.add(deliveries[first + weight // 2], took, weight)

    def statistics(self) -> LatencyStatistics:
        """The latencies now."""
        return LatencyStatistics(
            {name: waiting.distribution() for name, (waiting, _) in self._by_event.items()},
            {name: handling.distribution() for name, (_, handling) in self._by_event.items()},
        )
