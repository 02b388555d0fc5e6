"""The file of the durable inboxes: what is committed is there, in order, once, whatever happens."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from trivet._store import _upkeep
from trivet._store._ballast import Ballast
from trivet._store._dead_letters import DeadLetters
from trivet._store._journal import Journal
from trivet._store._records import (
    Backlog,
    Delete,
    Forget,
    JournalInUseError,
    JournalUnavailableError,
    Retention,
    Row,
    Seen,
    Update,
)

from .rows import appended

PLUGIN = "audit_trail"
OTHER = "request_log"
KEEP_ALL = Retention(max_age=1e12, max_count=1_000_000, max_bytes=1 << 40)

OPEN = """
import sys
from pathlib import Path
from trivet._store._journal import Journal
from trivet._faults._errors import TrivetError
try:
    Journal.open(Path(sys.argv[1])).close()
except TrivetError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
FORK = """
import os, sys
from pathlib import Path
from trivet._store._journal import Journal

journal = Journal.open(Path(sys.argv[1]))
if os.fork() == 0:
    os.write(1, b"forked\\n")
    sys.stdin.read()
    os.write(1, b"child ends\\n")
    os._exit(0)
os.wait()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the journal, in a directory that is not there yet."""
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """An open journal."""
    journal = Journal.open(path)
    yield journal
    journal.close()


def row(number: int, plugin: str = PLUGIN, *, payload: bytes = b"{}") -> Row:
    """An event that waits."""
    return Row(plugin, number, b'{"id": "%d"}' % number, payload)


def append(journal: Journal, count: int, plugin: str = PLUGIN, *, start: int = 0) -> list[int]:
    """Commit so many events; returns their numbers."""
    first = journal.new_numbers() + start
    numbers = list(range(first, first + count))
    assert journal.commit([], [appended(row(number, plugin)) for number in numbers]) is None
    return numbers


def waiting(journal: Journal, plugin: str = PLUGIN) -> list[int]:
    """The numbers of what waits for a plugin."""
    return [row.number for row in journal.read(plugin, 0, 1_000_000)]


def run_child(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def sql(path: Path, statement: str) -> list[object]:
    """Do something to a file that is not open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def on_disk(path: Path) -> int:
    """The size of the file and of its log, in bytes."""
    files = (path, Path(f"{path}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


# What is in comes out.


def test_round_trip(journal: Journal) -> None:
    """An event comes back as it was put in, with all that is known about it."""
    number = journal.new_numbers()
    stored = Row(PLUGIN, number, b"envelope", b"\x00payload", b"history", 12.5)
    bare = Row(PLUGIN, number + 1, b"", b"")
    assert journal.commit([], [appended(stored), appended(bare)]) is None
    journal.commit([Update(PLUGIN, number, b"history", 12.5)], [])
    assert journal.read(PLUGIN, 0, 10) == [stored, bare]


def test_order(journal: Journal) -> None:
    """Events are read in the order of their numbers, from any of them on, so many at a time."""
    first = journal.new_numbers()
    for number in (3, 1, 2, 0):
        journal.commit([], [appended(row(first + number))])
    assert waiting(journal) == [first, first + 1, first + 2, first + 3]
    read = journal.read(PLUGIN, first, 2)
    assert [row.number - first for row in read] == [1, 2]


def test_each_plugin_has_its_own_queue(journal: Journal) -> None:
    """An event that waits for one plugin is not read by another."""
    mine = append(journal, 3)
    others = append(journal, 2, OTHER, start=3)
    assert (waiting(journal), waiting(journal, OTHER)) == (mine, others)
    assert waiting(journal, "unknown") == []


def test_read_numbers(journal: Journal) -> None:
    """Single events are read by their numbers, as far as they wait for that plugin."""
    numbers = append(journal, 5)
    (other,) = append(journal, 1, OTHER, start=5)
    journal.commit([Delete(PLUGIN, [numbers[0]], [0])], [])
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
    journal.commit([], [appended(row) for row in rows])
    append(journal, 1, OTHER, start=4)
    journal.close()
    journal = Journal.open(path)
    backlog = journal.backlog()
    assert backlog[PLUGIN] == Backlog(4, sum(row.size for row in rows))
    assert backlog[OTHER].count == 1
    journal.commit([Delete(PLUGIN, [rows[0].number], [0])], [])
    assert journal.counts()[PLUGIN].count == 3
    journal.close()


def test_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal without a path works in memory, and leaves no file."""
    monkeypatch.chdir(tmp_path)
    journal = Journal.open(None)
    numbers = append(journal, 3)
    assert journal.commit([Delete(PLUGIN, [numbers[0]], [0])], []) is None
    assert waiting(journal) == numbers[1:]
    journal.register.take(numbers[1], 1)
    assert journal.tidy(0, KEEP_ALL) == 0
    assert not journal.changed_by_others()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_working_directory_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the directory in which the journal was opened, for ever."""
    monkeypatch.chdir(tmp_path)
    journal = Journal.open(Path("state/journal.db"))
    monkeypatch.chdir("/")
    append(journal, 1)
    journal.tidy(0, KEEP_ALL)
    assert journal.path == tmp_path / "state" / "journal.db"
    journal.close()


# Numbers.


def test_numbers_are_never_used_twice(path: Path) -> None:
    """Each opening has numbers above those of all before it, also where nothing was left."""
    firsts: list[int] = []
    for _ in range(3):
        journal = Journal.open(path)
        firsts.append(journal.new_numbers())
        assert waiting(journal) == []
        numbers = append(journal, 10)
        journal.commit([Delete(PLUGIN, [number], [0]) for number in numbers], [])
        journal.close()
    assert firsts[0] + 10 <= firsts[1] < firsts[1] + 10 <= firsts[2]


# What a plugin has seen.


def test_seen(path: Path) -> None:
    """An event that a plugin has had is remembered over a restart, until forgotten or too old."""
    journal = Journal.open(path)
    first, now = journal.new_numbers(), time.time()
    kept, forgotten = Seen("s", "kept", now + 100), Seen("s", "forgotten", now + 100)
    old = Seen("s", "old", now - 1)
    for at, seen in enumerate((kept, forgotten, old)):
        journal.commit([], [appended(row(first + at), seen)])
    journal.commit([], [appended(row(first + 3, OTHER), forgotten)])
    journal.commit([Forget(PLUGIN, "s", "forgotten")], [])
    assert sorted(journal.seen(PLUGIN), key=lambda seen: seen.id) == [kept, old]
    journal.close()
    journal = Journal.open(path)
    assert journal.seen(PLUGIN) == [kept]
    assert journal.seen(OTHER) == [forgotten]
    journal.close()


def test_of_very_much_the_newest_is_remembered(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the newest events are remembered, however many a plugin gets within the window."""
    monkeypatch.setattr(_upkeep, "SEEN_AT_MOST", 3)
    first, now = journal.new_numbers(), time.time()
    seen = [Seen("s", str(at), now + 100 + at) for at in range(5)]
    journal.commit([], [appended(row(first + at), each) for at, each in enumerate(seen)])
    journal.tidy(now, KEEP_ALL)
    assert journal.seen(PLUGIN) == seen[2:]


def test_seen_again(journal: Journal) -> None:
    """An event that comes again after its time, and before a tidying, is remembered anew."""
    first, now = journal.new_numbers(), time.time()
    for at, until in enumerate((now - 1, now + 100)):
        journal.commit([], [appended(row(first + at), Seen("s", "1", until))])
    assert journal.seen(PLUGIN) == [Seen("s", "1", now + 100)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_that_is_wrong(path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """A clock an hour ahead or behind loses no event, nor what is remembered for longer than
    that; and nothing is remembered for more than that hour too long."""
    now = time.time()
    journal = Journal.open(path)
    first = journal.new_numbers()
    long, short = Seen("s", "long", now + 7200), Seen("s", "short", now + 60)
    waits = replace(row(first), history=b"history", retry_at=now + 30)
    journal.commit([], [appended(waits, long), appended(row(first + 1), short)])
    journal.commit([Update(PLUGIN, first, b"history", now + 30)], [])
    journal.close()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 3600 * hours)
        journal = Journal.open(path)
    assert journal.read(PLUGIN, 0, 10) == [waits, row(first + 1)]
    assert long in journal.seen(PLUGIN)
    journal.tidy(now + 61, KEEP_ALL)
    assert journal.seen(PLUGIN) == [long]
    journal.close()


# One transaction, one owner, one thread at a time.


def test_settlements_come_before_appends(journal: Journal) -> None:
    """A forgotten event may come again in the same transaction, and is remembered then."""
    first = journal.new_numbers()
    seen = Seen("s", "1", time.time() + 60)
    journal.commit([], [appended(row(first), seen)])
    again = appended(row(first + 1), seen)
    journal.commit([Forget(PLUGIN, "s", "1"), Delete(PLUGIN, [first], [0])], [again])
    assert (journal.seen(PLUGIN), waiting(journal)) == ([seen], [first + 1])


def test_calls_from_changing_threads(journal: Journal) -> None:
    """Each call may come from another thread, as long as they do not overlap."""
    numbers: list[int] = []

    def push(at: int) -> None:
        numbers.extend(append(journal, 10, start=10 * at))

    for at in range(5):
        thread = threading.Thread(target=push, args=[at])
        thread.start()
        thread.join()
    assert (len(numbers), waiting(journal)) == (50, numbers)


def test_calls_after_the_end(journal: Journal) -> None:
    """A commit to a closed journal is an error, and a second close is none."""
    journal.close()
    assert isinstance(journal.commit([], [appended(row(1))]), JournalUnavailableError)
    with pytest.raises(JournalUnavailableError, match="closed"):
        journal.commit([Delete(PLUGIN, [1], [0])], [])
    journal.close()


@pytest.mark.process
def test_second_process_is_refused(journal: Journal, path: Path) -> None:
    """A second process is told which file is in use, and by which process."""
    answer = run_child(OPEN, path)
    assert answer.returncode == JournalInUseError.exit_code
    why = f"{path} is in use by process {os.getpid()}: one process owns it"
    assert answer.stderr.splitlines()[-1].endswith(why)
    append(journal, 1)


def test_second_opening_in_one_process_is_refused(journal: Journal, path: Path) -> None:
    """The owner cannot open its file a second time before it has closed it."""
    with pytest.raises(JournalInUseError, match=f"process {os.getpid()}"):
        Journal.open(path)
    journal.close()
    Journal.open(path).close()


@pytest.mark.process
def test_forked_child_that_is_left_behind(path: Path) -> None:
    """A child that was forked from the owner, and outlives it, does not keep the next one out."""
    with subprocess.Popen(
        [sys.executable, "-c", FORK, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"forked\n"
        owner.kill()
        owner.wait()
        Journal.open(path).close()
        assert owner.stdin is not None
        owner.stdin.close()  # Which ends the child.
        assert owner.stdout.read() == b"child ends\n"


def test_files_are_private(journal: Journal, path: Path) -> None:
    """Nobody but the owner's user can read the events, in whichever of the files they are."""
    append(journal, 1)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"journal.db", "journal.db-wal", "journal.db.inhand"} <= set(modes)


# Files that are not what they should be.


def test_newer_version_is_refused(path: Path) -> None:
    """A file of a newer Trivet is left alone, and the message says which versions these are."""
    Journal.open(path).close()
    sql(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(JournalUnavailableError, match=r"newer Trivet \(schema 99; this one knows"):
        Journal.open(path)
    with pytest.raises(JournalUnavailableError, match="newer Trivet"):
        DeadLetters(path)
    assert path.read_bytes() == before


def test_foreign_database_is_refused(path: Path) -> None:
    """Another program's SQLite file is left alone."""
    path.parent.mkdir()
    sql(path, "CREATE TABLE bookmarks(url)")
    before = path.read_bytes()
    for opening in (Journal.open, DeadLetters):
        with pytest.raises(JournalUnavailableError, match="of another program"):
            opening(path)
    assert path.read_bytes() == before


def test_garbage_is_refused(path: Path) -> None:
    """A file that is no database is left alone, and the message says where it is."""
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 1000)
    for opening in (Journal.open, DeadLetters):
        with pytest.raises(JournalUnavailableError, match="not a SQLite database") as caught:
            opening(path)
        assert str(caught.value).startswith(str(path))
    assert path.read_bytes() == b"not a database at all" * 1000


def test_missing_file_of_dead_letters(path: Path) -> None:
    """Asking for the dead letters of a missing file does not make the file."""
    with pytest.raises(JournalUnavailableError, match="no such file"):
        DeadLetters(path)
    assert not path.parent.exists()


def test_file_without_tables_of_dead_letters(path: Path) -> None:
    """Asking for the dead letters of an empty file is an error, and makes no tables."""
    path.parent.mkdir()
    path.touch()
    with pytest.raises(JournalUnavailableError, match="next start"):
        DeadLetters(path)


# What many events leave.


def test_many_events_leave_a_small_file(path: Path) -> None:
    """Events that have come and gone, ten times what the file may hold, leave a file of a few
    MiB."""
    journal = Journal.open(path)
    number = journal.new_numbers()
    settled: list[Delete] = []
    for _ in range(100):
        rows = [Row(PLUGIN, number + at, b"e" * 120, b"p" * 300) for at in range(1000)]
        assert journal.commit(settled, [appended(row) for row in rows]) is None
        settled = [Delete(PLUGIN, [row.number], [0]) for row in rows]
        number += 1000
    journal.commit(settled, [])
    journal.tidy(0, KEEP_ALL)
    assert journal.counts() == {}
    assert on_disk(path) < 4 << 20
    journal.close()


def test_the_log_is_long_while_the_disk_has_plenty_of_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write-ahead log grows to some MiB; with less room it goes into the file, and stays short.

    A checkpoint may take as much room as the log is long.
    """
    room = [1 << 40]

    def room_now(_: Ballast) -> int:
        return room[0]

    monkeypatch.setattr(Ballast, "room", room_now)
    journal = Journal.open(path)

    def longest(start: int) -> int:
        """Bytes of the log, at most, while two MiB are written."""
        sizes: list[int] = []
        for at in range(start, start + 100):
            number = journal.new_numbers() + at
            row_of_20_kb = row(number, payload=b"x" * 20_000)
            assert journal.commit([], [appended(row_of_20_kb)]) is None
            sizes.append(Path(f"{path}-wal").stat().st_size)
        return max(sizes)

    assert longest(0) > 2 << 20
    room[0] = 100 << 20
    assert longest(100) < 1 << 20
    room[0] = 1 << 40
    assert longest(200) > 2 << 20
    journal.close()


def test_tidy_gives_the_room_of_a_backlog_back(path: Path) -> None:
    """A backlog that has drained gives its room back to the disk, in a bounded part each time."""
    journal = Journal.open(path)
    numbers: list[int] = []
    for at in range(20):
        first = journal.new_numbers() + at * 100
        rows = [row(first + each, payload=b"x" * 16_000) for each in range(100)]
        journal.commit([], [appended(row) for row in rows])
        numbers += [row.number for row in rows]
    journal.commit([Delete(PLUGIN, [number], [0]) for number in numbers], [])
    sizes = [on_disk(path)]
    assert sizes[0] > 30 << 20
    for _ in range(3):
        journal.tidy(0, KEEP_ALL)
        sizes.append(on_disk(path))
    assert sizes[0] > sizes[1] > 12 << 20
    assert sizes[-1] < 1 << 20
    journal.close()


def test_tidy_with_a_reader_beside(journal: Journal, path: Path) -> None:
    """A reader of another program that does not end keeps the log long, and holds nothing up."""
    append(journal, 5)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM event").fetchone()
        append(journal, 30_000, start=5)
        started = time.monotonic()
        journal.tidy(0, KEEP_ALL)
        assert time.monotonic() - started < 2
        log = Path(f"{path}-wal")
        assert log.stat().st_size > 1 << 20
    journal.tidy(0, KEEP_ALL)
    assert log.stat().st_size == 0


@pytest.mark.process
@pytest.mark.parametrize("kind", ["symbolic", "hard", "of its directory"])
@pytest.mark.parametrize("by_another_process", [False, True])
def test_a_link_to_a_file_that_is_in_use_is_refused(
    journal: Journal, path: Path, tmp_path: Path, kind: str, by_another_process: bool
) -> None:
    """A file has one owner, whatever it is called; the owner goes on, and is still the only one."""
    other = tmp_path / "elsewhere" / "other.db"
    other.parent.mkdir()
    if kind == "hard":
        other.hardlink_to(path)
    elif kind == "symbolic":
        other.symlink_to(path)
    else:
        (tmp_path / "same").symlink_to(path.parent)
        other = tmp_path / "same" / path.name
    for at in range(2):
        if by_another_process:
            answer = run_child(OPEN, other)
            assert answer.returncode == JournalInUseError.exit_code, answer.stderr
        else:
            with pytest.raises(JournalInUseError):
                Journal.open(other)
        append(journal, 1, start=at)
    journal.close()
    Journal.open(other).close()


def test_files_beside_a_link_are_beside_its_target(path: Path, tmp_path: Path) -> None:
    """A journal opened by a link has its other files beside the target, and is found by either
    name."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with closing(Journal.open(link)) as journal:
        append(journal, 1)
    assert [each.name for each in tmp_path.glob("link.db*")] == ["link.db"]
    with closing(Journal.open(path)) as journal:
        assert waiting(journal)


def test_links_in_a_circle(tmp_path: Path) -> None:
    """Links in a circle are an error that names one of them."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    one.symlink_to(two)
    two.symlink_to(one)
    with pytest.raises(JournalUnavailableError, match=r"one\.db"):
        Journal.open(one)
