"""The durable inboxes' store: one SQLite file, written by one caller at a time.

Owns the log of events, its subscribers, the dead letters, and the room for all that.
Never knows Trio, threads, inboxes, or what is in an event.

Its calls block, so that they belong on a worker thread. Times are POSIX seconds of the wall clock.
The package imports this module lazily, and SQLite with it.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from ._ballast import BALLAST
from ._commit import Append
from ._dead_letters import DeadLetters
from ._ends import Ends, cursors_of
from ._files import ballast_of, log_of, own_name, refuse_others, register_of
from ._lock import Lock
from ._records import (
    Backlog,
    JournalError,
    JournalFullError,
    JournalUnavailableError,
    Retention,
    Row,
    Seen,
    Settlement,
    Takes,
)
from ._register import Register
from ._room import Room
from ._schema import (
    LAST_REGISTER,
    MARKED,
    VERSION,
    Synchronous,
    configure,
    connect,
    create,
    damage,
    first_number,
    first_value,
    is_damage,
    next_opening,
    reported,
    transaction,
    version_of,
)
from ._subscribers import Subscribers
from ._tables import Tables
from ._unwritten import number_of_events, one_by_one
from ._up_to_date import bring_up_to_date, save_what_can_be_read
from ._upkeep import (
    checkpoint,
    drop_letters,
    expire,
    shorten_log,
)

T = TypeVar("T")

MEMORY = Path(":memory:")
"""The path of a journal without a file."""

MARGIN = 1 << 20
"""Bytes of a row besides its event: the history of an event that has failed again and again."""

FEW = 16
"""Settlements that are written at a time while the disk is full: the log that they take is a part
of the ballast."""

VACUUMS = 4
"""Times that one call of `tidy` gives some pages back."""
SALVAGE_EVERY = 60.0
"""Seconds between two files that are made anew since the one before was damaged."""

STORED = """
    SELECT ifnull(max(CAST(value AS INTEGER)), 0) FROM counter
    WHERE name = 'stored' AND typeof(value) = 'integer'
"""
AT_LEAST = """
    INSERT INTO counter VALUES ('openings', ?)
    ON CONFLICT(name) DO UPDATE SET value = max(value, excluded.value)
"""
COUNT_STORED = "REPLACE INTO counter VALUES ('stored', ?)"

NO_CURSORS: Mapping[str, int] = MappingProxyType({})
HIGHEST = 1 << 62
"""A number that no event has."""


def _any(_: Row) -> bool:
    return True


class Journal:
    """An open file, or one in memory. Made by `open`; calls may not overlap."""

    def __init__(
        self,
        path: Path | None,
        connection: sqlite3.Connection,
        register: Register,
        lock: Lock | None,
        synchronous: Synchronous,
    ) -> None:
        self.path = path or MEMORY
        """The path of the file."""
        self.register = register
        """The register of events in flight: for the event loop, also while a call runs."""
        self._data_version = -1
        self._lock = lock
        self._synchronous: Synchronous = synchronous
        self._room = Room(path)
        self._use(connection)
        self._next_salvage = -math.inf
        most = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        self.largest = most - MARGIN
        """Bytes of an event, above which SQLite cannot hold it with its history."""
        status = None if path is None else path.stat()
        self._inode = None if status is None else status.st_ino
        self.names = 1 if status is None else status.st_nlink
        """The number of hard links to the file. Its log stands beside the name that is used."""
        self.lost = 0
        """The number of committed events that are not in the file, at most."""
        self._stored = 0
        """Events that were ever committed to the file."""
        self.cannot_tell = False
        """Whether `lost` is unknown, because the register was missing."""
        self._log_inode: int | None = None
        self._first = 0
        self._backlog: dict[str, Backlog] = {}
        self._unsettled: list[Settlement] = []
        self._held = ExitStack()

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        synchronous: Synchronous = "full",
        factory: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> Journal:
        """Open the file, or make it, and become its owner.

        The events that the last owner had in flight when it died are settled: handled events have
        ended, and the others have one more crash. A file of an earlier version is migrated first.

        Args:
            path: the file; None for one in memory, which has no lock and nothing beside it.
            synchronous: whether a commit waits for the disk.
            factory: what makes the connection; for tests.

        Raises:
            JournalInUseError: another process owns the file.
            JournalFullError: the disk is full.
            JournalUnavailableError: the file cannot be read or written, or is no store.
        """
        path = path and own_name(path)
        try:
            return cls._open(path, synchronous, factory)
        except JournalFullError:
            if path is None or not ballast_of(path).give_up():
                raise
            return cls._open(path, synchronous, factory)

    def new_numbers(self) -> int:
        """The first of the numbers that belong to this opening; the caller counts up from it."""
        return self._first

    def backlog(self) -> dict[str, Backlog]:
        """The events that waited for each plugin when the file was opened."""
        return self._backlog

    def seen(self, plugin: str) -> list[Seen]:
        """The events that a plugin has had, as far as they are remembered."""
        with reported(self.path):
            return self._done(lambda: self._tables.seen(plugin))

    def subscribe(self, plugins: Sequence[str]) -> dict[str, int]:
        """The numbers by which subscribers are known in the file, and in the register."""
        with reported(self.path):
            return self._done(partial(self._subscribe, plugins))

    def _subscribe(self, plugins: Sequence[str]) -> dict[str, int]:
        with self._transaction():
            return {name: self._subscribers.add(name).id for name in plugins}

    def commit(
        self,
        settlements: Sequence[Settlement],
        appends: Sequence[Append],
        cursors: Mapping[str, int] = NO_CURSORS,
    ) -> JournalError | None:
        """Write the settlements and then the appends, in one transaction.

        If that fails, only the settlements are written; on a full disk, in the room of the ballast.

        Args:
            settlements: what has become of events.
            appends: events that come in, in the order of their numbers.
            cursors: by subscriber the number up to which everything has ended with these
                settlements.

        Returns:
            The error that kept the appends out; None if everything was written.

        Raises:
            JournalError: the settlements were not written either; `unsettled` are not.
        """
        self._unsettled = [*settlements]
        with reported(self.path):
            self._room.mind_log()
        if not appends:
            self._settle(cursors)
            return None
        try:
            # What is appended is written twice: into the log, and at a checkpoint into the file.
            size = sum([len(each.envelope) + len(each.payload) for each in appends])
            with reported(self.path):
                self._room.make(2 * size)
            self._write(settlements, appends, cursors)
        except JournalError as error:
            if settlements:
                self._settle(cursors)
            return error
        self._unsettled.clear()
        return None

    @property
    def unsettled(self) -> list[Settlement]:
        """The settlements that the last commit has not written."""
        return self._unsettled

    def read(self, plugin: str, after: int, limit: int, take: Takes = _any) -> list[Row]:
        """Read the events that wait for a plugin, in the order of their numbers.

        Args:
            plugin: the plugin's name.
            after: the number above which the events' numbers are.
            limit: events, at most.
            take: called with each row in turn; says whether another row may follow.
        """
        with reported(self.path):
            return self._done(lambda: self._tables.read(plugin, after, limit, take))

    def read_numbers(self, plugin: str, numbers: Sequence[int], take: Takes = _any) -> list[Row]:
        """Read some of the events that wait for a plugin, in the order of their numbers."""
        with reported(self.path):
            return self._done(lambda: self._tables.read_numbers(plugin, numbers, take))

    def counts(self) -> dict[str, Backlog]:
        """The backlog of each plugin that has one, as it is kept with every change."""
        with reported(self.path):
            return self._done(lambda: self._subscribers.counts())  # noqa: PLW0108 - it may be new

    def recount(self, plugin: str) -> None:
        """Count the backlog of a plugin by reading it, since its record is wrong.

        Where it is an index that does not show events, the file is made anew.
        """
        with reported(self.path):
            self._done(partial(self._recount, plugin))

    def _recount(self, plugin: str) -> None:
        if self._connection.execute("PRAGMA integrity_check(event)").fetchall() != [("ok",)]:
            raise damage("a table and its index do not fit together")
        with self._transaction():
            subscriber = self._subscribers.get(plugin)
            if subscriber is not None:
                self._subscribers.recount(subscriber, HIGHEST)

    def orphans(self) -> int:
        """The number of events whose plugin cannot be told."""
        with reported(self.path):
            return self._done(lambda: self._tables.orphans())  # noqa: PLW0108 - they may be new

    def changed_by_others(self) -> bool:
        """Whether an operator has replayed or purged since this was asked the last time."""
        before = self._data_version
        with reported(self.path):
            now: int = first_value(self._connection, "PRAGMA data_version")
            self._data_version = now
            if now != before:
                self._subscribers.forget()
                self._done(self._mind_mark)
        return now != before

    def _mind_mark(self) -> None:
        if self._connection.execute(MARKED).fetchall():
            raise damage("a dead letter cannot be read")

    def renew_numbers(self) -> None:
        """Count another opening, so that its numbers are above those that others have used."""
        with reported(self.path):
            self._done(self._renew_numbers)

    def _renew_numbers(self) -> None:
        with self._transaction():
            self._first = first_number(next_opening(self._connection))

    def probe(self) -> None:
        """Find out whether appends are possible (again).

        Raises:
            JournalError: they are not.
        """
        with reported(self.path):
            self._room.make(BALLAST)  # Less would be gone at once.
        self.renew_numbers()

    def dead_letters(self) -> DeadLetters:
        """The dead letters over this connection; leave them before the next call.

        After that `changed_by_others` is true, since the caller may have replayed or purged.
        """
        self._data_version = -1
        return DeadLetters(self.path, connection=self._connection)

    def tidy(self, now: float, retention: Retention) -> int:
        """Delete what is too old, or too much, and give room back to the disk; for idle moments.

        One call does a bounded part of the work. Damage that stops one part stops no other.

        Args:
            now: the wall clock.
            retention: the limits of the dead letters.

        Returns:
            The number of dead letters that were deleted.

        Raises:
            JournalFullError: the disk is full.
            JournalUnavailableError: a part could not be done; all others were, unless the file
                cannot be written at all.
        """
        parts: tuple[Callable[[], int | None], ...] = (
            lambda: drop_letters(self._connection, now, retention),
            lambda: expire(self._connection, now),
            self._drop_unused,
            *[self._room.give_back] * VACUUMS,
            lambda: shorten_log(self._connection, self.path),
        )
        thrown_away = 0
        found: sqlite3.DatabaseError | None = None
        with reported(self.path):
            for part in parts:
                try:
                    thrown_away += self._done(part) or 0
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    found = error
            self._room.put_back()
            if found is not None:
                raise found
        return thrown_away

    def _drop_unused(self) -> None:
        with self._transaction():
            self._subscribers.drop_unused()

    def close(self) -> None:
        """Give the file up; a second time, nothing happens."""
        with reported(self.path):
            self._connection.close()  # Perhaps another than the first.
            self._held.close()

    # How it opens.

    @classmethod
    def _open(
        cls, path: Path | None, synchronous: Synchronous, factory: type[sqlite3.Connection]
    ) -> Journal:
        lock: Lock | None = None
        with reported(path or MEMORY), ExitStack() as stack:
            if path is not None:
                refuse_others(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = Lock(path)
                stack.callback(lock.release)
                bring_up_to_date(path, lock, factory)
            connection = connect(path, factory)
            stack.enter_context(closing(connection))
            # First, since nothing is to be put beside a file of somebody else's.
            version = version_of(connection, path or MEMORY)
            register = Register(None if path is None else register_of(path))
            stack.callback(register.close)
            journal = cls(path, connection, register, lock, synchronous)
            journal._begin(version)
            journal._held = stack.pop_all()
            return journal

    def _begin(self, version: int) -> None:
        connection = self._connection
        configure(connection, self.path, self._synchronous)
        self._room.use(connection)
        self._room.mind_log()
        if not version:
            create(connection)
        elif version < VERSION:  # Its tables are the same.
            connection.execute(f"PRAGMA user_version = {VERSION}")
        opening = self._done(self._next_opening)
        self.lost = max(0, self.register.stored - self._stored)
        self.register.begin(opening)
        self.register.stored = self._stored
        self.cannot_tell = self.register.is_new and opening > 1
        if self._inode is not None:
            self._log_inode = log_of(self.path).stat().st_ino
        self._first = first_number(opening)
        self._done(lambda: expire(self._connection, time.time()))
        self._backlog = self.counts()
        self.changed_by_others()
        self._room.put_back()

    def _next_opening(self) -> int:
        """Count it, and write down what the register says, which from now on belongs to it."""
        connection = self._connection
        with self._transaction():
            opening = next_opening(connection)
            self._subscribers.mend(first_number(opening))
            left = self.register.left_over(first_value(connection, LAST_REGISTER))
            self._ends.settle_left_over(left)
            connection.execute("REPLACE INTO counter VALUES ('register', ?)", (opening,))
            self._stored = first_value(connection, STORED)
        return opening

    # Where the file is damaged.

    def _done(self, do: Callable[[], T]) -> T:
        """Do it; where a page cannot be read, once more with a file made anew."""
        try:
            return do()
        except sqlite3.DatabaseError as error:
            if not is_damage(error) or self._lock is None or time.monotonic() < self._next_salvage:
                raise
        self._next_salvage = time.monotonic() + SALVAGE_EVERY
        self._salvage(self._lock)
        return do()

    def _salvage(self, lock: Lock) -> None:
        """Have a file that has all that could be read of this one."""
        factory = type(self._connection)
        self._connection.close()
        try:
            save_what_can_be_read(self.path, lock, self.register)
        finally:
            connection = connect(self.path, factory)
            configure(connection, self.path, self._synchronous)
            self._room.use(connection)
            self._use(connection)
            self._inode = self.path.stat().st_ino
        with self._transaction():  # What the old one said of numbers may have been lost.
            connection.execute(AT_LEAST, (self._first >> 40,))
        self._log_inode = log_of(self.path).stat().st_ino

    def _use(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._subscribers = Subscribers(connection)
        self._tables = Tables(connection, self._subscribers)
        self._ends = Ends(connection, self._subscribers)
        self._data_version = -1

    # How it writes.

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """Write all of it, or nothing."""
        try:
            with transaction(self._connection):
                yield
        except BaseException:
            self._subscribers.forget()
            self._ends.forget()
            raise

    def _settle(self, cursors: Mapping[str, int]) -> None:
        settlements = self._unsettled
        try:
            self._write(settlements, (), cursors)
            settlements.clear()
        except JournalFullError:
            if not self._room.give_up() and number_of_events(settlements) <= FEW:
                raise
            checkpoint(self._connection)  # What failed may have left a log that takes the room.
            # In one transaction they may need more room than there is.
            settlements[:] = one_by_one(settlements)
            while settlements:
                some = settlements[:FEW]
                self._write(some, (), cursors_of(some, cursors))
                del settlements[:FEW]

    def _write(
        self,
        settlements: Sequence[Settlement],
        appends: Sequence[Append],
        cursors: Mapping[str, int],
    ) -> None:
        with reported(self.path):
            if self._inode is not None:
                self._look_at_files()
            self._done(partial(self._write_once, settlements, appends, cursors))

    def _write_once(
        self,
        settlements: Sequence[Settlement],
        appends: Sequence[Append],
        cursors: Mapping[str, int],
    ) -> None:
        stored = self._stored + len(appends)
        with self._transaction():
            self._ends.settle(settlements, cursors)
            if appends:
                self._tables.append(appends)
                self._connection.execute(COUNT_STORED, (stored,))
        self.register.stored = self._stored = stored

    def _look_at_files(self) -> None:
        """Raise if the file or its log was replaced: nobody would find what is written."""
        if self.path.stat().st_ino != self._inode:
            reason = "the file was replaced by another one; start again"
            raise JournalUnavailableError(self.path, reason)
        log = log_of(self.path)
        if not log.exists() or log.stat().st_ino != self._log_inode:
            checkpoint(self._connection)  # What is in the old one is in the file then.
            reason = "its write-ahead log was removed or replaced; start again"
            raise JournalUnavailableError(self.path, reason)
