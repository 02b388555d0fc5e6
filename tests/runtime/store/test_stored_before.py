"""Stores of former versions: `stored_before.db` is of version 1, `stored_by_2.db` of version 2.

Their plugin `keeper` was given six events, with the sources and ids below, and stopped:

* `done` was handled, and `dead` failed for good: their ids are remembered, and one is a letter;
* `failed` backs off for two seconds, and `behind` waits for it, since both have the lane `a`;
* two events of the lane `b` have no ids of their own, one of them a deadline, and one was begun.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Settings,
    StoreSettings,
    current_delivery,
    open_runtime,
)
from trivet._store._dead_letters import Criteria, DeadLetters
from trivet._store._journal import Journal
from trivet._store._schema import VERSION

STORED = [Path(__file__).with_name(name) for name in ("stored_before.db", "stored_by_2.db")]
AGES = 4e9
"""Seconds, so many that nothing in the file grows too old for this test."""


class Note(Event):
    number: int
    lane: str = "a"


class Keeper(EventPlugin[Note]):
    """Notes what it is handed."""

    delivery = DeliverySettings(
        durable=True,
        deduplicate_for=AGES,
        ordering_key="lane",
        concurrency=2,
        retry=True,
        retry_for=1e9,
    )

    async def initialize(self) -> None:
        self.got: list[tuple[int, int]] = []
        self.envelopes: dict[int, Delivery[Event]] = {}

    async def handle_event(self, event: Note) -> None:
        delivery = current_delivery()
        self.got.append((event.number, delivery.attempt))
        self.envelopes[event.number] = delivery


@pytest.fixture(params=STORED, ids=lambda path: path.stem)
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings of a program whose store is a copy of such a file."""
    path = tmp_path / "store.sqlite3"
    shutil.copyfile(request.param, path)
    return Settings(store=StoreSettings(path=path, dead_letters_max_age=AGES))


async def test_events_of_a_former_version_are_delivered(settings: Settings) -> None:
    """Events come in the order of their lanes, with their envelopes and attempts."""
    async with open_runtime(settings, plugins=[Keeper]) as runtime:
        keeper = runtime.get(Keeper)
        statistics = runtime.statistics()["keeper"]
        assert (statistics.accepted, statistics.queued + statistics.in_flight) == (4, 4)
        with trio.fail_after(10):
            while len(keeper.got) < 4:
                await trio.sleep(0.01)
    assert sorted(keeper.got) == [(2, 2), (3, 1), (4, 1), (5, 1)]
    numbers = [number for number, _ in keeper.got]
    assert numbers.index(2) < numbers.index(3)
    assert numbers.index(4) < numbers.index(5)
    failed = keeper.envelopes[2]
    assert (failed.source, failed.id, failed.key) == ("test", "failed", "k")
    assert (failed.request_id, failed.traceparent) == ("r-2", "00-2")


def test_a_file_is_of_this_version_from_its_start_on(settings: Settings) -> None:
    """An older program refuses it then, since it would not understand what is written."""
    path = settings.store.path
    Journal.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


async def test_the_ids_of_a_former_version_are_known(settings: Settings) -> None:
    """Events that were handled, or are alive or dead letters, are not delivered again."""
    async with open_runtime(settings, plugins=[Keeper]) as runtime:
        for number, event_id in enumerate(("done", "dead", "failed", "behind")):
            outcome = await runtime.publish(Note(10 + number), id=event_id, source="test")
            assert outcome.fates == {"keeper": Fate.DUPLICATE}
        outcome = await runtime.publish(Note(14), id="new", source="test", wait=True)
        assert outcome.fates == {"keeper": Fate.HANDLED}


def test_the_dead_letter_of_a_former_version_can_be_replayed(settings: Settings) -> None:
    """The letter is shown with its error, and is delivered with all its attempts anew."""
    Journal.open(settings.store.path).close()  # The file gets its new form.
    with DeadLetters(settings.store.path) as letters:
        (letter,) = letters.list()
        assert (letter.plugin, letter.event, letter.id) == ("keeper", "note", "dead")
        assert letter.reason == "PermanentError: never"
        assert letters.replay(Criteria(numbers=[letter.number])) == 1

    async def main() -> list[tuple[int, int]]:
        async with open_runtime(settings, plugins=[Keeper]) as runtime:
            keeper = runtime.get(Keeper)
            with trio.fail_after(10):
                while len(keeper.got) < 5:
                    await trio.sleep(0.01)
            return keeper.got

    assert (1, 1) in trio.run(main)
