"""The cost of a plugin on asyncio: `AsyncioPlugin` beside the same plugin on Trio.

    python tests/bench/bench_asyncio.py [--quick]

A handler that does nothing shows the cost of a crossing: out of Trio, into a task of asyncio's, and
back. A handler that waits there needs turns of both loops, too. A batch crosses once for all of its
events, and shows how little is left of that cost. A handler that publishes crosses back for it.
Turns of asyncio's loop on top of Trio are compared with turns of asyncio's own loop, in a process
that has never imported trio-asyncio. The last row shows what that import costs the other loop.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from functools import partial
from time import perf_counter

import structlog
import trio
from pairs import QUICK, Table, in_trio, pairs

from trivet import (
    AsyncioPlugin,
    BackgroundPlugin,
    Batch,
    BatchPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Plugin,
    Settings,
    StallSettings,
    open_runtime,
)

EVENTS = 2_000 if QUICK else 10_000
"""Events in one round."""
TURNS = 10_000 if QUICK else 50_000
"""Turns of a loop in one round."""
BATCH = 100
"""The last one is full, too."""
TINY = 1e-9
"""Seconds to sleep with a timer; to sleep for 0 asks for no loop."""
LIMIT = 60.0
"""Seconds for one round, which would not end if an event were lost."""

SETTINGS = Settings(stalls=StallSettings(enabled=False))

ASYNCIO_ALONE = """
import asyncio, sys
from time import perf_counter

async def turn(times, delay):
    began = perf_counter()
    for _ in range(times):
        await asyncio.sleep(delay)
    return times / (perf_counter() - began)

print(asyncio.run(turn(int(sys.argv[1]), float(sys.argv[2]))))
"""
"""Turns a second of asyncio's own loop, in a process of its own."""


class Ping(Event):
    """The event that is handled."""


class Pong(Event):
    """The event that is published meanwhile; it has no subscriber."""


class Native(EventPlugin[Ping]):
    """A handler on Trio that does nothing."""

    delivery = DeliverySettings(buffer=EVENTS)

    async def handle_event(self, event: Ping) -> None:
        """Do nothing."""


class Crossing(AsyncioPlugin, EventPlugin[Ping]):
    """The same handler on asyncio."""

    delivery = DeliverySettings(buffer=EVENTS)

    async def handle_event(self, event: Ping) -> None:
        """Do nothing."""


class NativeBatches(BatchPlugin[Ping]):
    """A handler of batches on Trio."""

    delivery = DeliverySettings(buffer=EVENTS, batch_size=BATCH)

    async def handle_batch(self, events: Batch[Ping]) -> None:
        """Do nothing."""


class CrossingBatches(AsyncioPlugin, BatchPlugin[Ping]):
    """The same handler on asyncio."""

    delivery = DeliverySettings(buffer=EVENTS, batch_size=BATCH)

    async def handle_batch(self, events: Batch[Ping]) -> None:
        """Do nothing."""


class NativeWaiter(Native):
    """A handler on Trio that waits for one turn."""

    async def handle_event(self, event: Ping) -> None:
        """Let others have their turn."""
        await trio.lowlevel.checkpoint()


class CrossingWaiter(Crossing):
    """The same handler on asyncio."""

    async def handle_event(self, event: Ping) -> None:
        """Let others have their turn."""
        await asyncio.sleep(0)


class NativePublisher(Native):
    """A handler on Trio that publishes."""

    async def handle_event(self, event: Ping) -> None:
        """Publish."""
        await self.app.publish(Pong())


class CrossingPublisher(Crossing):
    """The same handler on asyncio."""

    async def handle_event(self, event: Ping) -> None:
        """Publish."""
        await self.app.publish(Pong())


class Turning(AsyncioPlugin, BackgroundPlugin):
    """A plugin that counts turns of its loop."""

    async def turn(self) -> float:
        """Turns a second."""
        began = perf_counter()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return TURNS / (perf_counter() - began)


async def handled(kind: type[Plugin]) -> float:
    """Events a second, from the first that is published to the last that is handled."""
    with trio.fail_after(LIMIT):
        async with open_runtime(SETTINGS, plugins=[kind], event_types=[Pong]) as runtime:
            began = perf_counter()
            for _ in range(EVENTS - 1):
                await runtime.publish(Ping())
            await runtime.publish(Ping(), wait=True)
            return EVENTS / (perf_counter() - began)


async def turned() -> float:
    """Turns a second of a plugin's loop."""
    with trio.fail_after(LIMIT):
        async with open_runtime(SETTINGS, plugins=[Turning]) as runtime:
            plugin = runtime.get(Turning)
            return await plugin.run_on_asyncio(plugin.turn)


def alone(delay: float, imports: str = "") -> float:
    """Turns a second of asyncio's own loop, in a process of its own."""
    program = f"{imports}\n{ASYNCIO_ALONE}"
    command = [sys.executable, "-c", program, str(TURNS), str(delay)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT)
    return float(told.stdout)


UNUSED = """
import trio_asyncio, asyncio
asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())  # Else its own loop is made.
"""


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    table = Table("plugins on asyncio", "/s")
    kinds: list[tuple[str, type[Plugin], type[Plugin], str]] = [
        ("events, each a crossing", Crossing, Native, "≥ 0.15"),
        ("events whose handler waits once", CrossingWaiter, NativeWaiter, ""),
        ("events, in batches of 100", CrossingBatches, NativeBatches, "≥ 0.8"),
        ("events whose handler publishes", CrossingPublisher, NativePublisher, ""),
    ]
    for what, crossing, native, aim in kinds:
        figure, ratio = pairs(in_trio(handled, crossing), in_trio(handled, native))
        table.row(what, figure.median, "the same on Trio", ratio, aim)
        table.row(f"{what}: µs each", 1e6 / figure.median, "", None)
    figure, ratio = pairs(in_trio(turned), partial(alone, 0))
    table.row("`asyncio.sleep(0)` in a plugin", figure.median, "asyncio's own loop", ratio)
    figure, ratio = pairs(partial(alone, TINY, UNUSED), partial(alone, TINY))
    what = "`asyncio.sleep(1e-9)` in asyncio's own loop, trio-asyncio imported"
    table.row(what, figure.median, "without it", ratio)


if __name__ == "__main__":
    main()
