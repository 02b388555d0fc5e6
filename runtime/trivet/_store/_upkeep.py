"""How the file of the durable inboxes stays small: what is too old, too much, or free in it.

Owns what is thrown away in an idle moment, and how room goes back to the disk.
Never knows when a moment is idle; each function does a bounded part of its work, or a quick one.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from ._records import Retention
from ._schema import BUSY_TIMEOUT, transaction

SHORT_LOG, LONG_LOG = 100, 1000
"""Pages of the write-ahead log at which it is put into the file, where there is little room on the
disk, and where there is plenty."""
PAGE = 4096
"""Bytes."""
VACUUM = 1024
"""Pages that are given back in one transaction."""
SLICE = 1000
"""Rows that are thrown away in one transaction."""
PATIENCE = 100
"""Milliseconds that a checkpoint waits for readers of other connections."""

SEEN_AT_MOST = 200_000
"""Events that are remembered to have been seen, of all plugins together."""

SURPLUS = "SELECT CAST(until AS REAL) FROM seen ORDER BY until DESC LIMIT 1 OFFSET ?"
EXPIRE = """
    DELETE FROM seen WHERE (plugin, source, id) IN
    (SELECT plugin, source, id FROM seen WHERE until <= ? LIMIT ?)
"""


def vacuum(connection: sqlite3.Connection, pages: int = VACUUM) -> None:
    """Give some of the pages that are free back to the disk."""
    # Each step of this statement gives one page back, and `execute` would take one step.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")


def shorten_log(connection: sqlite3.Connection, path: Path) -> None:
    """Empty the write-ahead log into the file if it has grown, unless others read it."""
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size > SHORT_LOG * PAGE:
        checkpoint(connection)


def limit_log(connection: sqlite3.Connection, pages: int) -> None:
    """Have the write-ahead log put into the file when it has so many pages."""
    connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")


def checkpoint(connection: sqlite3.Connection) -> None:
    """Empty the write-ahead log into the file, unless others read it or there is no room."""
    connection.execute(f"PRAGMA busy_timeout = {PATIENCE}")
    try:
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")


def expire(connection: sqlite3.Connection, now: float) -> None:
    """Forget what plugins have seen, where its time is over, and the oldest of very much."""
    newest = connection.execute(SURPLUS, (SEEN_AT_MOST,)).fetchone()
    until = now if newest is None else max(now, newest[0])
    deleted = SLICE
    while deleted == SLICE:
        deleted = connection.execute(EXPIRE, (until, SLICE)).rowcount


def drop_letters(connection: sqlite3.Connection, now: float, retention: Retention) -> int:
    """Throw away dead letters: those that are too old, and the first where there are too many.

    Not the first by their time, which is that of a clock that may have been wrong.
    """
    old = "SELECT number FROM dead_letter WHERE died_at < ? LIMIT ?"
    gone = connection.execute(old, (now - retention.max_age, SLICE)).fetchall()
    gone = gone or surplus(connection, retention)
    with transaction(connection):
        connection.executemany("DELETE FROM dead_letter WHERE number = ?", gone)
    return len(gone)


def surplus(connection: sqlite3.Connection, retention: Retention) -> list[tuple[int]]:
    """The first dead letters, as many as have to go so that the others may stay."""
    totals = "SELECT count(*), ifnull(sum(CAST(size AS INTEGER)), 0) FROM dead_letter"
    count, size = connection.execute(totals).fetchone()
    gone: list[tuple[int]] = []
    first = (
        "SELECT number, ifnull(CAST(size AS INTEGER), 0) FROM dead_letter ORDER BY number LIMIT ?"
    )
    for number, its_size in connection.execute(first, (SLICE,)).fetchall():
        if count <= retention.max_count and size <= retention.max_bytes:
            break
        gone.append((number,))
        count, size = count - 1, size - its_size
    return gone
