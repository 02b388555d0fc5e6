"""The register of what is in flight: what a killed process has left, and who is blamed for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from trivet._store import _register
from trivet._store._journal import Journal
from trivet._store._records import Delete, Row
from trivet._store._register import SIZE, SLOTS, LeftOver, Register

from .rows import appended

OPENING = 7
SUBSCRIBER = 3
NOTHING = LeftOver([], [])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the register."""
    return tmp_path / "journal.db.inhand"


@pytest.fixture
def register(path: Path) -> Iterator[Register]:
    """The register of a process that will die."""
    register = Register(path)
    register.begin(OPENING)
    yield register
    register.close()


def left_over(path: Path, opening: int = OPENING) -> LeftOver:
    """The events that the next process finds."""
    register = Register(path)
    left = register.left_over(opening)
    register.close()
    return LeftOver(sorted(left.done), sorted(left.blamed))


def places(*numbers: int) -> list[tuple[int, int]]:
    """Events of the one subscriber."""
    return [(number, SUBSCRIBER) for number in numbers]


def test_states_that_a_process_leaves(register: Register, path: Path) -> None:
    """Handled events are left as handled, events in flight are blamed, and released ones
    forgotten."""
    for number in range(1, 7):
        register.take(number, SUBSCRIBER)
    register.done(1, SUBSCRIBER)
    register.done(2, SUBSCRIBER)
    register.done(3, SUBSCRIBER)
    register.release([3, 6], SUBSCRIBER)
    assert left_over(path) == LeftOver(done=places(1, 2), blamed=places(4, 5))


def test_large_numbers(register: Register, path: Path) -> None:
    """The numbers are those of the journal's openings, up to 63 bits."""
    number = 2**63 - 1
    register.take(number, SUBSCRIBER)
    register.take(number - 1, SUBSCRIBER)
    register.done(number - 1, SUBSCRIBER)
    assert left_over(path) == LeftOver(done=places(number - 1), blamed=places(number))


def test_taken_again(register: Register, path: Path) -> None:
    """An event handed out a second time is in flight once, even if it was handled before."""
    register.take(1, SUBSCRIBER)
    register.done(1, SUBSCRIBER)
    register.take(1, SUBSCRIBER)
    assert left_over(path) == LeftOver(done=places(), blamed=places(1))
    register.release([1], SUBSCRIBER)
    assert left_over(path) == NOTHING


def test_events_that_were_never_taken(register: Register, path: Path) -> None:
    """Handling or releasing an event that was never taken changes nothing."""
    register.done(1, SUBSCRIBER)
    register.release([1, 2], SUBSCRIBER)
    register.take(1, SUBSCRIBER)
    register.release([1], SUBSCRIBER)
    register.release([1], SUBSCRIBER)
    register.take(2, SUBSCRIBER)
    register.take(3, SUBSCRIBER)
    assert left_over(path) == LeftOver(done=places(), blamed=places(2, 3))


def test_capacity(register: Register, path: Path) -> None:
    """An event that does not fit is not taken, until another is released."""
    for number in range(1, SLOTS + 2):
        register.take(number, SUBSCRIBER)
    register.done(SLOTS + 1, SUBSCRIBER)
    register.take(1, SUBSCRIBER)  # It has a slot already.
    assert left_over(path) == LeftOver(done=[], blamed=places(*range(1, SLOTS + 1)))
    register.release([1], SUBSCRIBER)
    register.take(SLOTS + 1, SUBSCRIBER)
    assert left_over(path).blamed == places(*range(2, SLOTS + 2))


def test_stop_blames_nothing(register: Register, path: Path) -> None:
    """Once a stop has begun, nothing in flight is blamed, as slow events are killed then too."""
    register.take(1, SUBSCRIBER)
    register.stop_begins()
    register.take(2, SUBSCRIBER)
    register.take(3, SUBSCRIBER)
    register.done(3, SUBSCRIBER)
    assert left_over(path) == LeftOver(done=places(3), blamed=places())


def test_begin_clears(path: Path) -> None:
    """A new opening starts with an empty register, in which events can be blamed again."""
    register = Register(path)
    register.begin(OPENING)
    register.take(1, SUBSCRIBER)
    register.stop_begins()
    register.close()
    register = Register(path)
    register.begin(OPENING + 1)
    assert left_over(path, OPENING + 1) == NOTHING
    register.take(2, SUBSCRIBER)
    assert left_over(path, OPENING + 1) == LeftOver(done=places(), blamed=places(2))
    register.close()


def test_other_opening(register: Register, path: Path) -> None:
    """The register of another opening than the last one says nothing."""
    register.take(1, SUBSCRIBER)
    assert left_over(path, OPENING + 1) == NOTHING


def test_other_boot(register: Register, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut nothing is blamed, nor believed to be handled."""
    register.take(1, SUBSCRIBER)
    register.take(2, SUBSCRIBER)
    register.done(2, SUBSCRIBER)
    other = path.with_name("boot_id")
    other.write_text("another boot")
    monkeypatch.setattr(_register, "BOOT_ID", other)
    assert left_over(path) == NOTHING


def test_file_of_another_size(path: Path) -> None:
    """A file that was cut off, or never finished, is made again."""
    path.write_bytes(b"\1" * 100)
    assert left_over(path) == NOTHING
    assert path.stat().st_size == SIZE
    assert path.stat().st_blocks * 512 >= SIZE, "it has all its room from the beginning"


def test_in_memory() -> None:
    """A register without a file works the same, and ends with the process."""
    register = Register(None)
    register.begin(OPENING)
    register.take(1, SUBSCRIBER)
    register.take(2, SUBSCRIBER)
    register.done(2, SUBSCRIBER)
    assert register.left_over(OPENING) == LeftOver(done=places(2), blamed=places(1))
    register.close()


# With the journal.


def crashed(journal: Journal) -> dict[int, int]:
    """How often the process died with each waiting event in flight, by its place."""
    first = journal.new_numbers() & (1 << 40) - 1
    return {row.number & (1 << 40) - 1: row.crashes for row in journal.read("p", first, 100)}


def test_journal_settles_what_was_left(tmp_path: Path) -> None:
    """At its opening the journal deletes what was handled, and counts a crash for the others."""
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    first = journal.new_numbers()
    journal.commit([], [appended(Row("p", first + at, b"", b"")) for at in range(5)])
    for at in range(4):
        journal.register.take(first + at, 1)
    journal.register.done(first, 1)
    journal.register.done(first + 1, 1)
    journal.commit([Delete("p", [first + 1], [0])], [])
    journal.register.release([first + 1, first + 3], 1)
    journal.close()
    for _ in range(2):
        journal = Journal.open(path)
        assert crashed(journal) == {2: 1, 3: 0, 4: 0}
        assert journal.backlog()["p"].count == 3
        journal.close()


def test_journal_counts_each_crash_once(tmp_path: Path) -> None:
    """A process that dies while it settles what was left does not blame an event again."""
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    number = journal.new_numbers()
    journal.commit([], [appended(Row("p", number, b"", b""))])
    journal.register.take(number, 1)
    journal.close()
    register = Path(f"{path}.inhand")
    shutil.copy(register, tmp_path / "as it was")
    Journal.open(path).close()
    shutil.copy(tmp_path / "as it was", register)  # As if it had died before it began anew.
    journal = Journal.open(path)
    assert crashed(journal) == {0: 1}
    journal.register.take(number, 1)
    journal.close()
    journal = Journal.open(path)
    assert crashed(journal) == {0: 2}
    journal.close()
