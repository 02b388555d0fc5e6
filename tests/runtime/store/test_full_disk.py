"""A program whose disk is full: a real file system, that small."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Runtime,
    ShutdownSettings,
    StoreSettings,
)
from trivet._store._journal import Journal
from trivet._store._store import PAUSE, is_full
from trivet.testing import open_plugins

pytestmark = pytest.mark.process

PAYLOAD = "x" * 4000
OTHERS = "other program"
GROUP = 20
"""Events in one transaction."""


class Ping(Event):
    number: int
    payload: str = PAYLOAD


class Keeper(EventPlugin[Ping]):
    """Handles nothing before it may."""

    delivery = DeliverySettings(durable=True, time_limit=0)
    may: ClassVar[trio.Event]
    handled: ClassVar[list[int]]
    awaited: ClassVar[int]
    """After this one, `all_handled` is set."""
    all_handled: ClassVar[trio.Event]

    async def handle_event(self, event: Ping) -> None:
        await self.may.wait()
        self.handled.append(event.number)
        if event.number == self.awaited:
            self.all_handled.set()


@pytest.fixture(autouse=True)
def _nothing_handled() -> None:
    Keeper.may, Keeper.all_handled = trio.Event(), trio.Event()
    Keeper.handled, Keeper.awaited = [], -1


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB, of which another program has two."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)]
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    (directory / OTHERS).write_bytes(bytes(2 << 20))
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(disk: Path) -> Path:
    """Have the other program take all the room that there is; returns its file."""
    file = disk / OTHERS
    with file.open("ab", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))
    return file


async def publish(runtime: Runtime, first: int) -> Fate:
    """Publish a group of events; returns what became of all of them."""
    events = [Delivery.of(Ping(number)) for number in range(first, first + GROUP)]
    fates = {outcome.fates["keeper"] for outcome in await runtime.publish_many(events)}
    assert len(fates) == 1, "it was one transaction"
    return fates.pop()


async def publish_until_refused(runtime: Runtime) -> list[int]:
    """Publish until there is no room; returns the numbers of what was accepted."""
    accepted: list[int] = []
    for first in count(step=GROUP):
        if await publish(runtime, first) is Fate.REJECTED:
            break
        accepted += range(first, first + GROUP)
        assert len(accepted) * len(PAYLOAD) < 8 << 20, "more than there is room for"
    Keeper.awaited = accepted[-1]
    return accepted


async def test_a_disk_that_is_full(disk: Path) -> None:
    """Publishers are refused, nothing that was accepted is lost, what is there is handled while the
    disk is full, and when there is room, events are accepted again.
    """
    settings = StoreSettings(path=disk / "store.sqlite3")
    async with open_plugins(Keeper, store=settings) as runtime:
        assert runtime.store is not None
        accepted = await publish_until_refused(runtime)
        assert len(accepted) * len(PAYLOAD) > 2 << 20  # Of the six that there were.
        trouble = runtime.store.trouble
        assert is_full(trouble)
        assert str(trouble) == f"{settings.path}: the disk is full"
        other = fill(disk)
        assert await publish(runtime, accepted[-1] + 1) is Fate.REJECTED
        counts = runtime.statistics()["keeper"]
        assert (counts.accepted, counts.rejected) == (len(accepted), 2 * GROUP)

        Keeper.may.set()
        with trio.fail_after(60):
            await Keeper.all_handled.wait()
        assert Keeper.handled == accepted

        other.unlink()
        with trio.fail_after(60 * PAUSE):
            while runtime.store.trouble is not None:
                await trio.sleep(0.01)
        assert await publish(runtime, accepted[-1] + 1) is Fate.QUEUED
        counts = runtime.statistics()["keeper"]
        assert (counts.accepted, counts.rejected) == (len(accepted) + GROUP, 2 * GROUP)
    assert Keeper.handled == list(range(accepted[-1] + 1 + GROUP))
    journal = Journal.open(settings.path)
    assert journal.counts() == {}
    journal.close()


async def test_room_that_comes_without_anything_having_been_handled(disk: Path) -> None:
    """The next event is accepted at once when another program that filled the disk gives the room
    back: a publisher does not have to wait for a look at the disk.
    """
    settings = StoreSettings(path=disk / "store.sqlite3")
    async with open_plugins(Keeper, store=settings) as runtime:
        assert runtime.store is not None
        assert await publish(runtime, 0) is Fate.QUEUED
        other = fill(disk)
        assert await publish(runtime, GROUP) is Fate.REJECTED
        other.unlink()
        assert await publish(runtime, 2 * GROUP) is Fate.QUEUED
        assert runtime.store.trouble is None
        Keeper.may.set()
    assert Keeper.handled == [*range(GROUP), *range(2 * GROUP, 3 * GROUP)]


async def test_a_restart_while_the_disk_is_full(disk: Path) -> None:
    """Events that a program left on a full disk are handled by the next one, on a disk as full."""
    settings = StoreSettings(path=disk / "store.sqlite3")
    at_once = ShutdownSettings(requests=0, drain=0, close=1)
    async with open_plugins(Keeper, store=settings, shutdown=at_once) as runtime:
        accepted = await publish_until_refused(runtime)
        fill(disk)
    assert Keeper.handled == []
    Keeper.may.set()
    async with open_plugins(Keeper, store=settings) as runtime:
        with trio.fail_after(60):
            await Keeper.all_handled.wait()
    assert Keeper.handled == accepted
