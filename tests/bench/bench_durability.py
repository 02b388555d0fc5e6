"""The cost of a durable inbox: events a second that are on the disk when `publish` returns.

    python tests/bench/bench_durability.py [--quick]

Each task publishes one event after the other. Beside it, in turns: one row in each commit; the most
that SQLite does by itself for commits of as many rows as there are tasks; and for many tasks the
part of that which is left if each task waits for its own row, and does nothing else. All
with `synchronous=FULL`, 300 bytes an event, through a thread. The first group of rows stores
events which nobody reads; in the second they are handled and deleted at the same time. The last
row is a plugin in memory, with and without a durable neighbour that gets none of its events.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import structlog
import trio
from durable import (
    Hoarder,
    Stored,
    Waiting,
    database,
    program,
    publish,
    publish_together,
    same_table,
    settings,
)
from pairs import Table, in_trio, pairs

from trivet import (
    DeliverySettings,
    Event,
    EventPlugin,
    Runtime,
    open_runtime,
)

WAITERS = (1, 16, 256)
EVENTS = {1: 300, 16: 2000, 256: 6000}
"""Events that the tasks publish together in one round, by the number of tasks."""


class Fleeting(Event):
    """An event for the plugin in memory."""

    text: str


class Reader(EventPlugin[Stored]):
    """Stores and handles events."""

    delivery = DeliverySettings(durable=True)

    async def handle_event(self, event: Stored) -> None:
        """Do nothing."""


class Listener(EventPlugin[Fleeting]):
    """Handles events in memory."""

    async def handle_event(self, event: Fleeting) -> None:
        """Do nothing."""


async def published(runtime: Runtime, waiters: int) -> float:
    """Events a second."""
    began = perf_counter()
    await publish(runtime, EVENTS[waiters], waiters)
    return EVENTS[waiters] / (perf_counter() - began)


async def in_memory(plugins: list[type[EventPlugin[Stored] | EventPlugin[Fleeting]]]) -> float:
    """Events a second through a plugin in memory, beside these plugins."""
    with TemporaryDirectory() as directory:
        async with open_runtime(settings(Path(directory)), plugins=[Listener, *plugins]) as runtime:
            event = Fleeting("x")
            began = perf_counter()
            for _ in range(20_000):
                await runtime.publish(event)
            return 20_000 / (perf_counter() - began)


async def durable(plugin: type[EventPlugin[Stored]], waiters: int) -> float:
    """Events a second through a durable inbox."""
    async with program(plugin) as runtime:
        await published(runtime, waiters)  # The file has its size, and the caches are warm.
        return await published(runtime, waiters)


async def together() -> float:
    """Events a second, 256 in each call."""
    async with program(Hoarder) as runtime:
        await publish_together(runtime, EVENTS[256], 256)
        began = perf_counter()
        await publish_together(runtime, EVENTS[256], 256)
        return EVENTS[256] / (perf_counter() - began)


async def written() -> float:
    """Events a second by SQLite alone, into the same table, 256 in each commit."""
    with same_table() as write:
        await write(EVENTS[256], 256)
        began = perf_counter()
        await write(EVENTS[256], 256)
        return EVENTS[256] / (perf_counter() - began)


async def bare(rows: int, events: int) -> float:
    """Rows a second by SQLite alone, with a number of rows in each commit."""
    with database() as connection:
        batch = [(b"x" * 300,)] * rows

        def commit() -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO event(body) VALUES (?)", batch)
            connection.execute("COMMIT")

        for _ in range(3):
            await trio.to_thread.run_sync(commit)
        commits = max(events // rows, 5)
        began = perf_counter()
        for _ in range(commits):
            await trio.to_thread.run_sync(commit)
        return commits * rows / (perf_counter() - began)


async def waited(waiters: int) -> float:
    """Rows a second by a number of tasks, each of which waits for its own row."""
    with database() as connection:
        waiting = Waiting(connection)
        await waiting.publish(EVENTS[waiters], waiters)
        began = perf_counter()
        await waiting.publish(EVENTS[waiters], waiters)
        return EVENTS[waiters] / (perf_counter() - began)


def main() -> None:
    """Measure, and print the table."""
    table = Table("durable publish", "events/s")
    single = in_trio(bare, 1, 300)
    single_aims = {1: "", 16: "≥ 8", 256: "≥ 20"}
    for plugin, what in ((Hoarder, "stored"), (Reader, "stored, handled, deleted")):
        for waiters in WAITERS:
            measure = in_trio(durable, plugin, waiters)
            name = f"{what}, {waiters} waiting"
            aims = single_aims if plugin is Hoarder else dict.fromkeys(WAITERS, "")
            rate, ratio = pairs(measure, single)
            table.row(name, rate.median, "one row a commit", ratio, aims[waiters])
            limit = in_trio(bare, waiters, EVENTS[waiters])
            aim = "≥ 0.6" if plugin is Hoarder else ""
            if waiters == max(WAITERS):
                beside = "a bare task for each row"
                rate, ratio = pairs(measure, in_trio(waited, waiters))
                table.row(name, rate.median, beside, ratio, aim)
            rate, ratio = pairs(measure, limit)
            table.row(name, rate.median, f"SQLite, {waiters} rows a commit", ratio, aim)
    rate, ratio = pairs(in_trio(together), in_trio(written))
    what, beside = "publish_many of 256", "SQLite, the same table and bytes, 256 rows a commit"
    table.row(what, rate.median, beside, ratio, "≥ 0.6")
    with_durable, without = in_trio(in_memory, [Reader]), in_trio(in_memory, [])
    rate, ratio = pairs(with_durable, without)
    table.row("a plugin in memory", rate.median, "no durable neighbour", ratio, "≥ 0.95")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    main()
