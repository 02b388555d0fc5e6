"""Measurements in pairs, so that changes of the machine's speed do not decide.

Owns the order of the rounds, the ratios, and the table's form: on the screen, and as JSON in
`build/bench/`.
Never knows the measurements.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import quantiles
from typing import TypeVar

import attrs
import trio

QUICK = "--quick" in sys.argv
"""Whether a rough figure will do."""
RESULTS = Path("build/bench")
"""The directory of the JSON files."""

Measure = Callable[[], float]
"""Measures once; the more the better."""
T = TypeVar("T")


@attrs.frozen
class Quartiles:
    """The median of some figures, and their quartiles."""

    low: float
    median: float
    high: float
    count: int
    """The number of the figures."""

    @classmethod
    def of(cls, figures: list[float]) -> Quartiles:
        """The quartiles of these figures."""
        low, middle, high = quantiles(figures, n=4)
        return cls(low, middle, high, len(figures))

    def inverse(self) -> Quartiles:
        """The quartiles of the inverse figures, where less is better."""
        return Quartiles(1 / self.high, 1 / self.median, 1 / self.low, self.count)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f}; {self.count})"


def in_trio(measure: Callable[..., Awaitable[T]], *args: object) -> Callable[[], T]:
    """A measurement that runs each time in a Trio run of its own."""
    return lambda: trio.run(measure, *args)


def pairs(
    measure: Measure, beside: Measure, rounds: int | None = None
) -> tuple[Quartiles, Quartiles]:
    """Measure, and compare each figure with its neighbours: those just before and just after.

    Args:
        measure: the measurement in question.
        beside: the measurement to compare it with.
        rounds: the number of rounds; seven by default, or three for a rough figure.

    Returns:
        The quartiles of the figures, and those of the ratios.
    """
    rates: list[float] = []
    ratios: list[float] = []
    measure()  # The first time is never like the others.
    before = beside()
    for _ in range(rounds or (3 if QUICK else 7)):
        gc.collect()
        rate = measure()
        gc.collect()
        after = beside()
        rates.append(rate)
        ratios.append(2 * rate / (before + after))
        before = after
    return Quartiles.of(rates), Quartiles.of(ratios)


def file_of(title: str) -> Path:
    """The JSON file of the table with this title."""
    return RESULTS / f"{title.replace(' ', '-')}.json"


@attrs.frozen
class Row:
    """One measurement, as it is written to a file."""

    what: str
    figure: float
    unit: str
    beside: str
    aim: str
    ratio: Quartiles | None
    is_rough: bool = QUICK

    @property
    def cells(self) -> tuple[object, ...]:
        """The row of a table in Markdown."""
        figure = f"{self.figure:,.0f}" if self.figure >= 100 else f"{self.figure:.3g}"
        return self.what, figure, self.beside, self.ratio or "", self.aim


def head(title: str, unit: str) -> list[str]:
    """The first two lines of a table in Markdown."""
    cells = (title, unit, "beside", "ratio (quartiles; pairs)", "aim")
    return [line(*cells), line(*["---"] * len(cells))]


def line(*cells: object) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |\n"


class Table:
    """Rows of figures, printed as they are found.

    Args:
        title: what they are about; the JSON's name too.
        unit: of the figures.
    """

    def __init__(self, title: str, unit: str) -> None:
        self._path = file_of(title)
        self._rows: list[Row] = []
        self._head = head(title, unit)
        self._unit = unit

    def row(
        self, what: str, figure: float, beside: str, ratio: Quartiles | None, aim: str = ""
    ) -> None:
        """One figure beside another.

        Args:
            what: what was measured.
            figure: how much it is.
            beside: what was measured in turns with it.
            ratio: of the two; greater is better, unless `aim` says "≤". None where the figure
                counts by itself.
            aim: what the ratio should be, or the figure where there is none.
        """
        row = Row(what, figure, self._unit, beside, aim, ratio)
        if _printed[-1:] != [self]:  # Where rows of two tables take turns, each begins anew.
            _printed[:] = [self]
            _print("\n", *self._head)
        _print(line(*row.cells))
        self._rows.append(row)
        RESULTS.mkdir(parents=True, exist_ok=True)
        rows = [attrs.asdict(each) for each in self._rows]
        self._path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


_printed: list[Table] = []
"""The table whose row was printed last."""


def _print(*lines: str) -> None:
    sys.stdout.writelines(lines)
    sys.stdout.flush()
