"""The cost of a thousand idle plugins for a busy one: processor time for each of its events.

    python tests/bench/bench_idle.py [--quick]

One plugin gets events at a tenth of the rate that it could take, in bursts every ten milliseconds,
in a program with a thousand others that listen to another event; beside it the same in a program
without them. Both run all the time, and measure in turns. All is in the default settings, with the
stall watch; its thread's time counts, too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter, process_time

import structlog
import trio
from pairs import QUICK, Measure, Table, pairs

from trivet import Event, EventPlugin, Plugin, Runtime, Settings, open_runtime

IDLE = 1000
PERIOD = 0.01
"""Seconds from one burst to the next."""
BURSTS = 10
"""In one round."""
THIS_PROGRAM = "--program"
"""The argument of a process with one of the programs, followed by the number of idle plugins and
that of the events in a burst."""


class Ping(Event):
    """The event that is published."""

    number: int


class Other(Event):
    """The event that is never published."""


class Busy(EventPlugin[Ping]):
    """Handles events by doing nothing."""

    async def handle_event(self, event: Ping) -> None:
        """Do nothing."""


class Idle(EventPlugin[Other]):
    """Listens to an event that never comes."""

    async def handle_event(self, event: Other) -> None:
        """Do nothing."""


async def publish(runtime: Runtime, events: int) -> None:
    """Publish a number of events."""
    for number in range(events):
        await runtime.publish(Ping(number))


async def capacity() -> float:
    """Events a second, at most."""
    async with open_runtime(Settings(), plugins=[Busy]) as runtime:
        began = perf_counter()
        await publish(runtime, 20_000)
        return 20_000 / (perf_counter() - began)


async def program(idle: int, burst: int) -> None:
    """Measure once for each line of input, and answer with a line."""
    plugins: list[type[Plugin]] = [type(f"Idle{number}", (Idle,), {}) for number in range(idle)]
    async with open_runtime(Settings(), plugins=[Busy, *plugins]) as runtime:
        while await trio.to_thread.run_sync(sys.stdin.readline):
            sys.stdout.write(f"{await thrift(runtime, burst)}\n")
            sys.stdout.flush()


async def thrift(runtime: Runtime, burst: int) -> float:
    """Events for each second of processor time."""
    began, next_burst = process_time(), trio.current_time()
    for _ in range(BURSTS):
        await publish(runtime, burst)
        next_burst += PERIOD
        await trio.sleep_until(next_burst)
    return BURSTS * burst / (process_time() - began)


@contextmanager
def running(idle: int, burst: int) -> Generator[Measure]:
    """Run a program in a process of its own."""
    command = [sys.executable, __file__, THIS_PROGRAM, str(idle), str(burst)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None
        assert told is not None

        def measure() -> float:
            asked.write("\n")
            asked.flush()
            return float(told.readline())

        yield measure


def main() -> None:
    """Measure, and print the table."""
    table = Table("beside a thousand idle plugins", "µs of processor time an event")
    burst = round(trio.run(capacity) * PERIOD / 10)
    with running(IDLE, burst) as ours, running(0, burst) as beside:
        figure, ratio = pairs(ours, beside, rounds=30 if QUICK else 100)
    what = f"one plugin, {burst} events every {PERIOD * 1000:.0f} ms"
    table.row(what, 1e6 / figure.median, "the same without the idle", ratio.inverse(), "≤ 1.1")


if __name__ == "__main__":
    # Errors only: while a thousand plugins start, the garbage collector holds the loop for longer
    # than the watch lets pass.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(40),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if THIS_PROGRAM in sys.argv:
        trio.run(program, int(sys.argv[-2]), int(sys.argv[-1]))
    else:
        main()
