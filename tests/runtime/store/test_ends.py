"""Events for several plugins: one row, which goes when the last of them has ended it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from trivet._store import _subscribers
from trivet._store._check import examine
from trivet._store._commit import Append
from trivet._store._journal import Journal
from trivet._store._records import Backlog, Bury, DeadLetterFacts, Delete, Update

SIZE = 17
"""Bytes of an event here."""
LETTER = DeadLetterFacts("ping", "1", "test", 5.0, "no", b"[]")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the file."""
    return tmp_path / "store.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """An open journal, in whose file everything fits together at the end."""
    journal = Journal.open(path)
    yield journal
    journal.close()
    assert list(examine(path)) == []


def put(journal: Journal, count: int, *plugins: str, start: int = 0) -> list[int]:
    """Store so many events for these plugins; returns their numbers."""
    first = journal.new_numbers() + start
    numbers = [*range(first, first + count)]
    appends = [Append(number, b"{}", b"[%d]" % number, [*plugins]) for number in numbers]
    assert journal.commit([], appends) is None
    return numbers


def end(journal: Journal, plugin: str, *numbers: int, cursor: int = 0) -> None:
    """End these events for a plugin, all up to the cursor having ended."""
    journal.commit([Delete(plugin, [number], [SIZE]) for number in numbers], [], {plugin: cursor})


def waiting(journal: Journal, plugin: str) -> list[int]:
    """The numbers of what waits for a plugin."""
    return [row.number for row in journal.read(plugin, 0, 1000)]


def rows(path: Path, table: str = "event") -> int:
    """The number of rows of a table."""
    with closing(sqlite3.connect(path)) as connection:
        count: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count


def test_one_row_for_all(journal: Journal, path: Path) -> None:
    """An event is written once, and read by each of its plugins; it goes with its last end."""
    numbers = put(journal, 10, "a", "b", "c")
    assert rows(path) == 10
    for plugin in ("a", "b", "c"):
        assert waiting(journal, plugin) == numbers
        end(journal, plugin, *numbers[:4], cursor=numbers[3])
        assert waiting(journal, plugin) == numbers[4:]
    assert (rows(path), rows(path, "exception")) == (6, 0)
    assert journal.counts()["a"] == Backlog(6, 6 * SIZE)


def test_ends_out_of_order(journal: Journal, path: Path) -> None:
    """An event that ends before an earlier one is an exception until the cursor has passed it."""
    numbers = put(journal, 10, "a", "b")
    end(journal, "a", *numbers[1:])
    assert (rows(path), rows(path, "exception")) == (10, 9)
    assert waiting(journal, "a") == numbers[:1]
    end(journal, "b", *numbers[:5], cursor=numbers[4])
    assert waiting(journal, "b") == numbers[5:]
    assert (rows(path), rows(path, "exception")) == (6, 5)
    end(journal, "b", *numbers[6:])
    assert (rows(path), rows(path, "exception")) == (2, 1)
    end(journal, "b", numbers[5], cursor=numbers[9])
    end(journal, "a", numbers[0], cursor=numbers[9])
    assert (rows(path), rows(path, "exception")) == (0, 0)
    assert journal.counts() == {}


def test_an_event_of_one_plugin_goes_with_its_end(journal: Journal, path: Path) -> None:
    """Behind one that backs off, the events of a single plugin leave nothing."""
    numbers = put(journal, 10, "a")
    journal.commit([Update("a", numbers[0], b"[]", 5.0)], [])
    end(journal, "a", *numbers[1:])
    assert (rows(path), rows(path, "exception")) == (1, 1)
    assert [row.history for row in journal.read("a", 0, 10)] == [b"[]"]


def test_an_end_counts_once(journal: Journal) -> None:
    """An end that is written twice, in or out of order, is counted once."""
    numbers = put(journal, 4, "a", "b")
    for _ in range(2):
        end(journal, "a", numbers[2])
    for _ in range(2):
        end(journal, "a", *numbers[:3], cursor=numbers[2])
    assert journal.counts()["a"].count == 1


def test_attempts_are_of_one_plugin(journal: Journal) -> None:
    """An event that has failed for one plugin is as it was for the others."""
    (number,) = put(journal, 1, "a", "b")
    journal.commit([Update("a", number, b"[1]", 7.0)], [])
    assert [(row.history, row.retry_at) for row in journal.read("a", 0, 1)] == [(b"[1]", 7.0)]
    assert [(row.history, row.retry_at) for row in journal.read("b", 0, 1)] == [(None, None)]
    journal.commit([Bury("a", number, LETTER, SIZE)], [], {"a": number})
    assert waiting(journal, "a") == []
    assert waiting(journal, "b") == [number]
    with journal.dead_letters() as letters:
        assert [(letter.plugin, letter.payload) for letter in letters.list()] == [
            ("a", b"[%d]" % number)
        ]


def test_several_audiences_are_read_in_order(journal: Journal) -> None:
    """A plugin reads the events that it has alone and with others in the order of numbers."""
    numbers = [
        *put(journal, 3, "a"),
        *put(journal, 3, "a", "b", start=3),
        *put(journal, 3, "b", "a", start=6),
        *put(journal, 3, "c", start=9),
        *put(journal, 3, "a", "c", start=12),
    ]
    expected = numbers[:9] + numbers[12:]
    assert waiting(journal, "a") == expected
    assert [row.number for row in journal.read("a", expected[3], 4)] == expected[4:8]


def test_more_audiences_than_there_may_be(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event for which no set of subscribers is free gets a larger one, and reaches only those
    that it is for."""
    monkeypatch.setattr(_subscribers, "SETS", 2)
    names = ["a", "b", "c", "d"]
    sets = [[one, other] for one in names for other in names if one < other]
    expected: dict[str, list[int]] = {name: [] for name in names}
    for at, members in enumerate(sets):
        (number,) = put(journal, 1, *members, start=at)
        for name in members:
            expected[name].append(number)
    assert {name: waiting(journal, name) for name in names} == expected
    assert {name: each.count for name, each in journal.counts().items()} == dict.fromkeys(names, 3)
    for name in names:
        end(journal, name, *expected[name], cursor=expected[name][-1])
    assert (rows(path), rows(path, "exception")) == (0, 0)


@pytest.mark.parametrize("ended", range(4))
def test_a_restart_in_the_middle(journal: Journal, path: Path, ended: int) -> None:
    """Cursors and exceptions are as they were after the next start."""
    numbers = put(journal, 4, "a", "b")
    end(journal, "a", *numbers[:ended], cursor=numbers[ended] - 1)
    end(journal, "b", numbers[ended])
    left = {"a": numbers[ended:], "b": numbers[:ended] + numbers[ended + 1 :]}
    journal.close()
    with closing(Journal.open(path)) as again:
        assert {plugin: waiting(again, plugin) for plugin in left} == left
        assert {plugin: again.counts()[plugin].count for plugin in left} == {
            plugin: len(each) for plugin, each in left.items()
        }


def test_each_crash_counts_once(path: Path) -> None:
    """An event that was in flight when a process died has one more crash at each next start."""
    with closing(Journal.open(path)) as journal:
        put(journal, 1, "a")
    for crashes in range(3):
        with closing(Journal.open(path)) as journal:
            (first,) = journal.read("a", 0, 9)
            assert first.crashes == crashes
            journal.register.take(first.number, journal.subscribe(["a"])["a"])
