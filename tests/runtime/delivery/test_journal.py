"""The file of the durable inboxes: what is committed is there, in order, once, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trivet._delivery._dead_letters import DeadLetters
from trivet._delivery._journal import Journal
from trivet._delivery._records import (
    Append,
    Backlog,
    Bury,
    DeadLetterFacts,
    Delete,
    Forget,
    Row,
    Seen,
    Update,
)

PLUGIN = "audit_trail"
OTHER = "request_log"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is, in a directory that is not there yet."""
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """An open one."""
    journal = Journal.open(path)
    yield journal
    journal.close()


def row(number: int, plugin: str = PLUGIN, *, payload: bytes = b"{}") -> Row:
    """An event that waits."""
    return Row(plugin, number, f"key {number % 2}", b'{"id": "%d"}' % number, payload)


def append(journal: Journal, count: int, plugin: str = PLUGIN, *, start: int = 0) -> list[int]:
    """Commit so many events; returns their numbers."""
    first = journal.new_numbers() + start
    numbers = list(range(first, first + count))
    assert journal.commit([], [Append(row(number, plugin)) for number in numbers]) is None
    return numbers


def waiting(journal: Journal, plugin: str = PLUGIN) -> list[int]:
    """The numbers of what waits for a plugin."""
    return [row.number for row in journal.read(plugin, 0, 1_000_000)]


def bury(number: int, *, died_at: float = 1000.0, plugin: str = PLUGIN) -> Bury:
    """An event that has failed for good."""
    letter = DeadLetterFacts("ping", str(number), "test", died_at, "ValueError: no", b'["no"]')
    return Bury(plugin, number, letter)


# What is in comes out.


def test_round_trip(journal: Journal) -> None:
    """An event comes back as it was put in, with all that is known about it."""
    number = journal.new_numbers()
    stored = Row(PLUGIN, number, "key", b"envelope", b"\x00payload", b"history", 12.5, 3)
    bare = Row(PLUGIN, number + 1, None, b"", b"")
    assert journal.commit([], [Append(stored), Append(bare)]) is None
    assert journal.read(PLUGIN, 0, 10) == [stored, bare]


def test_order(journal: Journal) -> None:
    """Events are read in the order of their numbers, from any of them on, so many at a time."""
    first = journal.new_numbers()
    for number in (3, 1, 2, 0):
        journal.commit([], [Append(row(first + number))])
    assert waiting(journal) == [first, first + 1, first + 2, first + 3]
    read = journal.read(PLUGIN, first, 2)
    assert [row.number - first for row in read] == [1, 2]


def test_each_plugin_has_its_own_queue(journal: Journal) -> None:
    """What waits for one plugin is not read by another."""
    mine = append(journal, 3)
    others = append(journal, 2, OTHER, start=3)
    assert (waiting(journal), waiting(journal, OTHER)) == (mine, others)
    assert waiting(journal, "unknown") == []


def test_read_numbers(journal: Journal) -> None:
    """Single events are read by their numbers, as far as they wait for that plugin."""
    numbers = append(journal, 5)
    (other,) = append(journal, 1, OTHER, start=5)
    journal.commit([Delete(PLUGIN, numbers[0])], [])
    read = journal.read_numbers(PLUGIN, [numbers[4], numbers[0], numbers[2], other])
    assert [row.number for row in read] == [numbers[2], numbers[4]]


def test_update(journal: Journal) -> None:
    """A failed event stays in its place, with its history and the time of its next attempt."""
    numbers = append(journal, 2)
    journal.commit([Update(PLUGIN, numbers[0], b'["no"]', 17.5)], [])
    read = journal.read(PLUGIN, 0, 10)
    assert [(row.number, row.history, row.retry_at) for row in read] == [
        (numbers[0], b'["no"]', 17.5),
        (numbers[1], None, None),
    ]


def test_backlog(path: Path) -> None:
    """At its opening a journal says how much waits for each plugin, in events and in bytes."""
    journal = Journal.open(path)
    assert journal.backlog() == {}
    rows = [row(journal.new_numbers() + at, payload=b"x" * at) for at in range(4)]
    journal.commit([], [Append(row) for row in rows])
    append(journal, 1, OTHER, start=4)
    journal.close()
    journal = Journal.open(path)
    backlog = journal.backlog()
    assert backlog[PLUGIN] == Backlog(4, sum(row.size for row in rows))
    assert backlog[OTHER].count == 1
    journal.commit([Delete(PLUGIN, rows[0].number)], [])
    assert journal.counts()[PLUGIN].count == 3
    journal.close()


def test_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path it does the same, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    journal = Journal.open(None)
    numbers = append(journal, 3)
    journal.commit([bury(numbers[0])], [])
    with journal.dead_letters() as letters:
        assert letters.replay() == 1
    assert journal.changed_by_others()
    assert [*waiting(journal)][:2] == numbers[1:]
    assert len(waiting(journal)) == 3
    journal.close()
    assert list(tmp_path.iterdir()) == []


# Numbers.


def test_numbers_are_never_used_twice(path: Path) -> None:
    """Each opening has numbers above those of all before it, also where nothing was left."""
    firsts: list[int] = []
    for _ in range(3):
        journal = Journal.open(path)
        firsts.append(journal.new_numbers())
        assert waiting(journal) == []
        numbers = append(journal, 10)
        journal.commit([Delete(PLUGIN, number) for number in numbers], [])
        journal.close()
    assert firsts[0] + 10 <= firsts[1] < firsts[1] + 10 <= firsts[2]


# What a plugin has seen.


def test_seen(path: Path) -> None:
    """What a plugin has had is remembered over a restart, until it is forgotten or too old."""
    journal = Journal.open(path)
    first, now = journal.new_numbers(), time.time()
    kept, forgotten = Seen("s", "kept", now + 100), Seen("s", "forgotten", now + 100)
    old = Seen("s", "old", now - 1)
    for at, seen in enumerate((kept, forgotten, old)):
        journal.commit([], [Append(row(first + at), seen)])
    journal.commit([], [Append(row(first + 3, OTHER), forgotten)])
    journal.commit([Forget(PLUGIN, "s", "forgotten")], [])
    assert sorted(journal.seen(PLUGIN), key=lambda seen: seen.id) == [kept, old]
    journal.close()
    journal = Journal.open(path)
    assert journal.seen(PLUGIN) == [kept]
    assert journal.seen(OTHER) == [forgotten]
    journal.close()


def test_dead_letter_of_a_running_journal(journal: Journal, path: Path) -> None:
    """An event that is given up is out of the queue and among the dead letters, as it was."""
    numbers = append(journal, 2)
    (stored,) = journal.read(PLUGIN, 0, 1)
    journal.commit([bury(numbers[0])], [])
    assert waiting(journal) == numbers[1:]
    with DeadLetters(path) as letters:
        (letter,) = letters.list()
    assert (letter.envelope, letter.payload, letter.lane) == (
        stored.envelope,
        stored.payload,
        stored.lane,
    )
    assert (letter.plugin, letter.reason, letter.died_at) == (PLUGIN, "ValueError: no", 1000.0)
