"""The cost of starting, keeping and stopping a thousand plugins.

    python tests/bench/bench_lifecycle.py [--quick]

The plugins are background plugins that do nothing, in the default settings, with a log of errors
only; the time is that of `open_runtime`. Beside them, in turns: a thousand bare nurseries, each
with a task that sleeps, and each started before the next. Memory is the growth of a process that
starts a thousand of either.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import structlog
import trio
from pairs import Table, in_trio, pairs

from trivet import BackgroundPlugin, Event, EventPlugin, Plugin, open_runtime, route

PLUGINS = 1000
AT_MOST = 60.0
"""Seconds that a process may take."""

Then = Callable[[], None]
Many = Callable[[Then], Awaitable[None]]
"""Starts a thousand, calls back, and stops them."""


class Idle(BackgroundPlugin):
    """A plugin that does nothing; each of the thousand plugins has a subclass."""


def idle_plugins() -> list[type[Plugin]]:
    """A thousand classes."""
    return [type(f"Idle{number}", (Idle,), {}) for number in range(PLUGINS)]


async def many_plugins(classes: list[type[Plugin]], then: Then) -> None:
    """Run a thousand plugins in a runtime."""
    async with open_runtime(plugins=classes):
        then()


async def many_nurseries(then: Then) -> None:
    """Run a thousand bare nurseries."""

    async def hold(*, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            task_status.started()

    async with trio.open_nursery() as nursery:
        for _ in range(PLUGINS):
            await nursery.start(hold)
        then()
        nursery.cancel_scope.cancel()


async def starts(many: Many) -> float:
    """Starts a second."""
    began = perf_counter()
    took: list[float] = []
    await many(lambda: took.append(perf_counter() - began))
    return 1 / took[0]


async def stops(many: Many) -> float:
    """Stops a second."""
    began: list[float] = []
    await many(lambda: began.append(perf_counter()))
    return 1 / (perf_counter() - began[0])


def resident() -> float:
    """Resident memory of this process, in KiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def report_memory(many: Many) -> None:
    """Print the growth of this process for each of a thousand, in KiB."""
    before = resident()
    grown: list[float] = []
    trio.run(many, lambda: grown.append(resident() - before))
    sys.stdout.write(f"{grown[0] / PLUGINS}\n")


def per_kib(whose: str) -> float:
    """The number of plugins, or of nurseries, in one KiB."""
    told = subprocess.run(
        [sys.executable, __file__, whose], check=True, capture_output=True, timeout=AT_MOST
    )
    return 1 / float(told.stdout)


def page(number: int) -> Callable[[Plugin], Awaitable[str]]:
    """A route of its own."""

    @route(f"/page/{number}")
    async def page(self: Plugin) -> str:
        return self.name

    return page


def routes_of_one(count: int) -> list[type[Plugin]]:
    """One plugin class with so many routes."""
    pages = {f"page_{number}": page(number) for number in range(count)}
    return [type("Pages", (BackgroundPlugin,), pages)]


def listeners(count: int) -> list[type[Plugin]]:
    """So many plugin classes, each with an event type of its own."""
    return [
        type(f"On{number}", (EventPlugin,), {"listens_to": (event,), "handle_event": ignore})
        for number in range(count)
        for event in (type(f"Event{number}", (Event,), {}),)
    ]


async def ignore(self: EventPlugin[Event], event: Event) -> None:
    """Handle an event: do nothing."""


def starts_each(classes: list[type[Plugin]], count: int) -> Callable[[], float]:
    """How often a second one of `count` could be started, of those that start together."""
    measure = in_trio(starts, partial(many_plugins, classes))

    def once() -> float:
        gc.collect()
        gc.disable()  # As in `trivet serve`.
        try:
            return count * measure()
        finally:
            gc.enable()

    return once


def main() -> None:
    """Measure, and print the tables."""
    table = Table("start, for each", "ms")
    for what, make, few, many in (
        ("route", routes_of_one, 25, 100),
        ("type", listeners, 1000, 4000),
    ):
        rate, ratio = pairs(starts_each(make(many), many), starts_each(make(few), few), rounds=3)
        each = f"{what} of {many}"
        table.row(each, 1000 / rate.median, f"of {few}", ratio.inverse(), "≤ 1.3")
    plugins = partial(many_plugins, idle_plugins())
    table = Table("a thousand plugins", "ms")
    for what, measure in (("start", starts), ("stop", stops)):
        rate, ratio = pairs(in_trio(measure, plugins), in_trio(measure, many_nurseries))
        table.row(what, 1000 / rate.median, "bare nurseries", ratio.inverse(), "≤ 2")
    table = Table("memory of a plugin", "KiB")
    ours, bare = partial(per_kib, "plugins"), partial(per_kib, "nurseries")
    rate, ratio = pairs(ours, bare, rounds=3)
    table.row("each of a thousand", 1 / rate.median, "by itself", None, "≤ 10")
    table.row("each of a thousand", 1 / rate.median, "a bare nursery", ratio.inverse())


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if "plugins" in sys.argv:
        report_memory(partial(many_plugins, idle_plugins()))
    elif "nurseries" in sys.argv:
        report_memory(many_nurseries)
    else:
        main()
