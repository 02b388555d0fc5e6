"""A store of version 1 becomes one of this version at its next start, as a whole or not at all."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from trivet._store import _copying, _migration, _register
from trivet._store._dead_letters import Criteria, DeadLetters
from trivet._store._journal import Journal
from trivet._store._records import Backlog, JournalFullError, JournalUnavailableError

STORED = Path(__file__).with_name("stored_by_1.tar.xz")
"""The store of a program of version 1 that was killed, with its log and its register.

The forty events of the plugins `keeper` and `hoarder` were those with the numbers 0 to 39. `keeper`
had handled two, one was a dead letter, one backed off, and two were in flight; `hoarder` read none.
"""
KILLS = int(os.environ.get("TRIVET_KILLS", "10"))
OPEN = """
import sys
from pathlib import Path
from trivet._store._journal import Journal
Journal.open(Path(sys.argv[1])).close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a copy of that store."""
    with tarfile.open(STORED) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "store.sqlite3"


def of_the_same_boot(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the machine not start again since that program was killed."""
    with closing(_register.Register(Path(f"{path}.inhand"))) as register:
        boot = vars(register)["_slots"][_register.BOOT]
    monkeypatch.setattr(_register, "this_boot", lambda: boot)


def numbers(journal: Journal, plugin: str) -> list[int]:
    """The events that wait for a plugin, as their publisher had numbered them."""
    return [int(row.payload[10:-1]) for row in journal.read(plugin, 0, 1000)]


def large(path: Path, count: int) -> None:
    """Make it one with many events."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE queue SET payload = CAST('{\"number\":7}' AS BLOB)")
        copies = (
            "INSERT INTO queue SELECT (SELECT max(number) FROM queue) + row_number() OVER (), "
            "plugin, envelope, payload, history, retry_at, crashes FROM queue"
        )
        while connection.execute("SELECT count(*) FROM queue").fetchone()[0] < count:
            connection.execute(copies)
        connection.commit()


def content(path: Path) -> list[Any]:
    """All that is in a store of version 1."""
    with closing(sqlite3.connect(path)) as connection:
        tables = ("queue", "seen", "dead_letter", "plugin", "counter")
        rows = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    return rows


def test_everything_is_in_the_new_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events, attempts, crashes, ids and dead letters are as they were; what was handled is not
    there again."""
    of_the_same_boot(path, monkeypatch)
    with closing(Journal.open(path)) as journal:
        assert not journal.lost
        assert not journal.cannot_tell
        assert numbers(journal, "hoarder") == [*range(40)]
        rows = journal.read("keeper", 0, 1000)
        assert [int(row.payload[10:-1]) for row in rows] == [2, *range(4, 40)]
        failed, *others = rows
        assert failed.history is not None
        assert b"once more" in failed.history
        assert failed.retry_at is not None
        assert [row.crashes for row in others] == [1, 1, *[0] * 34]
        backlog = journal.backlog()
        assert backlog["keeper"] == Backlog(37, sum(row.size for row in rows))
        assert backlog["hoarder"].count == 40
        assert len(journal.seen("keeper")) == 40
        with journal.dead_letters() as letters:
            (letter,) = letters.list()
        assert (letter.plugin, letter.number, letter.id) == ("keeper", 1, "n-1")
    assert not Path(f"{path}.new").exists()
    with DeadLetters(path) as letters:
        assert letters.replay(Criteria(numbers=[1])) == 1
    with closing(Journal.open(path)) as journal:
        assert numbers(journal, "keeper")[-1] == 1


def test_a_log_line_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that takes long says how far it is."""
    monkeypatch.setattr(_migration, "TELL_EVERY", 0.0)
    monkeypatch.setattr(_copying, "PIECE", 10)
    with capture_logs() as logs:
        Journal.open(path).close()
    told = [line["copied"] for line in logs if line["event"] == "the store gets a new form"]
    assert told[:3] == [10, 20, 30]
    assert logs[-1]["event"] == "the store has a new form"


def test_damaged_rows_are_kept(path: Path) -> None:
    """Rows with values of a wrong type are in the new store as they were, and no others suffer."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        place = "WHERE number = (SELECT number FROM queue ORDER BY number LIMIT 1 OFFSET {})"
        connection.execute(
            "UPDATE queue SET envelope = 'text', retry_at = 'soon', crashes = 'many' "
            + place.format(0)
        )
        connection.execute("UPDATE queue SET plugin = 'nobody' " + place.format(1))
    with closing(Journal.open(path)) as journal:
        assert journal.orphans() == 1
        damaged = [row.damage for row in journal.read("hoarder", 0, 1000) if row.damage]
        damaged += [row.damage for row in journal.read("keeper", 0, 1000) if row.damage]
        assert damaged == ["damaged in the store: envelope, retry_at, crashes"]


@pytest.mark.parametrize("content", [b"\0" * 4096, b"\xa5" * 4096], ids=["zeroed", "noise"])
def test_damaged_pages_cost_their_events(path: Path, content: bytes) -> None:
    """Whichever page of an old store is damaged, the new one has every event, those on the page
    without their content; only a page of the schema keeps it from being read."""
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw, every = path.read_bytes(), [("hoarder", number) for number in range(40)]
    every += [("keeper", number) for number in (2, *range(4, 40))]
    for place in range(0, len(raw), 4096):
        page = raw[place : place + 4096]
        path.write_bytes(raw[:place] + content + raw[place + 4096 :])
        if b"CREATE TABLE" in page:
            with pytest.raises(JournalUnavailableError):
                Journal.open(path)
            continue
        with closing(Journal.open(path)) as journal:
            rows = journal.read("hoarder", 0, 1000) + journal.read("keeper", 0, 1000)
        assert len(rows) == len(every)
        for (plugin, number), row in zip(every, rows, strict=True):
            payload = b'{"number":%d}' % number
            assert row.plugin == plugin
            assert row.payload == payload or (row.damage and payload in page)


def test_a_file_with_two_names_is_left_alone(path: Path) -> None:
    """A file that another name leads to is refused, since that would lead to the old one."""
    path.with_name("other").hardlink_to(path)
    before = content(path)
    with pytest.raises(JournalUnavailableError, match="several names"):
        Journal.open(path)
    assert content(path) == before


def test_no_room(disk: Path, path: Path) -> None:
    """A migration that finds no room leaves the old store as it is, and nothing beside it; with
    room it begins again."""
    large(path, 10_000)
    small = disk / "store.sqlite3"
    small.write_bytes(path.read_bytes())
    before = content(small)
    with pytest.raises(JournalFullError):
        Journal.open(small)
    assert content(small) == before
    assert not Path(f"{small}.new").exists()
    subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
    with closing(Journal.open(small)) as journal:
        assert sum(each.count for each in journal.counts().values()) == len(before[0])


@pytest.mark.process
def test_one_that_is_killed_begins_again(path: Path, tmp_path: Path) -> None:
    """However often a migration is killed, the old store is as it was until the new one is whole,
    which then has every event."""
    large(path, 5000)
    old = shutil.copytree(tmp_path, tmp_path / "old")
    before = content(path)
    dice, kills, takes = random.Random(1), 0, 0.1
    while kills < KILLS:
        began = time.monotonic()
        with subprocess.Popen([sys.executable, "-c", OPEN, str(path)]) as child:
            new = Path(f"{path}.new")
            while child.poll() is None and not new.exists():
                began = time.monotonic()
            try:
                child.wait(dice.uniform(0, 1.2 * takes))
            except subprocess.TimeoutExpired:
                child.kill()
                kills += 1
            else:
                assert child.returncode == 0
                takes = time.monotonic() - began
        if version(path) == 1:
            assert content(path) == before
            continue
        with closing(Journal.open(path)) as journal:
            counts = journal.counts()
        assert sum(each.count for each in counts.values()) == len(before[0])
        shutil.copytree(old, tmp_path, dirs_exist_ok=True)


def version(path: Path) -> int:
    """The version of a store's tables."""
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found
