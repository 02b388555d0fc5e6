"""The SQLite file of the durable inboxes: how it is opened, made and reported.

Owns its tables, the settings of a connection, and what an error of SQLite means.
Never knows what is written into the tables, or when.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ._records import JournalError, JournalFullError, JournalUnavailableError

Synchronous = Literal["full", "normal"]
"""Whether a commit waits for the disk: `full` outlives a power cut, `normal` a killed process."""

BUSY_TIMEOUT = 5_000
"""Milliseconds to wait for another connection's transaction."""
APPLICATION_ID = 0x54525654
"""Says in the file's header that it is one of these: "TRVT"."""

NEXT_OPENING = """
    INSERT INTO counter VALUES ('openings', 1) ON CONFLICT(name) DO UPDATE SET value = 1 + max(
        iif(CAST(value AS INTEGER) < 1 << 22, CAST(value AS INTEGER), 0),
        (SELECT ifnull(max(number), 0) >> 40 FROM event WHERE number < 1 << 62)
    )
"""
"""Above all the numbers that are used, also where the counter itself is damaged."""

TABLES = (
    """CREATE TABLE counter(
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "INSERT INTO counter VALUES ('openings', 0), ('register', 0)",
    """CREATE TABLE subscriber(
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        cursor INTEGER NOT NULL,
        waiting INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    )""",
    """CREATE TABLE audience(
        id INTEGER NOT NULL,
        subscriber INTEGER NOT NULL,
        PRIMARY KEY(id, subscriber)
    ) WITHOUT ROWID""",
    # The same once more: an event is nobody's where its audience cannot be read.
    "CREATE INDEX audience_by_subscriber ON audience(subscriber, id)",
    # New rows go to the end, whoever they are for.
    """CREATE TABLE event(
        number INTEGER PRIMARY KEY,
        audience INTEGER NOT NULL,
        envelope BLOB NOT NULL,
        payload BLOB NOT NULL
    )""",
    "CREATE INDEX event_by_audience ON event(audience)",
    """CREATE TABLE exception(
        number INTEGER NOT NULL,
        subscriber INTEGER NOT NULL,
        ended INTEGER NOT NULL,
        history BLOB,
        retry_at REAL,
        crashes INTEGER NOT NULL,
        PRIMARY KEY(number, subscriber)
    ) WITHOUT ROWID""",
    # For people: an event once for each subscriber that has not ended it.
    """CREATE VIEW waiting AS
        SELECT event.number, subscriber.name AS subscriber, envelope, payload, history, retry_at,
            iif(exception.number IS NULL, 0, crashes) AS crashes
        FROM event JOIN audience ON audience.id = event.audience
        JOIN subscriber ON subscriber.id = audience.subscriber
        LEFT JOIN exception
            ON exception.number = event.number AND exception.subscriber = subscriber.id
        WHERE event.number > cursor AND ended IS NOT 1""",
    """CREATE TABLE seen(
        plugin INTEGER NOT NULL,
        source TEXT NOT NULL,
        id TEXT NOT NULL,
        until REAL NOT NULL,
        PRIMARY KEY(plugin, source, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX seen_by_until ON seen(until)",
    """CREATE TABLE dead_letter(
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        plugin INTEGER NOT NULL,
        event TEXT NOT NULL,
        id TEXT NOT NULL,
        source TEXT NOT NULL,
        died_at REAL NOT NULL,
        reason TEXT NOT NULL,
        size INTEGER NOT NULL,
        history BLOB NOT NULL,
        envelope BLOB NOT NULL,
        payload BLOB NOT NULL
    )""",
    "CREATE INDEX dead_letter_by_age ON dead_letter(died_at, size)",
)
"""The tables of this version; the page about the store in the documents explains them."""
VERSION = 3
"""The version of the file. Version 1 had a row for each event and subscriber; the envelopes of
version 2 have no checksum."""
SAME_TABLES = 2
"""The first version with these tables."""


@contextmanager
def reported(path: Path) -> Generator[None]:
    """Raise an error of SQLite or of the system as the `JournalError` that it is."""
    try:
        yield
    except sqlite3.Error as error:
        # The lowest byte is the kind, the rest the detail. Without a code: found by the module.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        is_full = code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE
        reason = str(error)
        if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
            reason = f"it is damaged ({error}); `trivet store check` says where"
        raise fault(path, is_full, reason) from error
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise fault(path, is_full, error.strerror or str(error)) from error


def fault(path: Path, is_full: bool, reason: str) -> JournalError:
    """The error of a fault of the file."""
    kind = JournalFullError if is_full else JournalUnavailableError
    return kind(path, reason)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Write all of it, or nothing."""
    undo(connection)  # What could not be undone when it failed.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A COMMIT that fails may leave the transaction open, other errors may have ended it.
        with suppress(sqlite3.Error):
            undo(connection)
        raise


def undo(connection: sqlite3.Connection) -> None:
    """Roll back the transaction that is open, if one is."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def connect(
    path: Path | None, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    """Open a file that is there, or one in memory; any thread may use it, one at a time."""
    connection = sqlite3.connect(
        ":memory:" if path is None else f"{path.absolute().as_uri()}?mode=rw",
        uri=path is not None,
        timeout=BUSY_TIMEOUT / 1000,
        isolation_level=None,
        check_same_thread=False,
        factory=factory,
    )
    connection.text_factory = partial(str, encoding="utf-8", errors="backslashreplace")
    return connection


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file's tables; 0 when it is empty.

    Raises:
        JournalUnavailableError: it is damaged, not SQLite's, another program's, or of a newer
            version of this one.
    """
    try:
        application = first_value(connection, "PRAGMA application_id")
        version: int = first_value(connection, "PRAGMA user_version")
        tables = first_value(connection, "SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        reason = f"it is not a SQLite database, or a damaged one, and is left as it is ({error})"
        raise JournalUnavailableError(path, reason) from error
    if application != APPLICATION_ID and (application or version or tables):
        raise JournalUnavailableError(path, "it is a SQLite database of another program")
    if version > VERSION:
        reason = f"it was written by a newer Trivet (schema {version}; this one knows {VERSION})"
        raise JournalUnavailableError(path, reason)
    return version


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether a page of the file is not what it should be."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def damage(what: str) -> sqlite3.DatabaseError:
    """The error for a page that SQLite takes for sound, and that is not what it should be."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def configure(connection: sqlite3.Connection, path: Path, synchronous: Synchronous) -> None:
    """Set what the owner's connection works with."""
    connection.execute("PRAGMA page_size = 4096")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA temp_store = MEMORY")
    if first_value(connection, "PRAGMA journal_mode = WAL") not in ("wal", "memory"):
        raise JournalUnavailableError(path, "its file system cannot hold a write-ahead log")
    connection.execute(f"PRAGMA synchronous = {synchronous}")


FIRST_PAGES = (
    "SELECT max(number) FROM event",
    "SELECT min(audience) FROM event",
    "SELECT * FROM exception LIMIT 1",
    "SELECT * FROM seen LIMIT 1",
    "SELECT until FROM seen ORDER BY until LIMIT 1",
    "SELECT number FROM dead_letter LIMIT 1",
    "SELECT died_at FROM dead_letter ORDER BY died_at LIMIT 1",
    "SELECT * FROM sqlite_sequence",
)
"""Without these nothing works: they are read before anything is written."""
LAST_REGISTER = "SELECT ifnull(max(value), 0) FROM counter WHERE name = 'register'"
SMALL = ("counter", "subscriber", "audience")
DAMAGED = "damaged"
"""The counter that is there when a page could not be read beside the owner's work."""
MARKED = "SELECT value FROM counter WHERE name = 'damaged'"
MARK = "REPLACE INTO counter VALUES ('damaged', 1)"


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether the tables can be read, and the small ones fit to their indexes.

    It takes as long for many events as for few.
    """
    try:
        for query in FIRST_PAGES:
            connection.execute(query).fetchall()
        checks = (connection.execute(f"PRAGMA integrity_check({each})") for each in SMALL)
        if any(each.fetchall() != [("ok",)] for each in checks):
            return False
        return not connection.execute(MARKED).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return False


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty file."""
    with transaction(connection):
        for statement in TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


def next_opening(connection: sqlite3.Connection) -> int:
    """Count an opening, inside a transaction."""
    connection.execute(NEXT_OPENING)
    opening: int = first_value(connection, "SELECT value FROM counter WHERE name = 'openings'")
    return opening


def first_number(opening: int) -> int:
    """The first of the numbers for events that belong to an opening.

    >>> first_number(2) - first_number(1) == 2**40
    True
    """
    return opening << 40


def first_value(connection: sqlite3.Connection, query: str) -> Any:
    """The first value of the first row of the answer."""
    return connection.execute(query).fetchone()[0]
