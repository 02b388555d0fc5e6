"""The whole check of a store's file, page by page and row by row, for an operator.

Owns the question whether all that is in the file fits together.
Never knows a running program: it owns the file while it reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ._lock import Lock
from ._records import Backlog, JournalUnavailableError
from ._schema import SAME_TABLES, connect, is_damage, reported, version_of
from ._subscribers import Subscribers
from ._tables import Tables

FINDINGS = 1000
"""Faults of pages that are named, at most."""

UNREADABLE = """
    SELECT number FROM event WHERE typeof(envelope) || typeof(payload) != 'blobblob' LIMIT ?
"""
STALE = """
    SELECT count(*) FROM exception LEFT JOIN event ON event.number = exception.number
    WHERE event.number IS NULL
"""


def examine(path: Path) -> Iterator[str]:
    """Read all of a file, and say what is wrong with it, one sentence each; it stays as it is.

    Raises:
        JournalInUseError: a program owns it.
        JournalUnavailableError: there is no such file, or it is none of this version.
    """
    if not path.is_file():
        raise JournalUnavailableError(path, "there is no such file")
    lock = Lock(path.resolve())
    try:
        with reported(path), closing(connect(path)) as connection:
            version = version_of(connection, path)
            yield from _pages(connection)
            if version < SAME_TABLES:
                return  # A start that brings it up to date reads every row.
            try:
                yield from _rows(connection)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                yield f"its rows cannot all be read: {error}"
    finally:
        lock.release()


def _pages(connection: sqlite3.Connection) -> Iterator[str]:
    """The pages that do not fit together."""
    try:
        for (found,) in connection.execute(f"PRAGMA integrity_check({FINDINGS})").fetchall():
            if found != "ok":
                yield str(found)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        yield f"its pages cannot all be read: {error}"


def _rows(connection: sqlite3.Connection) -> Iterator[str]:
    """The rows that do not fit together."""
    subscribers = Subscribers(connection)
    for (number,) in connection.execute(UNREADABLE, (FINDINGS,)).fetchall():
        yield f"event {number} cannot be read"
    if orphans := Tables(connection, subscribers).orphans():
        yield f"{orphans} events are for no plugin"
    (stale,) = connection.execute(STALE).fetchone()
    if stale:
        yield f"{stale} exceptions are of no event"
    kept = subscribers.counts()
    for each in subscribers.all():
        counted, said = subscribers.count(each), kept.get(each.name, Backlog(0, 0))
        if counted != said:
            yield (
                f"{counted.count} events of {counted.bytes} bytes wait for {each.name}, "
                f"and its record says {said.count} of {said.bytes}"
            )
