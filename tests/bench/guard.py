"""The guard of speed: the ratios of quick runs, compared with the committed ones.

    python tests/bench/guard.py              # compare; the exit code is 1 where a row has lost
    python tests/bench/guard.py --commit     # write `committed.json`: medians of five runs
    python tests/bench/guard.py --scatter 10

`GUARDED` names the guarded tables: computations of one process, as ratios, so that another machine
finds about the same. Tables that wait for a disk, a socket, a clock or another process are left
out. A change that means to change a ratio writes `committed.json` anew.

A row has lost when more than a third of the committed ratio is gone: where more is better, less
than two thirds of it is left; where less is better, it is more than one and a half times as much.
The script of such a row runs again, up to twice, and its best run counts.

Noise alone may cost one run a third: `--scatter 10` runs everything ten times, and prints for each
row the distance of the worst run from the median. On two cores with other users these were 2 to
16 %, and once, where a collection of garbage fell into the time, 32 %. So noise has to hit the same
row three times, whereas a slower row is slow each time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

import attrs
import msgspec
from pairs import Row, file_of

HERE = Path(__file__).parent
COMMITTED = HERE / "committed.json"
GUARDED = {
    "bench_delivery.py": ("delivery in memory", "more than a plain event"),
    "bench_events.py": ("making an event",),
    "bench_decode.py": ("decoding JSON",),
    "bench_lifecycle.py": ("a thousand plugins",),
    "bench_stalls.py": ("a step of a task",),
}
"""The tables that are watched, by the script that measures them."""
MAY_LOSE = 1 / 3
AGAIN = 2
"""How often a script is run once more before a row of it counts as lost."""
RUNS_TO_COMMIT = 5

Ratios = dict[str, float]
"""Ratios by row: the more the better, whatever the table shows."""


@attrs.frozen
class Verdict:
    """One row's ratio, committed and now."""

    row: str
    committed: float | None
    now: float | None

    @property
    def lost(self) -> float:
        """The part of the committed ratio that is lost; negative if the ratio has improved."""
        if self.committed is None or self.now is None:
            return 0.0
        return 1 - self.now / self.committed

    @property
    def word(self) -> str:
        """The verdict in a word, for the table."""
        if self.now is None:
            return "GONE"
        if self.committed is None:
            return "new"
        return "LOST" if self.lost > MAY_LOSE else "ok"

    @property
    def is_bad(self) -> bool:
        """Whether the guard fails by this row."""
        return self.word in ("LOST", "GONE")


def measure(script: str) -> Ratios:
    """Run a script in its quick form, and read the guarded tables."""
    for title in GUARDED[script]:
        file_of(title).unlink(missing_ok=True)
    command = [sys.executable, str(HERE / script), "--quick"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: Ratios = {}
    for title in GUARDED[script]:
        for row in msgspec.json.decode(file_of(title).read_bytes(), type=list[Row]):
            if row.ratio is not None:
                ratio = row.ratio.median
                name = f"{title}: {row.what}, beside {row.beside}"
                found[name] = 1 / ratio if row.aim.startswith("≤") else ratio
    return found


def measure_all(runs: int) -> dict[str, list[float]]:
    """Run every script a number of times."""
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        for script in GUARDED:
            for row, ratio in measure(script).items():
                found.setdefault(row, []).append(ratio)
    return found


def compare(committed: Ratios, now: Ratios) -> list[Verdict]:
    """Compare the rows of both, including rows that only one has."""
    rows = dict.fromkeys([*now, *committed])
    return [Verdict(row, committed.get(row), now.get(row)) for row in rows]


def guard(committed: Ratios) -> list[Verdict]:
    """Measure; a row that has lost is measured again before it counts."""
    verdicts: list[Verdict] = []
    for script, titles in GUARDED.items():
        known = {row: committed[row] for row in committed if row.startswith(titles)}
        best = measure(script)
        for _ in range(AGAIN):
            if not any(verdict.lost > MAY_LOSE for verdict in compare(known, best)):
                break
            again = measure(script)
            best = {row: max(best[row], again[row]) for row in best}
        verdicts += compare(known, best)
    return verdicts


def write_table(*rows: tuple[str, ...]) -> None:
    """Print rows, of which the first is the head."""
    head, *body = rows
    for row in (head, ("---",) * len(head), *body):
        sys.stdout.write(f"| {' | '.join(row)} |\n")


def show(verdicts: list[Verdict]) -> None:
    """Print the verdicts."""

    def number(ratio: float | None) -> str:
        return "" if ratio is None else f"{ratio:.3g}"

    rows = [
        (each.row, number(each.committed), number(each.now), f"{each.lost:.0%}", each.word)
        for each in verdicts
    ]
    write_table(("ratio: the more the better", "committed", "now", "lost", "verdict"), *rows)


def show_scatter(found: dict[str, list[float]]) -> None:
    """Print the scatter of the runs."""
    rows: list[tuple[str, ...]] = []
    for row, ratios in found.items():
        middle, worst, best = median(ratios), min(ratios), max(ratios)
        lost = f"{1 - worst / middle:.0%}"
        rows.append((row, f"{middle:.3g}", f"{worst:.3g}", lost, f"{best:.3g}"))
    head = ("ratio: the more the better", "median", "worst", "lost by the worst", "best")
    write_table(head, *rows)


def main() -> int:
    """Do as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="is what it always is")
    parser.add_argument("--commit", action="store_true")
    parser.add_argument("--scatter", type=int, metavar="RUNS")
    arguments = parser.parse_args()
    if arguments.scatter:
        show_scatter(measure_all(arguments.scatter))
    elif arguments.commit:
        found = measure_all(RUNS_TO_COMMIT)
        ratios = {row: round(median(each), 4) for row, each in found.items()}
        COMMITTED.write_bytes(msgspec.json.format(msgspec.json.encode(ratios), indent=1) + b"\n")
    else:
        verdicts = guard(msgspec.json.decode(COMMITTED.read_bytes(), type=Ratios))
        show(verdicts)
        return any(verdict.is_bad for verdict in verdicts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
