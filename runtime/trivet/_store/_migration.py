"""A store of version 1, made anew as one of this version: beside the old file, then in its place.

Owns the way from a row for each event and subscriber to one log, and what is on disk meanwhile.
Never knows any later change of the tables.

The old file is as it was until the new one is whole and on the disk. A process that is killed, or
has no room, leaves a new file that is not whole, which the next start throws away.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import structlog

from ._files import log_of, new_of
from ._lock import Lock
from ._records import JournalUnavailableError
from ._register import LeftOver
from ._schema import connect, create, first_value, transaction
from ._upkeep import checkpoint

PIECE = 1000
"""Rows in one transaction, at most."""
PIECE_BYTES = 4 << 20
"""Bytes of events, after which a transaction ends."""
TELL_EVERY = 5.0
"""Seconds between two lines of the log."""

COUNTERS = "SELECT name, value FROM counter WHERE name IN ('openings', 'stored')"
QUEUE = """
    SELECT number, ifnull(plugin, 0), ifnull(envelope, x''), ifnull(payload, x''), history,
        retry_at, ifnull(crashes, 'none')
    FROM queue ORDER BY number
"""
SEEN = "SELECT plugin, source, id, until FROM seen"
LETTERS = """
    SELECT number, ifnull(plugin, 0), ifnull(event, ''), ifnull(id, ''), ifnull(source, ''),
        ifnull(died_at, 0.0), ifnull(reason, ''), ifnull(size, 0), ifnull(history, x''),
        ifnull(envelope, x''), ifnull(payload, x'')
    FROM dead_letter ORDER BY number
"""
EVENT = "INSERT INTO event(number, audience, envelope, payload) VALUES (?, ?, ?, ?)"
EXCEPTION = """
    INSERT INTO exception(number, subscriber, ended, history, retry_at, crashes)
    VALUES (?, ?, 0, ?, ?, ?)
"""
LETTER = "INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
LAST_LETTER = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'dead_letter'"

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.define
class _Waiting:
    """The events that wait for one subscriber, in numbers."""

    count: int = 0
    bytes: int = 0


def migrate(path: Path, lock: Lock, left: LeftOver) -> None:
    """Put a file of this version in the place of one of version 1.

    Args:
        path: the file.
        lock: its lock, which goes over to the new file.
        left: what the register says of the last process.

    Raises:
        JournalUnavailableError: the file has other names, or its log is in use.
        sqlite3.Error: it is damaged, or there is no room.
    """
    if path.stat().st_nlink > 1:
        reason = "it has several names, and can be brought to this version under one only"
        raise JournalUnavailableError(path, reason)
    new_path = new_of(path)
    with closing(connect(path)) as old:
        old.execute("PRAGMA locking_mode = EXCLUSIVE")
        with _new_file(new_path) as new:
            old.execute("BEGIN IMMEDIATE")  # Nobody writes into the old file any more.
            _Copy(path, old, new).run(left)
            old.execute("ROLLBACK")
        checkpoint(old)
        log = log_of(path)
        if log.exists() and log.stat().st_size:
            new_path.unlink()
            raise JournalUnavailableError(path, "another process reads it; try again")
        lock.hand_over(new_path)
    _log.info("the store has a new form", path=str(path))


@contextmanager
def _new_file(path: Path) -> Generator[sqlite3.Connection]:
    """A new file; it is whole and on the disk when the block is left, or gone if that fails."""
    path.unlink(missing_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA page_size = 4096")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = OFF")  # What is not whole is thrown away.
            connection.execute("PRAGMA synchronous = OFF")
            create(connection)
            yield connection
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class _Copy:
    """One way of everything that is in the old file into the new one."""

    def __init__(self, path: Path, old: sqlite3.Connection, new: sqlite3.Connection) -> None:
        self._path = path
        self._old = old
        self._new = new
        self._told = time.monotonic()

    def run(self, left: LeftOver) -> None:
        """Copy it."""
        with transaction(self._new):
            self._new.executemany(
                "REPLACE INTO counter VALUES (?, ifnull(?, 0))", self._old.execute(COUNTERS)
            )
        self._copy_events(left)
        self._copy_rows(SEEN, "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)")
        self._copy_rows(LETTERS, LETTER)
        with transaction(self._new):
            last = first_value(self._old, LAST_LETTER)
            self._new.execute("DELETE FROM sqlite_sequence WHERE name = 'dead_letter'")
            self._new.execute("INSERT INTO sqlite_sequence VALUES ('dead_letter', ?)", (last,))

    def _copy_events(self, left: LeftOver) -> None:
        done = {number for number, _ in left.done}
        blamed = {number for number, _ in left.blamed}
        names = dict(self._old.execute("SELECT id, name FROM plugin").fetchall())
        waiting = {number: _Waiting() for number in names}
        count = first_value(self._old, "SELECT count(*) FROM queue")
        copied = 0
        for rows in _pieces(self._old.execute(QUEUE)):
            stays = [row for row in rows if row[0] not in done]
            with transaction(self._new):
                self._new.executemany(EVENT, (row[:4] for row in stays))
                self._new.executemany(EXCEPTION, _exceptions(stays, blamed))
            for _, plugin, envelope, payload, *_ in stays:
                if plugin in waiting:
                    waiting[plugin].count += 1
                    waiting[plugin].bytes += _length(envelope) + _length(payload)
            copied += len(rows)
            self._tell(copied, count)
        with transaction(self._new):
            for number, name in names.items():
                values = (number, name, 0, waiting[number].count, waiting[number].bytes)
                self._new.execute("INSERT INTO subscriber VALUES (?, ?, ?, ?, ?)", values)
                self._new.execute("INSERT INTO audience VALUES (?, ?)", (number, number))

    def _copy_rows(self, query: str, insert: str) -> None:
        cursor = self._old.execute(query)
        while rows := cursor.fetchmany(PIECE):
            with transaction(self._new):
                self._new.executemany(insert, rows)

    def _tell(self, copied: int, count: int) -> None:
        now = time.monotonic()
        if now >= self._told + TELL_EVERY:
            self._told = now
            _log.info("the store gets a new form", copied=copied, of=count, path=str(self._path))


def _pieces(rows: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    """The rows in pieces that are written together."""
    piece: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += _length(row[2]) + _length(row[3])
        if len(piece) >= PIECE or size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _exceptions(rows: list[tuple[Any, ...]], blamed: set[int]) -> Iterator[tuple[Any, ...]]:
    """The exceptions of the events that were tried."""
    for number, plugin, _, _, history, retry_at, crashes in rows:
        count = crashes
        if number in blamed and isinstance(crashes, int):
            count = crashes + 1
        if history is not None or retry_at is not None or count != 0:
            yield number, plugin, history, retry_at, count


def _length(value: object) -> int:
    """Bytes of a value, which is damaged where it is none of bytes."""
    return len(value) if isinstance(value, (bytes, str)) else 0
