"""Durations, counted by buckets whose bounds double.

Owns the buckets, and the quantiles that follow from them.
Never knows what takes the time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from time import time as wall_time

import attrs

from .._events._delivery import sampled_trace_id

BOUNDS = tuple(2.0**exponent for exponent in range(-14, 9))
"""The upper bounds of the buckets, in seconds, from 61 µs to 256 s; the last bucket has none."""
_EMPTY = (0,) * (len(BOUNDS) + 1)


@attrs.frozen
class Exemplar:
    """One duration, and where to read about it."""

    trace_id: str
    seconds: float
    moment: float
    """The moment at which it was counted, in seconds since 1970."""


@attrs.frozen
class Distribution:
    """Some durations at one instant."""

    counts: tuple[int, ...] = _EMPTY
    """The durations in each bucket."""
    seconds: float = 0.0
    """Their sum."""
    exemplars: Mapping[int, Exemplar] = attrs.field(factory=dict[int, Exemplar], eq=False)
    """The last duration of each bucket that has a trace, by the number of the bucket."""

    @property
    def total(self) -> int:
        """The number of the durations."""
        return sum(self.counts)

    @property
    def cumulative(self) -> Iterator[tuple[float | None, int]]:
        """Each bucket's bound, None for the last, and the durations that are at most as long."""
        return zip((*BOUNDS, None), accumulate(self.counts), strict=True)

    def since(self, earlier: Distribution) -> Distribution:
        """The durations that have come since an earlier instant.

        They are all durations where the earlier ones are another histogram's: that of an inbox,
        say, which is gone, and whose name another inbox has.
        """
        counts = tuple(map(int.__sub__, self.counts, earlier.counts))
        if min(counts) < 0:
            return self
        return Distribution(counts, self.seconds - earlier.seconds)

    @classmethod
    def merged(cls, distributions: Iterable[Distribution]) -> Distribution:
        """The durations of several distributions."""
        counts, seconds = _EMPTY, 0.0
        for each in distributions:
            counts = tuple(map(int.__add__, counts, each.counts))
            seconds += each.seconds
        return cls(counts, seconds)

    def quantile(self, share: float) -> float | None:
        """Seconds in which a share of the durations ends; None where there are no durations.

        It is right to a factor of two, since within a bucket the durations count as evenly spread.
        Of more than 256 seconds it is known only that they are more: then the answer is 256.

        Args:
            share: from 0 to 1; 0.5 for the median.

        >>> histogram = Histogram()
        >>> for _ in range(99):
        ...     histogram.add(0.75)
        >>> histogram.add(100.0)
        >>> found = histogram.distribution()
        >>> [round(found.quantile(share) or 0.0, 3) for share in (0.5, 0.999)]
        [0.753, 121.6]
        >>> Distribution().quantile(0.5) is None
        True
        """
        total, before = self.total, 0
        if not total:
            return None
        rank = share * total
        for number, count in enumerate(self.counts[:-1]):
            if count and before + count >= rank:
                low = BOUNDS[number - 1] if number else 0.0
                return low + (BOUNDS[number] - low) * (rank - before) / count
            before += count
        return BOUNDS[-1]


class Histogram:
    """A distribution that grows."""

    __slots__ = ("counts", "exemplars", "seconds")

    def __init__(self) -> None:
        self.counts: list[int] = list(_EMPTY)
        """The durations in each bucket."""
        self.seconds: float = 0.0
        """Their sum."""
        self.exemplars: dict[int, Exemplar] = {}
        """See `Distribution`."""

    def add(self, seconds: float, weight: int = 1) -> None:
        """Count a duration.

        Args:
            seconds: the duration; less than nothing, as after a clock was set, counts as nothing.
            weight: the number of durations for which it stands.
        """
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(BOUNDS, seconds)] += weight
        self.seconds += seconds * weight

    def exemplify(self, seconds: float, traceparent: str) -> None:
        """Remember a duration, which was counted, if its trace is sampled.

        Args:
            seconds: the duration.
            traceparent: the W3C trace context, or another text of a client's.
        """
        trace_id = sampled_trace_id(traceparent)
        if trace_id is not None:
            number = bisect_left(BOUNDS, seconds)
            self.exemplars[number] = Exemplar(trace_id, max(seconds, 0.0), wall_time())

    def distribution(self) -> Distribution:
        """The durations now."""
        return Distribution(tuple(self.counts), self.seconds, dict(self.exemplars))
