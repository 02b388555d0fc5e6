"""Dead letters: given up by one connection, looked at, replayed and thrown away by another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trivet._store import _dead_letters
from trivet._store._dead_letters import Criteria, DeadLetters
from trivet._store._journal import Journal
from trivet._store._records import (
    Bury,
    DeadLetter,
    DeadLetterFacts,
    Retention,
    Row,
    Update,
)

from .rows import appended

KEEP_ALL = Retention(max_age=1e12, max_count=1_000_000, max_bytes=1 << 40)
NOW = 1_800_000_000.0
"""POSIX seconds."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the journal."""
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """The journal that owns the file, open while the dead letters are read."""
    journal = Journal.open(path)
    yield journal
    journal.close()


def lose(journal: Journal, *, at: int, plugin: str = "mail", died_at: float = NOW) -> int:
    """Have one event fail for good, whose id is `at`; returns its number in the queue."""
    number = journal.new_numbers() + at
    row = Row(plugin, number, b"envelope", b"payload %d" % at)
    letter = DeadLetterFacts("ping", str(at), "test", died_at, "ValueError: no", b'["no"]')
    assert journal.commit([], [appended(row)]) is None
    journal.commit([Update(plugin, number, b'["no"]', 5.0)], [])
    journal.commit([Bury(plugin, number, letter)], [])
    return number


def ids(path: Path, plugin: str | None = None, since: float | None = None) -> list[str]:
    """The ids of what is listed."""
    with DeadLetters(path) as letters:
        return [letter.id for letter in letters.list(Criteria(plugin=plugin, since=since))]


def waiting(journal: Journal, plugin: str = "mail") -> list[bytes]:
    """The payloads of what waits for a plugin."""
    return [row.payload for row in journal.read(plugin, 0, 1_000_000)]


def test_burying(journal: Journal, path: Path) -> None:
    """An event that is given up is out of the queue, and among the dead letters as it was."""
    lose(journal, at=7)
    assert waiting(journal) == []
    with DeadLetters(path) as letters:
        letter = letters.get(1)
        assert letters.list() == [letter]
        assert letters.count() == 1
        assert letters.get(2) is None
    assert letter == DeadLetter(
        number=1,
        plugin="mail",
        event="ping",
        id="7",
        source="test",
        died_at=NOW,
        reason="ValueError: no",
        history=b'["no"]',
        envelope=b"envelope",
        payload=b"payload 7",
    )


def test_burying_an_event_that_has_left_the_queue(journal: Journal, path: Path) -> None:
    """An event that has left the queue cannot be given up a second time."""
    number = lose(journal, at=0)
    letter = DeadLetterFacts("ping", "0", "test", NOW, "again", b"[]")
    journal.commit([Bury("mail", number, letter)], [])
    with DeadLetters(path) as letters:
        assert [letter.reason for letter in letters.list()] == ["ValueError: no"]


def test_selections(journal: Journal, path: Path) -> None:
    """Letters are listed by plugin and by time, the newest first, as many as are asked for."""
    for at, plugin in enumerate(["mail", "audit", "mail", "mail"]):
        lose(journal, at=at, plugin=plugin, died_at=NOW + at)
    assert ids(path) == ["3", "2", "1", "0"]
    assert ids(path, plugin="mail") == ["3", "2", "0"]
    assert ids(path, plugin="unknown") == []
    assert ids(path, since=NOW + 2) == ["3", "2"]
    assert ids(path, plugin="audit", since=NOW + 2) == []
    with DeadLetters(path) as letters:
        assert [letter.id for letter in letters.list(limit=2)] == ["3", "2"]
        assert letters.list(limit=0) == []


def test_replay_to_the_plugin_that_failed(journal: Journal, path: Path) -> None:
    """A replayed event waits for its own plugin again, without a history, and for no other."""
    lose(journal, at=0)
    lose(journal, at=1, plugin="audit")
    with DeadLetters(path) as letters:
        assert letters.replay(Criteria(plugin="mail")) == 1
        assert letters.count() == 1
    (row,) = journal.read("mail", 0, 10)
    assert row == Row("mail", row.number, b"envelope", b"payload 0")
    assert waiting(journal, "audit") == []


def test_replay_has_numbers_of_its_own(journal: Journal, path: Path) -> None:
    """Replayed events keep their order, under numbers that no opening has had or will have."""
    last = [lose(journal, at=at) for at in range(3)][-1]
    with DeadLetters(path) as letters:
        assert letters.replay(Criteria(numbers=[2, 1])) == 2
        assert letters.replay(Criteria(numbers=[3])) == 1
    replayed = [row.number for row in journal.read("mail", last, 10)]
    assert waiting(journal) == [b"payload 0", b"payload 1", b"payload 2"]
    journal.close()
    again = Journal.open(path)
    assert max(replayed) < again.new_numbers()
    again.close()


def test_replay_of_a_selection(journal: Journal, path: Path) -> None:
    """A replay or a purge takes the letters that all arguments select; a second one takes none."""
    for at in range(6):
        lose(journal, at=at, plugin="audit" if at == 5 else "mail", died_at=NOW + at)
    with DeadLetters(path) as letters:
        assert letters.replay(Criteria(numbers=[1, 4, 6, 99], plugin="mail", since=NOW + 1)) == 1
        assert letters.replay(Criteria(numbers=[4])) == 0
        assert letters.replay(Criteria(numbers=[])) == 0
        assert letters.purge(Criteria(numbers=[1, 2], since=NOW + 1)) == 1
        assert letters.purge(Criteria(plugin="audit")) == 1
        assert [letter.id for letter in letters.list()] == ["4", "2", "0"]
        assert letters.purge() == 3
        assert letters.count() == 0
    assert waiting(journal) == [b"payload 3"]


def test_many(journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than fit into one transaction are listed, replayed and thrown away all the same."""
    monkeypatch.setattr(_dead_letters, "SLICE", 4)
    for at in range(11):
        lose(journal, at=at)
    assert ids(path) == [str(at) for at in range(10, -1, -1)]
    with DeadLetters(path) as letters:
        assert [letter.id for letter in letters.list(limit=8)] == [
            str(at) for at in range(10, 2, -1)
        ]
        assert letters.replay(Criteria(numbers=[1, 2, 3, 4, 5, 6])) == 6
        assert letters.purge() == 5
    assert waiting(journal) == [b"payload %d" % at for at in range(6)]


def test_numbers_are_never_used_twice(journal: Journal, path: Path) -> None:
    """An operator who has noted a number does not find another event under it."""
    lose(journal, at=0)
    with DeadLetters(path) as letters:
        letters.purge()
    lose(journal, at=1)
    with DeadLetters(path) as letters:
        assert [letter.number for letter in letters.list()] == [2]


def test_owner_notices(journal: Journal, path: Path) -> None:
    """The owner sees that another connection has replayed or purged, once, and not its own work."""
    lose(journal, at=0)
    lose(journal, at=1)
    assert not journal.changed_by_others()
    with DeadLetters(path) as letters:
        letters.list()
        assert not journal.changed_by_others()
        letters.replay(Criteria(numbers=[1]))
    assert journal.changed_by_others()
    assert not journal.changed_by_others()
    assert journal.counts()["mail"].count == 1


def test_stopped_program(path: Path) -> None:
    """On a stopped program's file it works as well; the next opening has what was replayed."""
    journal = Journal.open(path)
    lose(journal, at=0)
    journal.close()
    with DeadLetters(path) as letters:
        assert letters.replay() == 1
    journal = Journal.open(path)
    assert (waiting(journal), journal.backlog()["mail"].count) == ([b"payload 0"], 1)
    journal.close()


@pytest.mark.parametrize("in_memory", [False, True])
def test_owner_itself(path: Path, in_memory: bool) -> None:
    """The owner can do all this over its own connection, which stays open."""
    journal = Journal.open(None if in_memory else path)
    lose(journal, at=0)
    with journal.dead_letters() as letters:
        assert letters.replay() == 1
    assert journal.changed_by_others()
    assert not journal.changed_by_others()
    assert waiting(journal) == [b"payload 0"]
    journal.close()


# Retention.


def test_retention_by_age(journal: Journal, path: Path) -> None:
    """Dead letters older than their time are thrown away."""
    for at in range(5):
        lose(journal, at=at, died_at=NOW + at)
    assert journal.tidy(NOW + 12, Retention(10.0, 100, 1 << 20)) == 2
    assert ids(path) == ["4", "3", "2"]
    assert journal.tidy(NOW + 12, Retention(10.0, 100, 1 << 20)) == 0


def test_retention_by_count(journal: Journal, path: Path) -> None:
    """The oldest letters are thrown away where there are too many."""
    for at in range(5):
        lose(journal, at=at)
    assert journal.tidy(NOW, Retention(1e9, 3, 1 << 20)) == 2
    assert ids(path) == ["4", "3", "2"]


def test_retention_by_bytes(journal: Journal, path: Path) -> None:
    """The oldest letters are thrown away where all take too much room, histories included."""
    for at in range(5):
        lose(journal, at=at)
    with DeadLetters(path) as letters:
        size = sum(len(one.history + one.envelope + one.payload) for one in letters.list()) // 5
    assert journal.tidy(NOW, Retention(1e9, 100, 5 * size)) == 0
    assert journal.tidy(NOW, Retention(1e9, 100, 5 * size - 1)) == 1
    assert journal.tidy(NOW, Retention(1e9, 100, 2 * size)) == 2
    assert ids(path) == ["4", "3"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_retention_where_the_clock_was_wrong(journal: Journal, path: Path, hours: int) -> None:
    """A letter that died in the future, or long before its turn, keeps no other one in or out."""
    lose(journal, at=0, died_at=NOW + 3600 * hours)
    lose(journal, at=1, died_at=NOW)
    lose(journal, at=2, died_at=NOW + 60)
    assert journal.tidy(NOW + 31, Retention(30.0, 100, 1 << 20)) == (2 if hours < 0 else 1)
    assert journal.tidy(NOW + 31, Retention(1e9, 1, 1 << 20)) == (0 if hours < 0 else 1)
    assert ids(path) == ["2"]
