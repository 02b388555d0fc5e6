"""Measurements in pairs, so that a machine that is now fast and now slow does not decide.

Owns the order of the rounds, the ratios, and the table's form.
Never knows what is measured.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable
from statistics import quantiles

import attrs

QUICK = "--quick" in sys.argv
"""Whether a rough figure will do."""

Measure = Callable[[], Awaitable[float]]
"""Measures once; the more the better."""


@attrs.frozen
class Quartiles:
    """The middle of some figures, and where half of them lie."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, figures: list[float]) -> Quartiles:
        """Of these."""
        return cls(*quantiles(figures, n=4))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


async def pairs(
    measure: Measure, beside: Measure, rounds: int | None = None
) -> tuple[Quartiles, Quartiles]:
    """What is measured, and its ratio to what was measured just before and just after.

    Args:
        measure: what it is about.
        beside: what to compare it with.
        rounds: how often; seven times by default, or three where a rough figure will do.
    """
    rates: list[float] = []
    ratios: list[float] = []
    await measure()  # The first time is never like the others.
    before = await beside()
    for _ in range(rounds or (3 if QUICK else 7)):
        gc.collect()
        rate = await measure()
        gc.collect()
        after = await beside()
        rates.append(rate)
        ratios.append(2 * rate / (before + after))
        before = after
    return Quartiles.of(rates), Quartiles.of(ratios)


def head(*cells: str) -> None:
    """The first lines of a table."""
    line(*cells)
    line(*["---"] * len(cells))


def line(*cells: object) -> None:
    """One line of a table."""
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
    sys.stdout.flush()
