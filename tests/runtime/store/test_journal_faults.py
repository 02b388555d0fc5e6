"""The journal where something fails: the disk, the process, the file; nothing committed is lost."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from msgspec.structs import replace

from trivet._store._ballast import BALLAST
from trivet._store._commit import Append
from trivet._store._dead_letters import DeadLetters
from trivet._store._journal import Journal
from trivet._store._records import (
    Bury,
    DeadLetterFacts,
    Delete,
    Forget,
    JournalFullError,
    JournalUnavailableError,
    Row,
    Seen,
    Settlement,
    Update,
)

from ..wording import said_by
from .rows import appended

PLUGIN = "audit_trail"

PREAMBLE = """
import os, signal, sys
from pathlib import Path
from trivet._store._journal import Journal
from trivet._store._commit import Append
from trivet._store._records import Delete, Row

path, argument = Path(sys.argv[1]), sys.argv[2]
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def row(number):
    return Append(number, b"{}", b"x" * 300, ["audit_trail"])
"""
FILLED = """
journal = Journal.open(path)
first = journal.new_numbers()
for number in range(first, first + 200):
    journal.commit([], [row(number)])
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
STOPPED = "journal.close()"
BUSY = """
journal = Journal.open(path)
number = journal.new_numbers()
queue, settled = [], []
while True:
    batch = range(number, number + 5)
    number += 5
    deletes = [Delete("audit_trail", [done], [0]) for done in settled]
    journal.commit(deletes, [row(new) for new in batch])
    journal.register.release(settled, 1)
    settled = []
    say("committed", *batch)
    queue.extend(batch)
    for _ in range(4):
        say("takes", queue[0])
        journal.register.take(queue[0], 1)
        settled.append(queue.pop(0))
        journal.register.done(settled[-1], 1)
        say("done", settled[-1])
"""
SYNCED = """
journal = Journal.open(path, synchronous=argument)
number = journal.new_numbers()
journal.commit([], [row(number)])
say("begins")
journal.commit([], [row(number + 1)])
say("returned")
"""


def row(number: int, *, size: int = 300) -> Row:
    """An event of so many bytes."""
    return Row(PLUGIN, number, b"{}", b"x" * (size - 2))


def appends(journal: Journal, count: int, *, start: int = 0, size: int = 300) -> list[Append]:
    """So many events."""
    first = journal.new_numbers() + start
    return [appended(row(first + at, size=size)) for at in range(count)]


def waiting(journal: Journal) -> list[int]:
    """The numbers of what waits."""
    return [row.number for row in journal.read(PLUGIN, 0, 1_000_000)]


def run_child(
    path: Path, script: str, argument: str = "", *, under: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Run a script in a process of its own."""
    command = [*under, sys.executable, "-c", PREAMBLE + script, str(path), argument]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


# Statements that fail.


class Faulty(sqlite3.Connection):
    """A connection some statements of which fail; it does not wait for another one's lock."""

    latest: ClassVar[Faulty]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "timeout": 0})
        self.fails: Callable[[str], bool] = lambda sql: False
        """Decides about each statement."""
        self.count = 0
        """How many statements there were."""
        Faulty.latest = self

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        self._decide(sql)
        return super().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        self._decide(sql)
        return super().executemany(sql, *args)

    def _decide(self, sql: str) -> None:
        self.count += 1
        if self.fails(sql.strip()):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error

    def fail_at(self, first: int, last: int) -> None:
        """Have the statements from the `first` from now on to the `last` fail; 0 is the next."""
        now = self.count
        self.fails = lambda sql: now + first < self.count <= now + last + 1

    def fail_at_words(self, *words: str) -> None:
        """Have the statements fail that begin with one of these."""
        self.fails = lambda sql: sql.startswith(words)

    def recover(self) -> None:
        """Have none fail from now on."""
        self.fails = lambda sql: False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the journal."""
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """A journal whose statements can be made to fail."""
    journal = Journal.open(path, factory=Faulty)
    yield journal
    journal.close()


@pytest.fixture
def connection(journal: Journal) -> Faulty:
    """The switch that makes them fail."""
    return Faulty.latest


def contents(path: Path) -> list[object]:
    """All that is in the file, as another connection sees it."""
    tables = ("subscriber", "event", "exception", "seen", "dead_letter")
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


def one_of_each(journal: Journal) -> list[Settlement]:
    """The settlements that there are, for the first events of a journal."""
    first = journal.new_numbers()
    letter = DeadLetterFacts("ping", "1", "test", 5.0, "no", b"[]")
    return [
        Delete(PLUGIN, [first], [0]),
        Bury(PLUGIN, first + 1, letter),
        Update(PLUGIN, first + 2, b"[]", 5.0),
        Forget(PLUGIN, "s", "0"),
    ]


def seen_appends(journal: Journal) -> list[Append]:
    """Nine events that are remembered."""
    return [
        replace(append, seen=[(PLUGIN, Seen("s", str(at), 1e12))])
        for at, append in enumerate(appends(journal, 9))
    ]


STATEMENTS = 18
"""The statements of a commit here: BEGIN, four for settlements, two for appends, COMMIT."""


def test_statements_of_a_commit(journal: Journal, connection: Faulty) -> None:
    """The following tests let each statement of a transaction fail, and miss none."""
    events = seen_appends(journal)
    journal.commit([], events[:6])
    before = connection.count
    journal.commit(one_of_each(journal), events[6:])
    assert connection.count - before == STATEMENTS


@pytest.mark.parametrize("number", range(STATEMENTS))
def test_all_or_nothing(journal: Journal, connection: Faulty, path: Path, number: int) -> None:
    """A transaction that breaks off anywhere leaves nothing, and can be tried again."""
    events, settled = seen_appends(journal), one_of_each(journal)
    assert journal.commit([], events[:6]) is None
    before = contents(path)
    connection.fail_at(number, 1_000)
    with pytest.raises(JournalUnavailableError, match="disk I/O error"):
        journal.commit(settled, events[6:])
    connection.recover()
    assert contents(path) == before
    assert journal.commit(settled, events[6:]) is None
    assert waiting(journal) == [append.number for append in events[2:]]
    assert len(journal.seen(PLUGIN)) == 8


@pytest.mark.parametrize("number", range(STATEMENTS))
def test_settlements_survive(journal: Journal, connection: Faulty, path: Path, number: int) -> None:
    """A transaction that fails once, anywhere, refuses the appends, and has all settlements in."""
    events, settled = seen_appends(journal), one_of_each(journal)
    assert journal.commit([], events[:6]) is None
    connection.fail_at(number, number)
    error = journal.commit(settled, events[6:])
    assert isinstance(error, JournalUnavailableError)
    assert str(error) == f"{path}: disk I/O error"
    assert waiting(journal) == [append.number for append in events[2:6]]
    assert len(journal.seen(PLUGIN)) == 5
    with DeadLetters(path) as letters:
        assert letters.count() == 1
    assert journal.commit([], events[6:]) is None
    assert len(waiting(journal)) == 7


def test_appends_alone_are_refused(journal: Journal, connection: Faulty) -> None:
    """A failure is an answer and not an error where there is nothing to settle."""
    connection.fail_at_words("INSERT")
    assert isinstance(journal.commit([], appends(journal, 2)), JournalUnavailableError)
    assert waiting(journal) == []


def test_new_plugin_in_a_transaction_that_fails(journal: Journal, connection: Faulty) -> None:
    """A plugin that was first heard of in a transaction that failed is written down by the next."""
    connection.fail_at_words("COMMIT")
    assert isinstance(journal.commit([], appends(journal, 1)), JournalUnavailableError)
    connection.recover()
    assert journal.commit([], appends(journal, 1)) is None
    assert len(waiting(journal)) == 1
    assert set(journal.counts()) == {PLUGIN}


def test_transaction_that_stays_open(journal: Journal, connection: Faulty, path: Path) -> None:
    """A transaction that could neither be ended nor undone is undone before the next one."""
    connection.fail_at_words("COMMIT", "ROLLBACK")
    assert isinstance(journal.commit([], appends(journal, 3)), JournalUnavailableError)
    with pytest.raises(JournalUnavailableError):
        journal.commit([Delete(PLUGIN, [1], [0])], [])
    connection.recover()
    assert journal.commit([], appends(journal, 1, start=3)) is None
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM event").fetchone() == (1,)


def test_error_that_is_not_of_the_file(journal: Journal) -> None:
    """An error that is not the file's leaves nothing of a transaction, and is passed on."""
    good = appends(journal, 2)
    with pytest.raises(AttributeError):
        journal.commit([], [good[0], cast("Append", None)])
    with pytest.raises(TypeError):
        journal.commit(
            [Delete(PLUGIN, [1], [0])], [good[0], Append(1, cast("bytes", None), b"", [PLUGIN])]
        )
    assert waiting(journal) == []
    assert journal.commit([], good) is None


def test_reading_fails(journal: Journal, connection: Faulty, path: Path) -> None:
    """An error of reading has the path."""
    connection.fail_at_words("SELECT")
    for ask in (
        lambda: journal.read(PLUGIN, 0, 1),
        lambda: journal.read_numbers(PLUGIN, [1]),
        lambda: journal.seen(PLUGIN),
        journal.counts,
    ):
        with pytest.raises(JournalUnavailableError, match=re.escape(f"{path}: disk I/O error")):
            ask()
    connection.recover()


def test_locked_by_another_connection(journal: Journal, path: Path) -> None:
    """The appends are refused while another connection does not end its transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as third:
            why = said_by(third.execute, "BEGIN IMMEDIATE")
        error = journal.commit([], appends(journal, 1))
        assert isinstance(error, JournalUnavailableError)
        assert why in str(error)
    assert journal.commit([], appends(journal, 1)) is None


def test_read_only_database(journal: Journal, connection: Faulty) -> None:
    """A file that SQLite may not write refuses events, and can still be read."""
    assert journal.commit([], appends(journal, 2)) is None
    connection.execute("PRAGMA query_only = 1")
    why = said_by(connection.execute, "CREATE TABLE refused (number)")
    error = journal.commit([], appends(journal, 2, start=2))
    assert isinstance(error, JournalUnavailableError)
    assert why in str(error)
    with pytest.raises(JournalUnavailableError, match=why):
        journal.commit([Delete(PLUGIN, [journal.new_numbers()], [0])], [])
    assert len(waiting(journal)) == 2
    connection.execute("PRAGMA query_only = 0")
    assert journal.commit([], appends(journal, 2, start=2)) is None


def test_file_that_was_replaced(journal: Journal, path: Path, tmp_path: Path) -> None:
    """Events are not written into a file that nobody would find again."""
    path.rename(tmp_path / "moved away")
    error = journal.commit([], appends(journal, 1))
    assert isinstance(error, JournalUnavailableError)
    path.write_bytes(b"")
    error = journal.commit([], appends(journal, 1))
    assert isinstance(error, JournalUnavailableError)
    assert "replaced" in str(error)


# A disk that is full.


def room(disk: Path) -> int:
    """Bytes that are left."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path) -> Path:
    """Have another program take all the room that there is; returns its file."""
    file = disk / "other program"
    with file.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))
    assert room(disk) == 0
    return file


def test_disk_that_another_program_fills(disk: Path) -> None:
    """While the disk is full, appends are refused, what is there is read, and drains event by
    event; when there is room, appends are taken again."""
    journal = Journal.open(disk / "journal.db")
    events = appends(journal, 3001)
    for event in events[:3000:10]:
        assert journal.commit([], [event]) is None
    other = fill(disk)
    for _ in range(3):
        error = journal.commit([], events[3000:])
        assert isinstance(error, JournalFullError)
        assert str(error) == f"{disk}/journal.db: the disk is full"
    numbers = waiting(journal)
    assert numbers == [event.number for event in events[:3000:10]]
    for number in numbers:
        error = journal.commit([Delete(PLUGIN, [number], [0])], events[3000:])
        assert isinstance(error, JournalFullError)
    assert waiting(journal) == []
    other.unlink()
    assert journal.commit([], events[3000:]) is None
    assert (disk / "journal.db.ballast").stat().st_size == BALLAST
    journal.close()


@pytest.mark.parametrize("group", [1, 50])
def test_disk_that_the_journal_fills(disk: Path, group: int) -> None:
    """A journal that has a small disk for itself takes what fits, loses none of it, drains, and
    takes the same again; the room comes back without a call of `tidy`."""
    journal = Journal.open(disk / "journal.db")
    start = 0
    taken: list[int] = []
    for _ in range(2):
        accepted: list[int] = []
        while True:
            events = appends(journal, group, start=start)
            start += group
            if (error := journal.commit([], events)) is not None:
                break
            accepted += [event.number for event in events]
        assert isinstance(error, JournalFullError)
        assert waiting(journal) == accepted
        for number in accepted:
            assert journal.commit([Delete(PLUGIN, [number], [0])], []) is None
        assert waiting(journal) == []
        taken.append(len(accepted))
    assert taken[0] * 300 > 1 << 20
    assert taken[1] > taken[0] * 0.9
    journal.close()


def test_giving_up_while_the_disk_is_full(disk: Path) -> None:
    """On a full disk events can fail, be tried again, and end as dead letters."""
    journal = Journal.open(disk / "journal.db")
    assert journal.commit([], appends(journal, 500)) is None
    fill(disk)
    letter = DeadLetterFacts("ping", "1", "test", 5.0, "no", b"x" * 200)
    for number in waiting(journal):
        assert journal.commit([Update(PLUGIN, number, b"x" * 100, 5.0)], []) is None
        assert journal.commit([Bury(PLUGIN, number, letter)], []) is None
    with DeadLetters(disk / "journal.db") as letters:
        assert letters.count() == 500
    assert waiting(journal) == []
    journal.close()


@pytest.mark.process
@pytest.mark.parametrize("ending", [KILLED, STOPPED], ids=["killed", "stopped"])
def test_opening_on_a_full_disk(disk: Path, ending: str) -> None:
    """On a full disk a program starts, at the price of the ballast, and drains what is there."""
    with run_child(disk / "journal.db", FILLED + ending) as process:
        process.communicate()
    fill(disk)
    journal = Journal.open(disk / "journal.db")
    assert journal.backlog()[PLUGIN].count == 200
    assert isinstance(journal.commit([], appends(journal, 1)), JournalFullError)
    for number in waiting(journal):
        assert journal.commit([Delete(PLUGIN, [number], [0])], []) is None
    assert waiting(journal) == []
    journal.close()


def test_files_beside_are_missing_on_a_full_disk(disk: Path) -> None:
    """Files that were tidied away are made again, at the price of the ballast."""
    Journal.open(disk / "journal.db").close()
    (disk / "journal.db.lock").unlink()
    (disk / "journal.db.inhand").unlink()
    fill(disk)
    Journal.open(disk / "journal.db").close()


def test_no_room_to_begin_with(disk: Path) -> None:
    """A journal that cannot be made for want of room says so."""
    fill(disk)
    with pytest.raises(JournalFullError):
        Journal.open(disk / "journal.db")


def test_read_only_file_system(disk: Path) -> None:
    """A file that cannot be written is not opened, and the message says which, and why."""
    Journal.open(disk / "journal.db").close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(JournalUnavailableError, match=os.strerror(errno.EROFS)) as caught:
        Journal.open(disk / "journal.db")
    assert str(caught.value).startswith(f"{disk}/journal.db: ")


# A process that is killed.


@pytest.mark.process
@pytest.mark.parametrize("seed", range(5))
def test_killed_process(path: Path, seed: int) -> None:
    """However a process is killed, what was committed is there, in order; what was handled does
    not come back; and only what may have been in flight is blamed."""
    count = random.Random(seed).randrange(10, 2000)
    with run_child(path, BUSY) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
        lines += process.stdout.readlines()
    said: dict[str, list[int]] = {"committed": [], "takes": [], "done": []}
    for line in lines:
        word, *numbers = line.decode().split()
        said[word] += map(int, numbers)
    with closing(Journal.open(path)) as journal:
        rows = journal.read(PLUGIN, 0, 1_000_000)
    left = [row.number for row in rows]
    assert left == sorted(left)
    in_flight = set(said["takes"]) - set(said["done"])
    assert set(said["committed"]) - set(said["done"]) - in_flight <= set(left)
    assert not set(said["done"]) & set(left)
    assert {row.number for row in rows if row.crashes} <= in_flight
    assert len(in_flight) <= 1


@pytest.mark.process
@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_commit_returns_when_the_disk_has_it(path: Path, synchronous: str, tmp_path: Path) -> None:
    """With `full`, the log is on the disk when a commit returns; with `normal`, it need not be."""
    if shutil.which("strace") is None:
        assert os.environ.get("CI") != "true", "strace has to be installed there"
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    calls = "trace=fdatasync,fsync,write"
    strace = ["strace", "-f", "-y", "-e", calls, "-o", str(trace)]
    with run_child(path, SYNCED, synchronous, under=strace) as process:
        process.communicate()
    assert process.returncode == 0
    text = trace.read_text()
    during = text[text.index('"begins') : text.index('"returned')]
    synced = re.findall(r"(?:fdatasync|fsync)\(\d+<(.*?)>\) += 0", during)
    assert synced == ([f"{path}-wal"] if synchronous == "full" else [])


@pytest.mark.parametrize("beside", ["", ".inhand", ".ballast", ".lock"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_pipe_in_place_of_a_file_is_refused_by_its_name(
    beside: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    """A pipe in the place of one of the journal's files is refused, and not waited for."""
    path = tmp_path / "events.sqlite3"
    make(Path(f"{path}{beside}"))
    with pytest.raises(JournalUnavailableError) as refused:
        Journal.open(path)
    assert f"events.sqlite3{beside}: " in str(refused.value)
