"""Memory under a subscriber ten times slower than its publisher: by how much a process grows.

    python tests/bench/bench_memory.py [--quick]

A million events (a hundred thousand with `--quick`) are published, ten in each turn of the loop if
nothing makes the publisher wait. The subscriber handles at most one in each turn, one at a time, as
one connection to a database would. Each row is a process of its own; its figure is the growth of
its peak resident memory since the first event. A process that has grown by more than 512 MiB is
stopped. Trivet is in its default settings but for the stall watch, with an inbox of 1000
events, which are small here. Blinker and FastStream's TestBroker are missing: they keep nothing,
since they only call the handlers, and the publisher waits for them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter

import attrs
import structlog
import trio
from pairs import QUICK, Table
from peers import (
    Handler,
    Peer,
    Ping,
    Work,
    asyncio_queue,
    litestar_channels,
    litestar_emitter,
    pyee,
    trivet,
)
from servers import memory

from trivet import DeliverySettings, Settings, StallSettings

EVENTS = 100_000 if QUICK else 1_000_000
ENOUGH = 512.0
"""MiB."""
THIS_ROW = "--row"
"""The argument of a process for one row, followed by the row's name."""


@attrs.frozen
class Found:
    """Figures of one process."""

    growth: float
    """MiB."""
    published: int
    handled: int
    seconds: float


class Flood(Work):
    """More events than the handler can handle."""

    def __init__(self, handler: Callable[[Flood], Handler]) -> None:
        super().__init__([handler(self)], turn=10)
        self.handled = 0
        self._published = 0
        self._before = 0.0
        self._began = 0.0

    def events(self) -> Iterator[Ping]:
        """All events, or as many as the memory allows."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
        self._before = memory("VmRSS")
        self._began = perf_counter()
        for number in range(EVENTS):
            if number % 5000 == 0 and memory("VmRSS") - self._before > ENOUGH:
                return
            self._published += 1
            yield Ping(number)

    async def end(self, next_turn: Callable[[], Awaitable[None]]) -> None:
        """Report and exit at once, since cancelling a million tasks takes longest."""
        found = Found(
            growth=memory("VmHWM") - self._before,
            published=self._published,
            handled=self.handled,
            seconds=perf_counter() - self._began,
        )
        sys.stdout.write(json.dumps(attrs.asdict(found)))
        sys.stdout.flush()
        os._exit(0)


def through_trivet(delivery: DeliverySettings) -> None:
    """Flood a plugin."""

    def slowly(flood: Flood) -> Handler:
        async def handle(event: object) -> None:
            await trio.lowlevel.checkpoint()
            flood.handled += 1

        return handle

    settings = Settings(stalls=StallSettings(enabled=False))
    trio.run(trivet, Flood(slowly), settings, delivery)


def through(peer: Peer) -> None:
    """Flood a subscriber of another library."""

    def slowly(flood: Flood) -> Handler:
        lock = asyncio.Lock()  # For who starts a task for each event.

        async def handle(event: object) -> None:
            async with lock:
                await asyncio.sleep(0)
                flood.handled += 1

        return handle

    asyncio.run(peer(Flood(slowly)))


@attrs.frozen
class Row:
    """One of the flooded libraries."""

    name: str
    habit: str
    """Its way with more events than it can hold."""
    flood: Callable[[], None]
    aim: str = ""


WAITS, DROPS = DeliverySettings(overflow="block"), DeliverySettings(overflow="drop_oldest")
ROWS = [
    Row("Trivet, `block`", "waits, up to `block_for`", partial(through_trivet, WAITS), "≤ 1"),
    Row("Trivet, `drop_oldest`", "drops, and counts", partial(through_trivet, DROPS), "≤ 1"),
    Row("asyncio.Queue(64)", "waits, for ever", partial(through, partial(asyncio_queue, size=64))),
    Row("asyncio.Queue()", "keeps", partial(through, partial(asyncio_queue, size=0))),
    Row(
        "litestar channels, backlog of 1000",
        "drops, and tells nobody",
        partial(through, partial(litestar_channels, backlog=1000)),
    ),
    Row("litestar channels", "keeps", partial(through, partial(litestar_channels, backlog=None))),
    Row("litestar SimpleEventEmitter", "keeps", partial(through, litestar_emitter)),
    Row("pyee", "starts a task for each", partial(through, pyee)),
]


def main() -> None:
    """Measure, and print the table."""
    table = Table("memory under a slow subscriber", "MiB")
    for row in ROWS:
        command = [sys.executable, *sys.argv, THIS_ROW, row.name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120)
        found = Found(**json.loads(done.stdout))
        facts = f"{found.handled:,} of {found.published:,} handled in {found.seconds:.0f} s"
        table.row(row.name, found.growth, f"{row.habit}; {facts}", None, row.aim)


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if THIS_ROW in sys.argv:
        {row.name: row for row in ROWS}[sys.argv[-1]].flood()
    else:
        main()
