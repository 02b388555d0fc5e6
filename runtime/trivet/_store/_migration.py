"""A store of version 1, made anew as one of this version.

Owns the way from a row for each event and subscriber to one log.
Never knows any later change of the tables.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog

from ._anew import make_anew
from ._copying import Copying, first_row, pieces
from ._lock import Lock
from ._register import LeftOver
from ._schema import transaction
from ._subscribers import Subscribers
from ._tables import LOST

TELL_EVERY = 5.0
"""Seconds between two lines of the log."""

COUNTERS = """
    SELECT name, value FROM counter WHERE name IN ('openings', 'stored') ORDER BY name
"""
PLUGINS = "SELECT id, name FROM plugin NOT INDEXED ORDER BY id"
PLUGINS_TOO = "SELECT id, name FROM plugin INDEXED BY sqlite_autoindex_plugin_1 ORDER BY name"
COUNT = "SELECT count(*) FROM queue ORDER BY 1"
QUEUE = """
    SELECT number, ifnull(plugin, 0), ifnull(envelope, x''), ifnull(payload, x''), history,
        retry_at, ifnull(crashes, 'none')
    FROM queue NOT INDEXED ORDER BY number
"""
PLACES = "SELECT number, plugin FROM queue INDEXED BY queue_by_plugin ORDER BY plugin"
SEEN = "SELECT plugin, source, id, until FROM seen NOT INDEXED ORDER BY plugin"
SEEN_TOO = "SELECT plugin, source, id, until FROM seen INDEXED BY seen_by_until ORDER BY until"
LETTERS = """
    SELECT number, ifnull(plugin, 0), ifnull(event, ''), ifnull(id, ''), ifnull(source, ''),
        ifnull(died_at, 0.0), ifnull(reason, ''), ifnull(size, 0), ifnull(history, x''),
        ifnull(envelope, x''), ifnull(payload, x'')
    FROM dead_letter NOT INDEXED ORDER BY number
"""
ADD_PLACE = "INSERT OR IGNORE INTO place VALUES (?, ?)"
EVENT = "INSERT OR IGNORE INTO event(number, audience, envelope, payload) VALUES (?, ?, ?, ?)"
WITHOUT_ROW = "FROM place WHERE number NOT IN (SELECT number FROM event)"
FOUND = """
    INSERT OR IGNORE INTO event(number, audience, envelope, payload) SELECT ?1, ?2, ?3, ?4
    WHERE EXISTS (SELECT * FROM place WHERE number = ?1 AND plugin = ?2)
        AND ?5 IS ?5 AND ?6 IS ?6 AND ?7 IS ?7
"""
LOST_EVENTS = "INSERT INTO event SELECT number, plugin, ?, '' " + WITHOUT_ROW
EXCEPTION = """
    INSERT OR IGNORE INTO exception(number, subscriber, ended, history, retry_at, crashes)
    VALUES (?, ?, 0, ?, ?, ?)
"""
LETTER = "INSERT OR IGNORE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
LAST_LETTER = (
    "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'dead_letter' ORDER BY 1"
)

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


def migrate(path: Path, lock: Lock, left: LeftOver) -> None:
    """Put a file of this version in the place of one of version 1; see `make_anew`.

    Args:
        path: the file.
        lock: its lock, which goes over to the new file.
        left: what the register says of the last process.
    """

    def copy(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
        _Migration(Copying(path, old, new)).run(left)

    make_anew(path, lock, copy)
    _log.info("the store has a new form", path=str(path))


class _Migration:
    """One way of everything that is in the old file into the new one."""

    def __init__(self, copying: Copying) -> None:
        self._copying = copying
        self._old = copying.old
        self._new = copying.new
        self._told = time.monotonic()

    def run(self, left: LeftOver) -> None:
        """Copy it."""
        copying = self._copying
        copying.rows("REPLACE INTO counter VALUES (?, ifnull(?, 0))", (COUNTERS,), (str, object))
        self._copy_events(left)
        copying.rows(
            "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", (SEEN, SEEN_TOO), (object,) * 4
        )
        copying.rows(LETTER, (LETTERS,), (int, *[object] * 10))
        with transaction(self._new):
            (last,) = first_row(self._old, LAST_LETTER) or (0,)
            self._new.execute("DELETE FROM sqlite_sequence WHERE name = 'dead_letter'")
            self._new.execute("INSERT INTO sqlite_sequence VALUES ('dead_letter', ?)", (last,))

    def _copy_events(self, left: LeftOver) -> None:
        done = {number for number, _ in left.done}
        blamed = {number for number, _ in left.blamed}
        names = dict(self._copying.read((PLUGINS, PLUGINS_TOO), (int, str)))
        with transaction(self._new):
            for number, name in names.items():
                values = (number, name, 0, 0, 0)
                self._new.execute("INSERT INTO subscriber VALUES (?, ?, ?, ?, ?)", values)
                self._new.execute("INSERT INTO audience VALUES (?, ?)", (number, number))
        (count,) = first_row(self._old, COUNT) or (0,)
        copied = 0
        with closing(self._copying.read((QUEUE,), (int, *[object] * 6))) as every:
            for rows in pieces(every):
                stays = [row for row in rows if row[0] not in done]
                with transaction(self._new):
                    self._new.executemany(EVENT, (row[:4] for row in stays))
                    self._new.executemany(EXCEPTION, _exceptions(stays, blamed))
                copied += len(rows)
                self._tell(copied, count)
        self._find_others(done)
        subscribers = Subscribers(self._new)
        with transaction(self._new):
            for each in subscribers.all():
                subscribers.recount(each, 0)

    def _find_others(self, done: set[int]) -> None:
        """Find events that an index has, and the table has not: a page of that is damaged."""
        self._new.execute("CREATE TEMP TABLE place(number INTEGER PRIMARY KEY, plugin INTEGER)")
        self._copying.rows(ADD_PLACE, (PLACES,), (int, int))
        with transaction(self._new):
            self._new.executemany("DELETE FROM place WHERE number = ?", ((at,) for at in done))
        if not self._copying.count(WITHOUT_ROW):
            return
        self._copying.found(FOUND, (int, bytes, bytes, object, object, object))
        with transaction(self._new):
            lost = self._new.execute(LOST_EVENTS, (LOST,)).rowcount
        _log.error("pages of the store are damaged", path=str(self._copying.path), lost_events=lost)

    def _tell(self, copied: int, count: int) -> None:
        now = time.monotonic()
        if now >= self._told + TELL_EVERY:
            self._told = now
            path = str(self._copying.path)
            _log.info("the store gets a new form", copied=copied, of=count, path=path)


def _exceptions(rows: list[tuple[Any, ...]], blamed: set[int]) -> Iterator[tuple[Any, ...]]:
    """The exceptions of the events that were tried."""
    for number, plugin, _, _, history, retry_at, crashes in rows:
        count = crashes
        if number in blamed and isinstance(crashes, int):
            count = crashes + 1
        if history is not None or retry_at is not None or count != 0:
            yield number, plugin, history, retry_at, count
