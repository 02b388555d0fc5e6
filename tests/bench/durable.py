"""The parts of the benchmarks of durable events: plugins, settings, and the bare peers.

Owns what is stored, who stores it, and the least that anybody would do for that.
Never knows what is measured.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Runtime,
    Settings,
    StallSettings,
    StoreSettings,
    open_runtime,
)
from trivet._store import _schema
from trivet._store._packing import pack


class Stored(Event):
    """An event of about 300 bytes of JSON."""

    text: str


EVENT = Stored("x" * 285)


class Hoarder(EventPlugin[Stored]):
    """Stores events, and reads none."""

    delivery = DeliverySettings(durable=True)

    async def run(self) -> None:
        """Wait for the end."""
        await trio.sleep_forever()


def hoarders(count: int) -> list[type[EventPlugin[Stored]]]:
    """Plugins that store every event."""
    body = {"__module__": __name__}
    return [type(f"Hoarder{number}", (Hoarder,), body) for number in range(count)]


def settings(directory: Path) -> Settings:
    """Settings of a program with a store."""
    store = StoreSettings(path=directory / "store.sqlite3", max_bytes=1 << 40)
    return Settings(store=store, stalls=StallSettings(enabled=False))


@asynccontextmanager
async def program(*plugins: type[EventPlugin[Stored]]) -> AsyncGenerator[Runtime]:
    """A program with a store of its own."""
    with TemporaryDirectory() as directory:
        async with open_runtime(settings(Path(directory)), plugins=[*plugins]) as runtime:
            yield runtime


async def publish(runtime: Runtime, events: int, waiters: int) -> None:
    """Have tasks publish, each of them one event after the other."""

    async def publish_on() -> None:
        for _ in range(events // waiters):
            await runtime.publish(EVENT)

    async with trio.open_nursery() as nursery:
        for _ in range(waiters):
            nursery.start_soon(publish_on)


async def publish_together(runtime: Runtime, events: int, group: int) -> None:
    """Publish so many events in each call."""
    for _ in range(events // group):
        await runtime.publish_many([Delivery.of(EVENT) for _ in range(group)])


@contextmanager
def database() -> Generator[sqlite3.Connection]:
    """A database with one table and nothing to spare."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "bare.sqlite3"
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with closing(connection):
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE event(number INTEGER PRIMARY KEY, body BLOB)")
            yield connection


class Waiting:
    """Tasks each of which waits for its own row, and does nothing else.

    Args:
        connection: of `database`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queued: list[trio.Event] = []
        self._wake = trio.Event()
        self._is_done = False

    def _commit(self, rows: int) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        batch = [(b"x" * 300,)] * rows
        self._connection.executemany("INSERT INTO event(body) VALUES (?)", batch)
        self._connection.execute("COMMIT")

    async def _write(self) -> None:
        while not self._is_done:
            await self._wake.wait()
            self._wake, (group, self._queued) = trio.Event(), (self._queued, [])
            await trio.to_thread.run_sync(self._commit, len(group))
            for stored in group:
                stored.set()

    async def _publish(self, count: int) -> None:
        for _ in range(count):
            stored = trio.Event()
            self._queued.append(stored)
            self._wake.set()
            await stored.wait()

    async def publish(self, events: int, waiters: int) -> None:
        """Write so many rows, with so many tasks."""
        self._is_done = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            async with trio.open_nursery() as publishers:
                for _ in range(waiters):
                    publishers.start_soon(self._publish, events // waiters)
            self._is_done = True
            self._wake.set()


@contextmanager
def same_table() -> Generator[Callable[[int, int], Awaitable[None]]]:
    """SQLite alone, which writes events with a number of rows in each commit: the same table, bytes
    and settings as in the store."""
    packed = pack(Delivery.of(EVENT, source="trivet"))
    row = (1, packed.envelope, packed.payload)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "bare.sqlite3"
        path.touch()
        with closing(_schema.connect(path)) as connection:
            _schema.configure(connection, path, "full")
            _schema.create(connection)

            def commit(group: int) -> None:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT INTO event(audience, envelope, payload) VALUES (?, ?, ?)", [row] * group
                )
                connection.execute("COMMIT")

            async def write(events: int, group: int) -> None:
                """Write so many events."""
                for _ in range(events // group):
                    await trio.to_thread.run_sync(commit, group)

            yield write
