"""A program whose store fails for a while: statements of SQLite raise I/O errors, and then do not.

Time is virtual, and the store is written by the event loop.
"""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Runtime,
    StoreSettings,
)
from trivet._delivery._beyond import WINDOW
from trivet._store import _journal, _schema, _store
from trivet._store._journal import Journal
from trivet._store._records import JournalUnavailableError
from trivet._store._store import PAUSE, Store
from trivet.testing import open_plugins


class Faulty(sqlite3.Connection):
    """A connection some of whose statements fail."""

    fails: ClassVar[Callable[[str], bool]]
    """Decides about each statement."""

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        self._decide(sql)
        return super().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        self._decide(sql)
        return super().executemany(sql, *args)

    def _decide(self, sql: str) -> None:
        if Faulty.fails(sql.strip()):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error


def break_at(*words: str) -> None:
    """Have the statements fail that begin with one of these."""
    Faulty.fails = lambda sql: sql.startswith(words)


def mend() -> None:
    """Have none fail."""
    Faulty.fails = lambda sql: False


WRITES = ("BEGIN", "COMMIT")
"""Without these nothing can be written."""


class Ping(Event):
    number: int
    fails: bool = False
    """Whether the first attempt does."""


class Keeper(EventPlugin[Ping]):
    delivery = DeliverySettings(durable=True, time_limit=0)
    handled: ClassVar[list[int]]
    failed: ClassVar[set[int]]
    gate: ClassVar[trio.Event]
    stops_at: ClassVar[float]
    """An event that is in flight until the stop."""

    async def handle_event(self, event: Ping) -> None:
        await self.gate.wait()
        if event.fails and event.number not in self.failed:
            self.failed.add(event.number)
            raise ValueError("once more")
        if event.number == self.stops_at:
            await trio.sleep_forever()
        self.handled.append(event.number)


@pytest.fixture(autouse=True)
def _store_that_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    mend()

    def connect(path: Path | None, _: object) -> sqlite3.Connection:
        return _schema.connect(path, Faulty)

    monkeypatch.setattr(_journal, "connect", connect)
    monkeypatch.setattr("trivet._store._store.Store", partial(Store, in_loop=True))
    Keeper.handled, Keeper.failed, Keeper.gate = [], set(), trio.Event()
    Keeper.gate.set()
    Keeper.stops_at = math.inf


@asynccontextmanager
async def program(directory: Path) -> AsyncGenerator[Runtime]:
    """A program on the store in this directory."""
    settings = StoreSettings(path=directory / "store.sqlite3")
    async with open_plugins(Keeper, store=settings) as runtime:
        yield runtime


def trouble(runtime: Runtime) -> str | None:
    """The store's own account."""
    assert runtime.store is not None
    return None if runtime.store.trouble is None else runtime.store.trouble.reason


async def publish(runtime: Runtime, *numbers: int) -> set[Fate]:
    """Publish these in one transaction; returns what became of them."""
    events = [Delivery.of(Ping(number), id=str(number)) for number in numbers]
    return {outcome.fates["keeper"] for outcome in await runtime.publish_many(events)}


def left(directory: Path) -> int:
    """How many events are in the file of a program that has ended."""
    journal = Journal.open(directory / "store.sqlite3")
    counts = journal.counts()
    journal.close()
    return sum(each.count for each in counts.values())


@pytest.mark.parametrize("words", [("INSERT INTO event",), ("COMMIT",), ("BEGIN",)])
async def test_publishers_are_refused(
    autojump_clock: MockClock, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """An event that cannot be written is rejected, and the store says why; nothing of it comes
    later. When it can be written it is accepted, although it was rejected under the same id.
    """
    async with program(tmp_path) as runtime:
        break_at(*words)
        with capture_logs() as logs:
            assert await publish(runtime, 1, 2) == {Fate.REJECTED}
            assert await publish(runtime, 1, 2) == {Fate.REJECTED}
        assert trouble(runtime) == "disk I/O error"
        assert [log["event"] for log in logs].count("the store fails") == 1
        mend()
        assert await publish(runtime, 1, 2) == {Fate.QUEUED}
        assert trouble(runtime) is None
    assert Keeper.handled == [1, 2]
    counts = runtime.statistics()["keeper"]
    assert (counts.accepted, counts.handled, counts.rejected) == (2, 2, 4)
    assert left(tmp_path) == 0


async def test_a_store_that_works_again_is_noticed(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A store that works again is noticed, also when nothing is published and nothing ends."""
    async with program(tmp_path) as runtime:
        break_at(*WRITES)
        await publish(runtime, 1)
        await trio.sleep(10 * PAUSE)
        assert trouble(runtime) == "disk I/O error"
        mend()
        await trio.sleep(1.01 * PAUSE)
        assert trouble(runtime) is None


@pytest.mark.parametrize("words", [("UPDATE subscriber",), ("COMMIT",), ("BEGIN",)])
async def test_ends_that_cannot_be_written(
    autojump_clock: MockClock, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """While ends cannot be written, events in memory are handled, and each event is handled
    once."""
    numbers = range(3 * WINDOW)
    async with program(tmp_path) as runtime:
        Keeper.gate = trio.Event()
        assert await publish(runtime, *numbers) == {Fate.QUEUED}
        break_at(*words)
        Keeper.gate.set()
        await trio.sleep(60)
        assert trouble(runtime) == "disk I/O error"
        assert Keeper.handled == list(range(len(Keeper.handled)))
        assert WINDOW <= len(Keeper.handled) < 3 * WINDOW
        mend()
        await trio.sleep(2 * PAUSE)
        assert trouble(runtime) is None
        assert Keeper.handled == list(numbers)
        await trio.sleep(60)
    assert Keeper.handled == list(numbers)
    assert left(tmp_path) == 0


async def test_pages_that_cannot_be_read(autojump_clock: MockClock, tmp_path: Path) -> None:
    """An unreadable page is handled in order once it can be read, and events are accepted
    meanwhile."""
    numbers = range(3 * WINDOW)
    async with program(tmp_path) as runtime:
        Keeper.gate = trio.Event()
        assert await publish(runtime, *numbers) == {Fate.QUEUED}
        break_at("SELECT event.number")
        Keeper.gate.set()
        await trio.sleep(60)
        assert trouble(runtime) == "disk I/O error"
        assert await publish(runtime, 3 * WINDOW) == {Fate.QUEUED}
        mend()
        await trio.sleep(2 * PAUSE)
        assert trouble(runtime) is None
        assert Keeper.handled == [*numbers, 3 * WINDOW]


async def test_a_stop_while_the_store_fails(autojump_clock: MockClock, tmp_path: Path) -> None:
    """An event whose end could not be written is known by the register of events in flight: it
    does not come again after the next start, and an event that was not handled does.
    """
    async with program(tmp_path) as runtime:
        Keeper.gate = trio.Event()
        await publish(runtime, *range(10))
        break_at(*WRITES)
        Keeper.stops_at = 5
        Keeper.gate.set()
        await wait_all_tasks_blocked()
        assert Keeper.handled == list(range(5))
        runtime.hurry()
    mend()
    Keeper.stops_at = math.inf
    async with program(tmp_path) as runtime:
        await publish(runtime, 10)
    assert Keeper.handled == list(range(11))
    assert left(tmp_path) == 0


async def test_attempts_that_cannot_be_written_down(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """An event that fails while the store does is tried again all the same, and once is enough."""
    async with program(tmp_path) as runtime:
        Keeper.gate = trio.Event()
        await runtime.publish(Ping(1, fails=True))
        break_at(*WRITES)
        Keeper.gate.set()
        await trio.sleep(60)
        assert Keeper.handled == [1]
        mend()
    assert Keeper.handled == [1]
    assert left(tmp_path) == 0


async def test_no_end_of_ends(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more events are begun while too many ends could not be written."""
    monkeypatch.setattr(_store, "CLOGGED", 20)
    async with program(tmp_path) as runtime:
        Keeper.gate = trio.Event()
        await publish(runtime, *range(100))
        break_at(*WRITES)
        Keeper.gate.set()
        await trio.sleep(60)
        assert Keeper.handled == list(range(21))
        mend()
        await trio.sleep(2 * PAUSE)
        assert Keeper.handled == list(range(100))


async def test_a_store_that_fails_at_the_start(tmp_path: Path) -> None:
    """The program does not start, and says why."""
    break_at(*WRITES)
    with pytest.raises(JournalUnavailableError, match=r"store\.sqlite3: disk I/O error"):
        async with program(tmp_path):
            raise AssertionError("it has started")


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_fails(autojump_clock: MockClock, tmp_path: Path, seed: int) -> None:
    """Statements fail at random: what was accepted is handled, once, in the order in which it was;
    what was rejected never is; and in the end the store works, and is empty.
    """
    dice = random.Random(seed)
    accepted: list[int] = []
    rejected: list[int] = []

    def fails(sql: str) -> bool:
        return dice.random() < probability

    async with program(tmp_path) as runtime:
        for number in range(400):
            if number % 20 == 0:
                probability = dice.choice([0.0, 0.01, 0.1, 0.5, 1.0])
                Faulty.fails = fails
            event = Ping(number, fails=dice.random() < 0.05)
            (fate,) = (await runtime.publish(event, id=str(number))).fates.values()
            {Fate.QUEUED: accepted, Fate.REJECTED: rejected}[fate].append(number)
            await trio.sleep(dice.choice([0.0, 0.0, 0.05, 1.0]))
        mend()
        await trio.sleep(300)
        assert trouble(runtime) is None
        assert Keeper.handled == accepted
        counts = runtime.statistics()["keeper"]
        assert (counts.accepted, counts.handled) == (len(accepted), len(accepted))
        assert counts.rejected == len(rejected) > 0
    assert left(tmp_path) == 0
