"""Rates: how often a token is used, and how many events of a type come from outside.

Owns the account of one rate.
Never knows what is counted, nor what a client beyond a rate is answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import trio

ROUNDING = 1e-6
"""Seconds that sums of intervals may be wrong by."""


class Rate:
    """A limit per second, which may be used up within a moment: a leaky bucket.

    Several at once are let in together if one would be; they are paid for afterwards.

    Args:
        per_second: the number per second; below 1, one may come at once all the same.
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._ahead = max(0.0, 1.0 - self._interval)
        self._paid_until = -math.inf
        self.burst = max(1, int(per_second))
        """The number that may come at once."""

    def wait(self) -> float:
        """Seconds until one more may come; 0 for at once."""
        left = self._paid_until - self._ahead - trio.current_time()
        return left if left > ROUNDING else 0.0

    def take(self, count: int = 1) -> None:
        """Count what has come."""
        self._paid_until = max(self._paid_until, trio.current_time()) + count * self._interval


class EventRates:
    """The rates of event types, over all clients together.

    Args:
        per_second: events per second, by the type's name; other types have no limit.
    """

    def __init__(self, per_second: Mapping[str, float]) -> None:
        self._per_second: Mapping[str, float] = {}
        self._rates: dict[str, Rate] = {}
        self.replace(per_second)

    def replace(self, per_second: Mapping[str, float]) -> None:
        """Have these rates from now on; one that has not changed keeps its account."""
        known = self._per_second
        self._rates = {
            name: self._rates[name] if known.get(name) == rate else Rate(rate)
            for name, rate in per_second.items()
        }
        self._per_second = dict(per_second)

    def __bool__(self) -> bool:
        return bool(self._rates)

    def find(self, name: str) -> Rate | None:
        """The rate of a type; None for any number of events."""
        return self._rates.get(name)

    def burst(self, name: str) -> float:
        """Events of a type that may come at once; infinity for any number."""
        rate = self._rates.get(name)
        return math.inf if rate is None else rate.burst

    def take(self, counts: Mapping[str, int]) -> float:
        """Count events, unless one of their types has to wait.

        Args:
            counts: the numbers of events, by the type's name.

        Returns:
            Seconds to wait, after which to ask again; 0 if the events are counted.
        """
        rates = [
            (self._rates[name], count) for name, count in counts.items() if name in self._rates
        ]
        wait = max((rate.wait() for rate, _ in rates), default=0.0)
        if wait == 0:
            for rate, count in rates:
                rate.take(count)
        return wait
