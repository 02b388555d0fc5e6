"""A durable inbox has no more in memory than it may, however much of it is on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventDecodeError,
    EventPlugin,
    EventTypes,
    Fate,
    Receipt,
    Runtime,
    ShutdownSettings,
    StoreSettings,
    current_delivery,
)
from trivet._delivery import _beyond, _queue
from trivet._events._sizes import estimated_bytes
from trivet._events._turns import LARGE
from trivet.testing import open_plugins

LIMIT = 300_000
TEXT = "x" * 90_000
"""Three of these fit into the limit."""


class Note(Event):
    number: int
    lane: str = ""
    text: str = TEXT


SIZE = estimated_bytes(b'{"number":10,"lane":"a","text":"%s"}' % TEXT.encode())


class Keeper(EventPlugin[Note]):
    delivery = DeliverySettings(durable=True, buffer_bytes=LIMIT, time_limit=0)

    async def initialize(self) -> None:
        self.gate = trio.Event()
        self.got: list[int] = []
        self.most = 0
        self.kept: set[int] = set()
        """The events whose handling does not end yet."""

    async def handle_event(self, event: Note) -> None:
        await self.gate.wait()
        while event.number in self.kept:
            await trio.sleep(0.005)
        assert isinstance(self.app, Runtime)
        self.most = max(self.most, self.app.statistics()["keeper"].bytes)
        self.got.append(event.number)

    async def until(self, count: int) -> None:
        """Let it go on, and wait until it has had so many."""
        self.gate.set()
        with trio.fail_after(60):
            while len(self.got) < count:
                await trio.sleep(0.005)


class ByLane(Keeper):
    name = "keeper"
    delivery = DeliverySettings(
        durable=True, buffer_bytes=LIMIT, time_limit=0, concurrency=4, ordering_key="lane"
    )


class SideBySide(Keeper):
    name = "keeper"
    delivery = DeliverySettings(durable=True, buffer_bytes=LIMIT, time_limit=0, concurrency=4)


def notes(count: int) -> list[Delivery[Event]]:
    """Events from outside."""
    return [Delivery.of(Note(number, "ab"[number % 2]), size=SIZE) for number in range(count)]


@asynccontextmanager
async def program(tmp_path: Path, keeper: type[Keeper]) -> AsyncGenerator[Runtime]:
    """A program on a store in this directory."""
    store = StoreSettings(path=tmp_path / "journal.db", synchronous="normal")
    shutdown = ShutdownSettings(drain=0)
    async with open_plugins(keeper, store=store, shutdown=shutdown) as runtime:
        yield runtime


@pytest.mark.parametrize("keeper", [Keeper, ByLane, SideBySide])
async def test_events_that_do_not_fit_wait_on_disk(keeper: type[Keeper], tmp_path: Path) -> None:
    """Events beyond the memory are accepted, wait on disk, and are handled in order."""
    async with program(tmp_path, keeper) as runtime:
        for _ in range(10):
            outcomes = await runtime.publish_many(notes(3))
            assert {outcome.fates["keeper"] for outcome in outcomes} == {Fate.QUEUED}
        statistics = runtime.statistics()["keeper"]
        assert statistics.queued + statistics.in_flight == 30
        assert statistics.bytes <= LIMIT + SIZE
        plugin = runtime.get(keeper)
        await plugin.until(30)
        with trio.fail_after(60):
            while runtime.statistics()["keeper"].bytes:
                await trio.sleep(0.005)
    assert SIZE <= plugin.most <= LIMIT + SIZE
    assert sorted(plugin.got) == sorted([0, 1, 2] * 10)


@pytest.mark.parametrize("keeper", [Keeper, ByLane, SideBySide])
async def test_events_read_back_are_bounded(keeper: type[Keeper], tmp_path: Path) -> None:
    """A page that is read back has as many events as there is room for, and at least one."""
    async with program(tmp_path, keeper) as runtime:
        for first in range(0, 30, 3):
            await runtime.publish_many(notes(first + 3)[first:])
    async with program(tmp_path, keeper) as runtime:
        plugin = runtime.get(keeper)
        await plugin.until(30)
    assert SIZE <= plugin.most <= LIMIT + SIZE
    assert sorted(plugin.got) == list(range(30))
    for lane in (0, 1):
        ordered = [number for number in plugin.got if number % 2 == lane]
        assert ordered == sorted(ordered) or keeper is SideBySide


async def test_events_being_stored_are_bounded(tmp_path: Path) -> None:
    """A publisher waits while events on their way to the disk take all the room in bytes."""
    async with program(tmp_path, Keeper) as runtime:
        outcomes = await runtime.publish_many(notes(6))
        assert {outcome.fates["keeper"] for outcome in outcomes} == {Fate.QUEUED}
        await runtime.get(Keeper).until(6)


async def test_a_large_event_is_not_decoded_by_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large event is decoded outside of the loop, both when it is stored and when it is read
    back."""
    on_loop: list[int] = []
    decode = EventTypes.decode

    def watched(types: EventTypes, cls: type[Any], body: bytes) -> Any:
        """Note how large a document is that the loop decodes."""
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            on_loop.append(len(body))
        return decode(types, cls, body)

    monkeypatch.setattr(EventTypes, "decode", watched)
    async with program(tmp_path, Keeper) as runtime:
        await runtime.publish_many(notes(3))
        await runtime.publish_many([Delivery.of(Note(3, text="short"))])
    async with program(tmp_path, Keeper) as runtime:
        await runtime.get(Keeper).until(4)
    assert on_loop
    assert max(on_loop) <= LARGE


async def test_a_large_event_that_cannot_be_read_back(tmp_path: Path) -> None:
    """A large event that cannot be read is a dead letter, and the others are handled."""
    async with program(tmp_path, Keeper) as runtime:
        await runtime.publish_many(notes(3))

    def decode(types: EventTypes, cls: type[Any], body: bytes) -> Any:
        """Fail as if the type had another field now."""
        if b'"number":1,' in body:
            raise EventDecodeError("note", "$.number", "no such number")
        return real(types, cls, body)

    real = EventTypes.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventTypes, "decode", decode)
        async with program(tmp_path, Keeper) as runtime:
            await runtime.get(Keeper).until(2)
            assert runtime.statistics()["keeper"].dead_lettered == 1
    assert runtime.get(Keeper).got == [0, 2]


async def test_events_purged_while_memory_was_full_cost_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that vanish from the file while memory is full cost no other event of their lane."""
    monkeypatch.setattr(_beyond, "WINDOW", 3)
    monkeypatch.setattr(_queue, "LOADED", 2)
    async with program(tmp_path, ByLane) as runtime:
        plugin = runtime.get(ByLane)
        # Those of one lane, of which the last three are on disk only, and one that fills memory.
        await runtime.publish_many([Delivery.of(Note(n, "a", "")) for n in range(7)])
        with trio.fail_after(60):
            while runtime.statistics()["keeper"].in_flight < 1:
                await trio.sleep(0.005)
        await runtime.publish_many([Delivery.of(Note(7, "b", "x" * LIMIT), size=LIMIT)])
        with trio.fail_after(60):
            while runtime.statistics()["keeper"].in_flight < 2:
                await trio.sleep(0.005)
        plugin.kept = {7}
        with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
            gone = "DELETE FROM event WHERE CAST(payload AS TEXT) GLOB '*\"number\":[456],*'"
            assert connection.execute(gone).rowcount == 3
        await plugin.until(4)
        await runtime.publish_many([Delivery.of(Note(8, "a", ""))])
        plugin.kept.clear()
        await plugin.until(6)
        await wait_all_tasks_blocked()
        counts = runtime.statistics()["keeper"]
        assert (counts.accepted, counts.queued) == (counts.handled, 0) == (6, 0)
    assert plugin.got == [0, 1, 2, 3, 7, 8]


async def test_an_event_written_ahead_is_not_kept(tmp_path: Path) -> None:
    """An event written ahead leaves the disk if its publisher is cancelled, though others have
    it."""
    heard: list[Delivery[Any]] = []

    class Hears(EventPlugin[Note]):
        async def handle_event(self, event: Note) -> None:
            heard.append(current_delivery())

    store = StoreSettings(path=tmp_path / "journal.db", synchronous="normal")
    narrow = {"keeper": {"delivery": {"buffer": 1, "block_for": 60.0}}}
    async with open_plugins(Keeper, Hears, store=store, settings=narrow) as runtime:
        for note in notes(2):
            await runtime.publish_many([note])
            await wait_all_tasks_blocked(0.01)
        with trio.move_on_after(0.1) as scope:
            await runtime.publish_many([Delivery.of(Note(2), size=SIZE)])
        assert scope.cancelled_caught
        with trio.fail_after(60):
            while len(heard) < 3:
                await trio.sleep(0.005)
        assert [each.written for each in heard] == [None] * 3
        runtime.get(Keeper).gate.set()


class Dropping(Keeper):
    name = "keeper"
    delivery = DeliverySettings(
        durable=True, buffer=3, buffer_bytes=LIMIT, time_limit=0, overflow="drop_oldest"
    )


async def test_the_oldest_is_dropped_where_all_that_wait_are_on_disk(tmp_path: Path) -> None:
    """The oldest events make room although memory is full, and their publishers are told."""
    async with program(tmp_path, Dropping) as runtime:
        plugin = runtime.get(Dropping)
        await runtime.publish_many([Delivery.of(Note(0, "a", "x" * LIMIT), size=LIMIT)])
        with trio.fail_after(60):
            while runtime.statistics()["keeper"].in_flight < 1:
                await trio.sleep(0.005)
        receipts = {number: Receipt() for number in range(1, 6)}
        for number, receipt in receipts.items():
            delivery = Delivery.of(Note(number, "a"), size=SIZE, id=f"{number}", receipt=receipt)
            (outcome,) = await runtime.publish_many([delivery])
            assert outcome.fates == {"keeper": Fate.QUEUED}
        with trio.fail_after(60):
            await receipts[1].ended()
            await receipts[2].ended()
        assert runtime.statistics()["keeper"].queued == 3
        again = [Delivery.of(Note(1, "a"), size=SIZE, id="1")]
        await plugin.until(4)
        (outcome,) = await runtime.publish_many(again, wait=True)
        assert outcome.fates == {"keeper": Fate.HANDLED}  # It was forgotten.
        counts = runtime.statistics()["keeper"]
        assert (counts.accepted, counts.handled, counts.dropped, counts.bytes) == (7, 5, 2, 0)
    assert plugin.got == [0, 3, 4, 5, 1]
    assert [receipts[number].fates["keeper"] for number in (1, 2)] == [Fate.DROPPED] * 2


class Small(Event):
    number: int
    text: str = "x" * 300


class Reader(EventPlugin[Small]):
    delivery = DeliverySettings(durable=True)

    async def handle_event(self, event: Small) -> None:
        pass


class Lazy(EventPlugin[Small]):
    """Never ends its first event, and does without the oldest of the others."""

    delivery = DeliverySettings(durable=True, time_limit=0, overflow="drop_oldest")

    async def handle_event(self, event: Small) -> None:
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("overflow", "fates"),
    [
        ("reject", (Fate.QUEUED, Fate.REJECTED)),
        ("drop_newest", (Fate.QUEUED, Fate.DROPPED)),
        ("block", (Fate.REJECTED, Fate.REJECTED)),
    ],
)
async def test_a_policy_decides_where_the_store_is_full(
    tmp_path: Path, overflow: str, fates: tuple[Fate, Fate]
) -> None:
    """The others go on where a plugin that never reads refuses its own events; where it waits for
    room, it takes what the others free, until nobody has any."""
    store = StoreSettings(path=tmp_path / "store.sqlite3", max_bytes=50_000)
    delivery = {"overflow": overflow, "block_for": 0.001}
    async with open_plugins(
        Reader,
        Lazy,
        store=store,
        shutdown=ShutdownSettings(drain=0.01),
        settings={"lazy": {"delivery": delivery}, "reader": {"delivery": {"block_for": 0.001}}},
    ) as runtime:
        found: set[tuple[Fate, Fate]] = set()
        for number in range(5000):  # A slow disk lets each of them wait in vain for a while.
            outcome = await runtime.publish(Small(number))
            found.add((outcome.fates["reader"], outcome.fates["lazy"]))
            if fates in found:
                break
        assert fates in found


async def test_a_plugin_that_never_reads_loses_its_own_events(tmp_path: Path) -> None:
    """A plugin with `drop_oldest` drops its own oldest event for each event that finds no
    room in the store, also those that are on disk only, and the others go on."""
    store = StoreSettings(path=tmp_path / "store.sqlite3", max_bytes=200_000)
    shutdown = ShutdownSettings(drain=0.01)
    async with open_plugins(Reader, Lazy, store=store, shutdown=shutdown) as runtime:
        for number in range(1500):
            outcome = await runtime.publish(Small(number))
            assert [*outcome.fates.values()] == [Fate.QUEUED, Fate.QUEUED], number
        lazy = runtime.statistics()["lazy"]
        assert lazy.dropped > 900
        assert lazy.dropped + lazy.queued + lazy.in_flight == 1500
        assert runtime.store is not None
        assert runtime.store.bytes <= 200_000
