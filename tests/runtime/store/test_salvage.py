"""A damaged file is made anew of what can be read, and kept beside the new one."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from trivet._cli import main
from trivet._store._check import examine
from trivet._store._commit import Append
from trivet._store._dead_letters import DeadLetters
from trivet._store._journal import Journal
from trivet._store._raw import rows
from trivet._store._records import (
    Delete,
    JournalFullError,
    JournalUnavailableError,
    Retention,
)

from . import pages
from .pages import PAGE, Sound

SAMPLE = 8
"""Damages that are drawn here, of all that `nox -s crash` tries."""
ALWAYS = Retention(1e12, 1 << 40, 1 << 40)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """A sound file."""
    return pages.make(tmp_path_factory.mktemp("sound") / "store")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file."""
    return tmp_path / "store"


def test_any_page_may_be_damaged(sound: Sound, path: Path) -> None:
    """The program goes on whatever a page holds: no event is lost but those of the page, and each
    of these is a dead letter."""
    every = [*sound.damages(random.randrange(1 << 30))]
    for damage in random.sample(every, SAMPLE):
        try:
            pages.try_out(sound, damage, path)
        except Exception as error:
            raise AssertionError(str(damage)) from error


def test_a_page_of_each_kind_may_be_damaged(sound: Sound, path: Path) -> None:
    """The program goes on with another page in the place of one of each table's and index's."""
    path.write_bytes(sound.raw)
    with closing(sqlite3.connect(path)) as connection:
        kinds = connection.execute(
            "SELECT name, pagetype, min(pageno), max(pageno) FROM dbstat GROUP BY name, pagetype"
        ).fetchall()
    places = {place - 1: f"{name} {kind}" for name, kind, *both in kinds for place in both}
    for damage in sound.damages(1):
        if damage.page in places and damage.how.startswith("with"):
            try:
                pages.try_out(sound, damage, path)
            except Exception as error:
                raise AssertionError(f"{damage}, {places.pop(damage.page)}") from error
            del places[damage.page]
    assert not places


@pytest.mark.parametrize("table", ["audience", "counter", "event", "subscriber"])
def test_rows_of_another_table_are_no_dead_letters(sound: Sound, path: Path, table: str) -> None:
    """Rows with the numbers of dead letters, on a page of another table in their place, are none:
    the log counts the letters as lost."""
    path.write_bytes(sound.raw)
    with closing(sqlite3.connect(path)) as connection:
        first = "SELECT min(pageno) FROM dbstat WHERE name = ? AND pagetype = 'leaf'"
        (theirs,) = connection.execute(first, (table,)).fetchone()
        (ours,) = connection.execute(first, ("dead_letter",)).fetchone()
    damage = pages.Damage(ours - 1, f"with a page of {table}", sound.page(theirs - 1))
    pages.try_out(sound, damage, path)


def overwrite(path: Path, marker: bytes, content: bytes = b"\xff" * PAGE) -> None:
    """Damage the page on which the marker is."""
    at = path.read_bytes().index(marker) & -PAGE
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def filled(path: Path, count: int = 300) -> Path:
    """A file with events for two plugins."""
    with closing(Journal.open(path)) as journal:
        first = journal.new_numbers()
        appends = [
            Append(first + at, b"{}", b'{"at":%d}' % at + b" " * 100, ["a", "b"])
            for at in range(count)
        ]
        assert journal.commit([], appends) is None
    return path


def test_the_damaged_file_is_kept(path: Path) -> None:
    """The damaged file is beside the new one, as it was; the log has its name, and the number of
    the events that are lost."""
    overwrite(filled(path), b'{"at":150}')
    damaged = path.read_bytes()
    with capture_logs() as logs, closing(Journal.open(path)) as journal:
        read = journal.read("a", 0, 1000)
        assert len(journal.read("b", 0, 1000)) == 300
    lost = [row for row in read if row.damage]
    assert lost
    assert all(
        row.damage or row.payload.startswith(b'{"at":%d}' % at) for at, row in enumerate(read)
    )
    (line,) = [line for line in logs if line["log_level"] == "error"]
    kept = Path(line["kept"])
    assert (kept.name, line["lost_events"]) == ("store.damaged", len(lost))
    with closing(sqlite3.connect(kept)) as old, closing(sqlite3.connect(path)) as new:
        with pytest.raises(sqlite3.DatabaseError):
            old.execute("SELECT * FROM event").fetchall()
        assert len(new.execute("SELECT * FROM event").fetchall()) == 300
    assert kept.stat().st_size == len(damaged)
    assert len([*examine(path)]) == len(lost)  # The rows without content.


def test_no_number_is_used_twice(path: Path) -> None:
    """Events that come after the file was made anew have higher numbers than all before."""
    overwrite(filled(path), b"openings")
    with closing(Journal.open(path)) as journal:
        last = journal.read("a", 0, 1000)[-1].number
        assert journal.new_numbers() > last
        assert not journal.lost
        assert not journal.cannot_tell


def test_the_register_outlives_a_damaged_counter(path: Path) -> None:
    """The events that a killed process had handled have ended, also where the page is damaged by
    which the register is known."""
    filled(path, 3)
    journal = Journal.open(path)
    first, *_ = journal.read("a", 0, 10)
    subscriber = journal.subscribe(["a"])["a"]
    journal.register.take(first.number, subscriber)
    journal.register.done(first.number, subscriber)
    beside = path.with_name("killed")
    for suffix in ("", "-wal", ".inhand"):
        beside.with_name(f"killed{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    journal.close()
    with closing(sqlite3.connect(beside)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(beside, b"openings")
    with closing(Journal.open(beside)) as journal:
        left = [row.number for row in journal.read("a", 0, 10)]
        assert left == [first.number + 1, first.number + 2]
        assert len(journal.read("b", 0, 10)) == 3


def test_a_file_without_any_name_is_left_as_it_is(path: Path) -> None:
    """A file stays if no plugin's name can be read: nobody can tell whose the events are."""
    filled(path)
    raw = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'subscriber'"
        roots = [root for (root,) in connection.execute(query)]
    for root in roots:
        raw = raw[: (root - 1) * PAGE] + bytes(PAGE) + raw[root * PAGE :]
    path.write_bytes(raw)
    with pytest.raises(JournalUnavailableError, match="no plugin's name can be read"):
        Journal.open(path)
    assert path.read_bytes() == raw
    assert not Path(f"{path}.new").exists()


def test_no_room_for_a_new_file(disk: Path, path: Path) -> None:
    """Without room the damaged file stays as it is, and nothing is beside it."""
    overwrite(filled(path, 10_000), b'{"at":150}')
    small = disk / "store"
    small.write_bytes(path.read_bytes())
    with closing(Journal.open(small)) as journal:
        with pytest.raises(JournalFullError):
            journal.read("a", 0, 1000)
        assert not Path(f"{small}.new").exists()
        assert not Path(f"{small}.damaged").exists()


def test_a_file_that_is_damaged_again_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are not made anew again and again: a disk that fails is an error that is reported."""
    overwrite(filled(path), b'{"at":150}')
    with closing(Journal.open(path)) as journal:
        journal.read("a", 0, 1000)
        journal.tidy(0.0, ALWAYS)
        connection = vars(journal)["_connection"]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA shrink_memory")
        overwrite(path, b'{"at":250}')
        with pytest.raises(JournalUnavailableError, match="damaged"):
            journal.read("a", 0, 1000)
        monkeypatch.setitem(vars(journal), "_next_salvage", 0.0)
        assert len(journal.read("a", 0, 1000)) == 300
        assert journal.commit([], [Append(journal.new_numbers(), b"", b"", ["a"])]) is None


def test_a_damaged_dead_letter(sound: Sound, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who meets a damaged page is told so, and the next start makes the file anew."""
    path.write_bytes(sound.raw)
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT CAST(payload AS TEXT) FROM dead_letter ORDER BY number LIMIT 1 OFFSET 30"
        (payload,) = connection.execute(query).fetchone()
        query = "SELECT pageno FROM dbstat WHERE name = 'dead_letter' AND pagetype = 'leaf'"
        places = [(page - 1) * PAGE for (page,) in connection.execute(query)]
    raw = bytearray(sound.raw)
    place = next(at for at in places if payload.encode() in raw[at : at + PAGE])
    raw[place : place + PAGE] = bytes(PAGE)
    path.write_bytes(raw)
    monkeypatch.chdir(path.parent)
    Path("trivet.toml").write_text('[store]\npath = "store"\n')
    listed = CliRunner().invoke(main, ["dead-letters", "list"])
    assert listed.exit_code != 0
    assert "the program, or its next start, makes it anew" in listed.output
    with capture_logs() as logs:
        Journal.open(path).close()
    (line,) = [line for line in logs if "lost_dead_letters" in line]
    with DeadLetters(path) as letters:
        assert letters.count() == sound.letters - line["lost_dead_letters"] < sound.letters


def test_an_owner_learns_of_a_damaged_dead_letter(sound: Sound, path: Path) -> None:
    """A running program makes its file anew when somebody else has met a damaged page."""
    damage = next(each for each in sound.damages(1) if b"never" in sound.page(each.page))
    raw = bytearray(sound.raw)
    raw[damage.page * PAGE : (damage.page + 1) * PAGE] = damage.content
    path.write_bytes(raw)
    with closing(Journal.open(path)) as journal:
        with DeadLetters(path) as letters, pytest.raises(JournalUnavailableError):
            letters.list()
        assert journal.changed_by_others()
        with DeadLetters(path) as letters:
            assert letters.list()


def test_events_that_nobody_read_stay(path: Path) -> None:
    """A cursor does not pass an event that has not ended, whatever its subscriber believes."""
    filled(path, 10)
    with closing(Journal.open(path)) as journal:
        numbers = [row.number for row in journal.read("a", 0, 10)]
        ends = [Delete("a", [number], [112]) for number in (*numbers[:3], *numbers[4:])]
        journal.commit(ends, [], {"a": numbers[-1]})
        assert [row.number for row in journal.read("a", 0, 10)] == [numbers[3]]
        assert journal.counts()["a"].count == 1


SIZES = st.lists(st.integers(0, 20_000), max_size=12)
INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.one_of(st.none(), INTEGERS, st.floats(allow_nan=False), st.text(), st.binary())


@given(st.lists(st.tuples(INTEGERS, VALUES, SIZES), max_size=20))
def test_rows_are_read_from_the_pages(some: list[tuple[int, object, list[int]]]) -> None:
    """Rows are read from the pages as SQLite reads them."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, value, large)")
            every = [(number, value, os.urandom(sum(sizes))) for number, value, sizes in some]
            connection.executemany("INSERT OR REPLACE INTO t VALUES (?, ?, ?)", every)
            connection.commit()
            expected = connection.execute("SELECT * FROM t").fetchall()
        found = {number: (number, *values[1:]) for number, values in rows(path, PAGE, 3)}
        assert [found[number] for number, _, _ in expected] == expected


def test_rows_of_every_size_are_read(path: Path) -> None:
    """Rows that just fit on a page are read, those that do not, and those of the first page."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, value, large)")
        sizes = [*range(4020, 4080), *range(8100, 8250), *range(12_200, 12_350)]
        every = [(size, None, os.urandom(size)) for size in sizes]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", every)
        connection.commit()
    assert dict(rows(path, PAGE, 3)) == {size: [None, None, large] for size, _, large in every}
    (schema,) = rows(path, PAGE, 5)
    assert schema[1][:3] == ["table", "t", "t"]


def test_noise_is_no_row(path: Path) -> None:
    """Pages of noise are read to their end, and so are pages of the right kind with noise."""
    dice = random.Random(1)
    noise = [dice.randbytes(PAGE) for _ in range(300)]
    path.write_bytes(b"".join(b"\x0d" + page[1:] for page in noise))
    list(rows(path, PAGE, 4))
