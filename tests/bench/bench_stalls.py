"""The cost of the stall watch for each step of a task.

    python tests/bench/bench_stalls.py [--quick]

Two tasks take turns, with Trivet's instrument in the loop. Beside it, in turns: the loop without
any instrument, and with one whose two hooks do nothing.
"""

from __future__ import annotations

from time import perf_counter

import trio
from pairs import QUICK, Table, in_trio, pairs

from trivet._loop._meter import StallMeter

STEPS = 20_000 if QUICK else 100_000


class Bare(trio.abc.Instrument):
    """Two hooks that do nothing."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Do nothing."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Do nothing."""


async def take_turns() -> None:
    """Make half of the steps."""
    for _ in range(STEPS // 2):
        await trio.lowlevel.cancel_shielded_checkpoint()


async def steps(*instruments: trio.abc.Instrument) -> float:
    """Steps a second."""
    for instrument in instruments:
        trio.lowlevel.add_instrument(instrument)
    began = perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        nursery.start_soon(take_turns)
    return STEPS / (perf_counter() - began)


async def watched() -> float:
    """Steps a second, with Trivet's instrument."""
    return await steps(StallMeter(threshold=0.05))


def main() -> None:
    """Measure, and print the table."""
    table = Table("a step of a task", "µs")
    for beside, bare, aim in (
        ("no instrument", in_trio(steps), "≤ 2"),
        ("two bare hooks", in_trio(steps, Bare()), "≤ 1.5"),
    ):
        rate, ratio = pairs(in_trio(watched), bare)
        took, ratio = 1e6 / rate.median, ratio.inverse()
        table.row("under the stall watch", took, beside, ratio, aim)
        table.row("of that the watch's", took - took / ratio.median, beside, None)


if __name__ == "__main__":
    main()
