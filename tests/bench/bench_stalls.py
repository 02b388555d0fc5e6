"""What it costs to know who uses the event loop: microseconds for each step of a task.

    python tests/bench/bench_stalls.py

Two tasks take turns. Each round times the loop without an instrument, with one whose two hooks do
nothing, and with Trivet's, one after the other; the table has the medians of the rounds.
"""

from __future__ import annotations

import sys
from statistics import quantiles
from time import perf_counter

import trio

from trivet._supervision._stalls import StallMeter

STEPS, ROUNDS = 20_000, 15


class Bare(trio.abc.Instrument):
    """Two hooks that do nothing."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Do nothing."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Do nothing."""


async def take_turns() -> None:
    """Half of the steps."""
    for _ in range(STEPS // 2):
        await trio.lowlevel.cancel_shielded_checkpoint()


async def microseconds(instrument: trio.abc.Instrument | None) -> float:
    """For one step."""
    if instrument is not None:
        trio.lowlevel.add_instrument(instrument)
    began = perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        nursery.start_soon(take_turns)
    took = perf_counter() - began
    if instrument is not None:
        trio.lowlevel.remove_instrument(instrument)
    return took / STEPS * 1e6


async def main() -> None:
    """Measure, and print the table."""
    found: dict[str, list[float]] = {"no instrument": [], "two bare hooks": [], "Trivet's": []}
    for _ in range(ROUNDS):
        found["no instrument"].append(await microseconds(None))
        found["two bare hooks"].append(await microseconds(Bare()))
        found["Trivet's"].append(await microseconds(StallMeter(threshold=0.05)))
    bare = quantiles(found["no instrument"], n=4)[1]
    write = sys.stdout.write
    write("| one step of a task | µs (quartiles) | above no instrument |\n|---|---|---|\n")
    for name, times in found.items():
        low, median, high = quantiles(times, n=4)
        write(f"| {name} | {median:.2f} ({low:.2f} to {high:.2f}) | {median - bare:+.2f} |\n")


if __name__ == "__main__":
    trio.run(main)
