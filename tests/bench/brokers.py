"""The parts that the benchmarks of all brokers share.

Owns the event, its subscriber, the rows, and the measurements that are the same for each broker.
Never knows a particular broker.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from time import perf_counter

import trio
from pairs import QUICK, Table, pairs
from servers import memory

from trivet import Delivery, Event, EventPlugin, Plugin, Receipt
from trivet.testing import open_plugins

BACKLOG = 20_000 if QUICK else 1_000_000
"""Messages that wait in the broker for the last row."""
TOGETHER = 256
"""Messages that the bare client handles at a time."""
Tables = Mapping[str, Mapping[str, object]]
"""Settings, by the name of their plugin."""
GROWTH = "--growth"
"""The argument of a process for the last row."""


class Order(Event):
    """An event of about 250 bytes of JSON."""

    order_id: str
    note: str


class Counter(EventPlugin[Order]):
    """A subscriber that does as little as the bare client."""

    wanted: int
    """Events after which `done` is set."""
    pause: bool = False
    """Whether each event takes a millisecond."""

    def __init__(self, app: object) -> None:
        self.handled = 0
        self.began = 0.0
        """The time of the first event."""
        self.done = trio.Event()

    async def handle_event(self, event: Order) -> None:
        """Count the event."""
        if self.pause:
            await trio.sleep(0.001)
        if not self.handled:
            self.began = perf_counter()
        self.handled += 1
        if self.handled >= self.wanted:
            self.done.set()


def order(number: int) -> Order:
    """The order with a number."""
    return Order(f"o-{number:06}", "x" * 215)


async def publish_trivet(events: int) -> float:
    """Events a second with an id and an awaited end, without a broker."""
    async with open_plugins(Counter, settings={"counter": {"wanted": events}}) as runtime:
        began = perf_counter()
        for first in range(0, events, TOGETHER):
            numbers = range(first, min(first + TOGETHER, events))
            await runtime.publish_many(
                [Delivery.of(order(each), id=str(each), receipt=Receipt()) for each in numbers]
            )
        await runtime.get(Counter).done.wait()
        return events / (perf_counter() - began)


async def send_through(sink: type[Plugin], events: int, **settings: object) -> float:
    """Events a second, from the first that is published until the broker has all of them."""
    table = {**settings, "delivery": {"block_for": 60, "events": ["order"]}}
    async with open_plugins(sink, event_types=[Order], settings={sink.name: table}) as runtime:
        began = perf_counter()
        for number in range(events):
            await runtime.publish(order(number))
        while runtime.statistics()[sink.name].handled < events:
            await trio.sleep(0.0005)
        return events / (perf_counter() - began)


async def growth(source: type[Plugin], **settings: object) -> float:
    """Growth of this process's peak memory with a backlog and a slow subscriber, in MiB."""
    before = memory("VmRSS")
    tables: Tables = {
        source.name: {**settings, "event": "order"},
        "counter": {"wanted": 500 if QUICK else 5_000, "pause": True},
    }
    async with open_plugins(source, Counter, settings=tables) as runtime:
        await runtime.get(Counter).done.wait()
        runtime.hurry()
    return memory("VmHWM") - before


def in_own_process(script: str, *args: object) -> float:
    """The figure that a script prints in a process that has done nothing else."""
    command = [sys.executable, script, *map(str, args), *(["--quick"] if QUICK else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class BrokerTable(Table):
    """Rows beside the bare client."""

    def add(
        self, what: str, ours: Callable[[], float], bare: Callable[[], float], aim: str = "≥ 0.7"
    ) -> None:
        """Measure both in pairs, and add a row."""
        rate, ratio = pairs(ours, bare)
        self.row(what, rate.median, "the bare client", ratio, aim)

    def add_growth(self, grown: float) -> None:
        """Add the last row."""
        self.row(f"MiB before a backlog of {BACKLOG:,}", grown, "", None, "≤ 64")
