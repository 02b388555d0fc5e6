"""The cost of a durable event on its way in and out, in processor time, and that of a backlog.

    python tests/bench/bench_durable.py [--quick]

Processor time is that of the whole process, the store's thread included; events have 300 bytes, and
`synchronous=FULL`. Beside publishing stand tasks each of which waits for its own row of 300 bytes,
and does nothing else; beside `publish_many`, SQLite alone, with the same table and bytes and as
many rows in each commit. Handling is from the plugin's first event until all ends are in the file.
A backlog is opened with its file in the system's cache. Its memory is a process of its own, and is
left out of a rough run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import ClassVar

import structlog
import trio
from durable import (
    EVENT,
    Hoarder,
    Stored,
    Waiting,
    database,
    hoarders,
    program,
    publish,
    publish_together,
    same_table,
    settings,
)
from pairs import QUICK, Table, in_trio, pairs
from servers import memory

from trivet import Batch, BatchPlugin, Delivery, DeliverySettings, Event, EventPlugin, open_runtime
from trivet._store._commit import Append
from trivet._store._journal import Journal
from trivet._store._packing import pack

EVENTS = {1: 512, 16: 2048, 256: 3072 if QUICK else 8192}
"""Events in one round, by the number of tasks that wait."""
MANY = EVENTS[256]
FEW_ROWS, MANY_ROWS = (1000, 100_000) if QUICK else (10_000, 1_000_000)
"""Rows that wait when a store is opened."""
LEAST_ROWS, MOST_ROWS = 1000, 10_000_000
"""Rows that wait while memory is measured."""
THIS_ROW = "--row"
"""The argument of a process that measures its memory, followed by the directory of its store."""


class Gated(EventPlugin[Stored]):
    """Handles events one by one, once it may."""

    delivery = DeliverySettings(durable=True)
    may: ClassVar[trio.Event]
    is_done: ClassVar[trio.Event]
    left: ClassVar[int]

    async def handle_event(self, event: Stored) -> None:
        """Count it."""
        await handled(1)


class GatedBatches(BatchPlugin[Stored]):
    """Handles events in batches of 100, once it may."""

    delivery = DeliverySettings(durable=True)
    batch_size = 100

    async def handle_batch(self, events: Batch[Stored]) -> None:
        """Count them."""
        await handled(len(events))


async def handled(count: int) -> None:
    """Note that a plugin has so many events; the first time, wait until it may go on."""
    if Gated.left == MANY:
        await Gated.may.wait()
    Gated.left -= count
    if Gated.left <= 0:
        Gated.is_done.set()


# Microseconds of processor time for an event.


async def stored(waiters: int, plugins: int = 1) -> float:
    """An event for so many plugins, published by one of so many tasks."""
    events = EVENTS[waiters]
    async with program(*hoarders(plugins)) as runtime:
        await publish(runtime, events, waiters)  # The file has its size, and the caches are warm.
        before = process_time()
        await publish(runtime, events, waiters)
        return (process_time() - before) / events * 1e6


async def waited(waiters: int) -> float:
    """A row for which a task waits that does nothing else."""
    events = EVENTS[waiters]
    with database() as connection:
        waiting = Waiting(connection)
        await waiting.publish(events, waiters)
        before = process_time()
        await waiting.publish(events, waiters)
        return (process_time() - before) / events * 1e6


async def stored_together() -> float:
    """An event of a `publish_many` of 256."""
    async with program(Hoarder) as runtime:
        await publish_together(runtime, MANY, 256)
        before = process_time()
        await publish_together(runtime, MANY, 256)
        return (process_time() - before) / MANY * 1e6


async def written() -> float:
    """An event that SQLite writes into the same table, 256 in a commit."""
    with same_table() as write:
        await write(MANY, 256)
        before = process_time()
        await write(MANY, 256)
        return (process_time() - before) / MANY * 1e6


async def taken(plugin: type[EventPlugin[Stored]]) -> float:
    """An event that a plugin handles, from its page to its end in the file."""
    Gated.may, Gated.is_done, Gated.left = trio.Event(), trio.Event(), MANY
    async with program(plugin) as runtime:
        await publish(runtime, MANY, 256)
        before = process_time()
        Gated.may.set()
        await Gated.is_done.wait()
    return (process_time() - before) / MANY * 1e6


# A backlog.


def fill(path: Path, rows: int, event: Event = EVENT) -> None:
    """Have so many events wait in a store."""
    packed = pack(Delivery.of(event, source="trivet"))
    journal = Journal.open(path, synchronous="normal")
    first = journal.new_numbers()
    for start in range(first, first + rows, 1000):
        numbers = range(start, start + 1000)
        group = [Append(number, packed.envelope, packed.payload, ["hoarder"]) for number in numbers]
        error = journal.commit([], group)
        assert error is None
    journal.close()


def opened(path: Path) -> float:
    """Milliseconds to open a store."""
    before = perf_counter()
    journal = Journal.open(path)
    assert journal.backlog()["hoarder"].count >= FEW_ROWS
    took = perf_counter() - before
    journal.close()
    return took * 1e3


def memory_with(rows: int) -> float:
    """MiB of a process whose store has so many rows."""
    with TemporaryDirectory() as directory:
        fill(settings(Path(directory)).store.path, rows, Stored(""))
        command = [sys.executable, __file__, THIS_ROW, directory]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def tell_memory(directory: Path) -> None:
    """Print the memory of a program that has opened its store, and read its first page."""
    async with open_runtime(settings(directory), plugins=[Hoarder]) as runtime:
        await runtime.publish(EVENT)
        sys.stdout.write(f"{memory('VmHWM')}")


def measure_costs(table: Table) -> None:
    """Publishing and handling."""
    aims = {1: "", 16: "", 256: "≤ 2"}
    for waiters, aim in aims.items():
        cost, ratio = pairs(in_trio(stored, waiters), in_trio(waited, waiters))
        table.row(f"{waiters} waiting", cost.median, "a bare task for each row", ratio, aim)
    cost, ratio = pairs(in_trio(stored_together), in_trio(written))
    table.row("publish_many of 256", cost.median, "SQLite, 256 rows a commit", ratio, "")
    cost, ratio = pairs(in_trio(stored, 256, 16), in_trio(stored, 256))
    table.row("256 waiting, for 16 plugins", cost.median, "for one", ratio, "≤ 3")
    for plugin, what, aim in ((Gated, "one by one", "≤ 1"), (GatedBatches, "by 100", "≤ 0.5")):
        cost, ratio = pairs(in_trio(taken, plugin), in_trio(stored, 256))
        table.row(f"handled {what}", cost.median, "published, 256 waiting", ratio, aim)


def measure_backlog() -> None:
    """Opening, and memory."""
    table = Table("a backlog on disk", "ms")
    with TemporaryDirectory() as directory:
        few, many = Path(directory) / "few", Path(directory) / "many"
        fill(few, FEW_ROWS)
        fill(many, MANY_ROWS)
        took, ratio = pairs(lambda: opened(many), lambda: opened(few))
    what = f"opening a store with {MANY_ROWS:,} rows"
    table.row(what, took.median, f"with {FEW_ROWS:,}", ratio, "≤ 2")
    if not QUICK:
        table = Table("memory of a backlog", "MiB")
        size, ratio = pairs(lambda: memory_with(MOST_ROWS), lambda: memory_with(LEAST_ROWS), 3)
        what = f"with {MOST_ROWS:,} rows waiting"
        table.row(what, size.median, f"with {LEAST_ROWS:,}", ratio, "≤ 1.2")


def main() -> None:
    """Measure, and print the tables."""
    measure_costs(Table("cost of durable events", "µs of processor time"))
    measure_backlog()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if THIS_ROW in sys.argv:
        trio.run(tell_memory, Path(sys.argv[-1]))
    else:
        main()
