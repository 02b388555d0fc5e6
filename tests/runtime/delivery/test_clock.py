"""A calendar that is set forward or back, while events wait, and while the program is not there."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock

from trivet import (
    Batch,
    BatchPlugin,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Outcome,
    PermanentError,
    RetryAfter,
    Runtime,
    ShutdownSettings,
    StoreSettings,
)
from trivet._delivery import _beyond, _on_disk, _repeats
from trivet._delivery._beyond import WINDOW
from trivet._store import _journal, _store
from trivet._store import _packing as _stored
from trivet._store._dead_letters import DeadLetters
from trivet._store._store import PAUSE, Store
from trivet.testing import open_plugins

FORWARD, BACK = 3600.0, -7200.0
JUMPS = pytest.mark.parametrize("jump", [FORWARD, BACK], ids=["an hour forward", "two hours back"])


class Calendar:
    """The time of `time.time`, which goes with Trio's clock unless it is set."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self.ahead = 0.0

    def __call__(self) -> float:
        return 1_800_000_000.0 + self._clock.current_time() + self.ahead


@pytest.fixture
def calendar(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> Calendar:
    """The calendar of a test whose store is written by the event loop, where time is virtual."""
    calendar = Calendar(autojump_clock)
    for module in (
        _beyond,
        _on_disk,
        _journal,
        _store,
        _stored,
    ):  # The test runner has its own time.
        calendar_only = SimpleNamespace(time=calendar, monotonic=time.monotonic)
        monkeypatch.setattr(module, "time", calendar_only)
    monkeypatch.setattr("trivet._store._store.Store", partial(Store, in_loop=True))
    monkeypatch.setattr(_store, "TIDY_EVERY", 0.0)
    Keeper.attempts, Keeper.gate = [], trio.Event()
    Keeper.gate.set()
    return calendar


class Ping(Event):
    number: int = 0
    fails: int = 0
    """How often."""


class Keeper(EventPlugin[Ping]):
    delivery = DeliverySettings(durable=True, time_limit=0)
    attempts: ClassVar[list[tuple[float, int]]]
    """The time on Trio's clock, and the event."""
    gate: ClassVar[trio.Event]

    async def handle_event(self, event: Ping) -> None:
        await self.gate.wait()
        self.attempts.append((trio.current_time(), event.number))
        if event.fails < 0:
            raise PermanentError("never")
        if len(self.attempts) <= event.fails:
            raise RetryAfter(60)


@asynccontextmanager
async def program(directory: Path, **store: float) -> AsyncGenerator[Runtime]:
    """A program on the store in this directory, which stops without draining."""
    settings = StoreSettings(path=directory / "store.sqlite3", **store)  # type: ignore[arg-type]
    at_once = ShutdownSettings(requests=0, drain=0, close=1)
    async with open_plugins(Keeper, store=settings, shutdown=at_once) as runtime:
        yield runtime


def counts(runtime: Runtime, *fates: Fate) -> tuple[int, ...]:
    """How many events have come to these fates."""
    statistics = runtime.statistics()["keeper"]
    return tuple(getattr(statistics, fate.value) for fate in fates)


@JUMPS
async def test_a_wait_does_not_follow_the_calendar(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path, jump: float
) -> None:
    """Within one process an event is tried again after its wait, neither earlier nor later."""
    async with program(tmp_path) as runtime:
        began = trio.current_time()
        await runtime.publish(Ping(fails=1))
        await trio.sleep(1)
        calendar.ahead = jump
        await trio.sleep(100)
        assert Keeper.attempts == [(began, 0), (began + 60, 0)]
        assert counts(runtime, Fate.HANDLED, Fate.BACKING_OFF) == (1, 0)


@JUMPS
async def test_a_wait_over_a_restart(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path, jump: float
) -> None:
    """After a restart an event waits as long as the calendar says, but no longer than was decided:
    a calendar that was set back leaves nothing stuck.
    """
    async with program(tmp_path) as runtime:
        await runtime.publish(Ping(fails=1))
        await trio.sleep(10)
    calendar.ahead = jump
    async with program(tmp_path) as runtime:
        began = trio.current_time()
        await trio.sleep(100)
        _, again = Keeper.attempts
        assert again == (began + (60 if jump < 0 else 0), 0)
        assert counts(runtime, Fate.HANDLED) == (1,)


@JUMPS
@pytest.mark.parametrize("waits", [50, 70])
async def test_a_deadline_does_not_follow_the_calendar(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path, jump: float, waits: int
) -> None:
    """Within one process an event expires when its time is over, also one that was on disk only."""
    count = 2 * WINDOW
    Keeper.gate = trio.Event()
    async with program(tmp_path) as runtime:
        await runtime.publish(Ping(0))  # In flight, so that the others wait.
        deadline = trio.current_time() + 60
        events = [Delivery.of(Ping(at), deadline=deadline) for at in range(count)]
        await runtime.publish_many(events)
        calendar.ahead = jump
        await trio.sleep(waits)
        Keeper.gate.set()
        await trio.sleep(1)
        expected = (count + 1, 0) if waits < 60 else (1, count)
        assert counts(runtime, Fate.HANDLED, Fate.EXPIRED) == expected


async def test_a_deadline_over_a_restart(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path
) -> None:
    """After a restart a deadline is as far away as it was when the event came, at the most."""
    Keeper.gate = trio.Event()
    async with program(tmp_path) as runtime:
        await runtime.publish(Ping(1), deadline=trio.current_time() + 60)
    calendar.ahead = BACK
    async with program(tmp_path) as runtime:
        await runtime.publish(Ping(2))
        await trio.sleep(61)
        Keeper.gate.set()
        await trio.sleep(1)
        assert counts(runtime, Fate.HANDLED, Fate.EXPIRED) == (1, 1)


async def test_a_deadline_that_was_over_at_the_restart(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path
) -> None:
    """The time in which the program does not run counts for a deadline."""
    Keeper.gate = trio.Event()
    async with program(tmp_path) as runtime:
        await runtime.publish(Ping(1), deadline=trio.current_time() + 60)
        await runtime.publish(Ping(2), deadline=trio.current_time() + 600)
    await trio.sleep(61)
    Keeper.gate.set()
    async with program(tmp_path) as runtime:
        await trio.sleep(1)
        assert [number for _, number in Keeper.attempts] == [2]
        assert counts(runtime, Fate.HANDLED, Fate.EXPIRED) == (1, 1)


@JUMPS
async def test_repetitions_are_known(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path, jump: float
) -> None:
    """A calendar that was set wrong for a while, and right again, makes nobody forget an event;
    and one that was set back does not make it be remembered for longer than its window.
    """
    async with program(tmp_path) as runtime:
        assert (await runtime.publish(Ping(), id="a", wait=True)).worst is Fate.HANDLED
        calendar.ahead = jump
        await trio.sleep(2 * PAUSE)  # What is too old is thrown away by then.
        assert (await runtime.publish(Ping(), id="a")).worst is Fate.DUPLICATE
    calendar.ahead = min(jump, 0.0)
    async with program(tmp_path) as runtime:
        assert (await runtime.publish(Ping(), id="a")).worst is Fate.DUPLICATE
        await trio.sleep(301)
        assert (await runtime.publish(Ping(), id="a", wait=True)).worst is Fate.HANDLED


async def test_the_oldest_repetitions_are_forgotten_first(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart with more events than are remembered, the oldest are forgotten."""
    monkeypatch.setattr(_repeats, "AT_MOST", 2)
    async with program(tmp_path) as runtime:
        for event_id in ("c", "b", "a"):
            await runtime.publish(Ping(), id=event_id, wait=True)
            await trio.sleep(1)
    async with program(tmp_path) as runtime:
        again = [await runtime.publish(Ping(), id=each, wait=True) for each in ("a", "b", "c")]
        assert [each.worst for each in again] == [Fate.DUPLICATE, Fate.DUPLICATE, Fate.HANDLED]


async def test_waiting_events_are_forgotten_like_others(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more ids are remembered in memory than the limit, however many events wait in the
    store."""
    monkeypatch.setattr(_repeats, "AT_MOST", 2)
    async with program(tmp_path) as runtime:
        Keeper.gate = trio.Event()
        for event_id in ("a", "b", "c"):
            await runtime.publish(Ping(), id=event_id)
        again = [await runtime.publish(Ping(), id=each) for each in ("c", "b", "a")]
        assert [each.worst for each in again] == [Fate.DUPLICATE, Fate.DUPLICATE, Fate.QUEUED]
        Keeper.gate.set()


async def test_an_event_that_waits_since_before_a_start_is_known(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path
) -> None:
    """A repetition of an event that still waits is a duplicate, although the window is over."""
    async with program(tmp_path) as runtime:
        Keeper.gate = trio.Event()
        await runtime.publish(Ping(), id="a")
        await trio.sleep(200)
    async with program(tmp_path) as runtime:
        await trio.sleep(200)
        outcomes: list[Outcome] = []

        async def repeat() -> None:
            outcomes.append(await runtime.publish(Ping(), id="a", wait=True))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(repeat)
            await trio.sleep(100)
            assert outcomes == []
            Keeper.gate.set()
        assert outcomes[0].worst is Fate.DUPLICATE
        assert len(Keeper.attempts) == 1


async def test_an_expired_event_is_forgotten_on_the_disk(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition of an expired event is let in, at the next start as well."""
    with monkeypatch.context() as few:
        few.setattr(_repeats, "AT_MOST", 3)
        async with program(tmp_path) as runtime:
            Keeper.gate = trio.Event()
            await runtime.publish(Ping(), id="first")
            await runtime.publish(Ping(), id="late", deadline=trio.current_time() + 1)
            for number in range(4):
                await runtime.publish(Ping(), id=str(number))
            await trio.sleep(2)
            Keeper.gate.set()
            while counts(runtime, Fate.HANDLED) != (5,):
                await trio.sleep(1)
            assert counts(runtime, Fate.EXPIRED) == (1,)
    async with program(tmp_path) as runtime:
        assert (await runtime.publish(Ping(), id="late", wait=True)).worst is Fate.HANDLED


@JUMPS
async def test_young_dead_letters_are_kept(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path, jump: float
) -> None:
    """A calendar that was set does not make them old; what is old by all clocks is thrown away."""
    async with program(tmp_path, dead_letters_max_age=600.0) as runtime:
        await runtime.publish(Ping(fails=-1), wait=True)
        calendar.ahead = jump
        await trio.sleep(60)
        with DeadLetters(tmp_path / "store.sqlite3") as letters:
            assert letters.count() == 1
        calendar.ahead = 0.0
        await trio.sleep(600)
        with DeadLetters(tmp_path / "store.sqlite3") as letters:
            assert letters.count() == 0


class Batches(BatchPlugin[Ping]):
    """Fails with its first batch, and notes the others."""

    delivery = DeliverySettings(durable=True, batch_size=20, batch_age=0.1, retry_initial=20)
    fails: ClassVar[bool]
    handled: ClassVar[list[int]]

    async def handle_batch(self, events: Batch[Ping]) -> None:
        if self.fails:
            raise ValueError("not now")
        self.handled.extend(event.number for event in events)


async def test_a_batch_that_comes_again_after_a_start_is_in_order(
    autojump_clock: MockClock, calendar: Calendar, tmp_path: Path
) -> None:
    """A batch comes again in order, although the waits of some of its events ended before the
    start."""
    store = StoreSettings(path=tmp_path / "store.sqlite3")
    Batches.fails, Batches.handled = True, []
    async with open_plugins(Batches, store=store) as runtime:
        for number in range(25):
            await runtime.publish(Ping(number))
        while runtime.statistics()["batches"].backing_off < 20:
            await trio.sleep(0.01)
        runtime.hurry()
    calendar.ahead = 10.0
    Batches.fails = False
    async with open_plugins(Batches, store=store) as runtime:
        while runtime.statistics()["batches"].handled < 25:
            await trio.sleep(0.1)
    assert Batches.handled == list(range(25))
