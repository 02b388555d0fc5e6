"""The tables of the durable inboxes: what is written into them, and read from them.

Owns the statements for events, for what plugins have seen, and for the burial of an event.
Never knows transactions, nor why one is written: the journal does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

from ._records import (
    Append,
    Backlog,
    Bury,
    DeadLetterFacts,
    Delete,
    Forget,
    Row,
    Seen,
    Settlement,
    Takes,
    Update,
)

APPEND = """
    INSERT INTO queue(number, plugin, envelope, payload, history, retry_at, crashes)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
REMEMBER = "INSERT OR REPLACE INTO seen(plugin, source, id, until) VALUES (?, ?, ?, ?)"
DELETE = "DELETE FROM queue WHERE number = ?"
UPDATE = "UPDATE queue SET history = ?, retry_at = ?, crashes = 0 WHERE number = ?"
BLAME = "UPDATE queue SET crashes = crashes + 1 WHERE number = ?"
BURY = """
    INSERT INTO dead_letter(
        plugin, event, id, source, died_at, reason, history, size, envelope, payload)
    SELECT plugin, ?, ?, ?, ?, ?, ?, ? + ifnull(length(envelope), 0) + ifnull(length(payload), 0),
        ifnull(envelope, x''), ifnull(payload, x'')
    FROM queue WHERE number = ?
"""
FORGET = "DELETE FROM seen WHERE plugin = ? AND source = ? AND id = ?"
READ = "SELECT number, envelope, payload, history, retry_at, crashes FROM queue"
READ_ON = READ + " WHERE plugin = ? AND number > ? ORDER BY number LIMIT ?"
READ_ONE = READ + " WHERE plugin = ? AND number = ?"
SEEN = """
    SELECT source, seen.id, until FROM seen JOIN plugin ON plugin.id = seen.plugin
    WHERE plugin.name = ? AND typeof(source) || typeof(seen.id) || typeof(until) = 'texttextreal'
    ORDER BY until
"""
ORPHANS = "SELECT count(*) FROM queue WHERE plugin NOT IN (SELECT id FROM plugin)"
COUNTS = """
    SELECT plugin.name, count(*),
        ifnull(sum(ifnull(length(envelope), 0) + ifnull(length(payload), 0)), 0)
    FROM queue JOIN plugin ON plugin.id = queue.plugin GROUP BY queue.plugin
"""


class Tables:
    """The tables, over the owner's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._plugins: dict[str, int] = {}

    def forget_plugins(self) -> None:
        """A transaction was undone, in which some of them may have been new."""
        self._plugins.clear()

    # Inside a transaction.

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Write down what has become of events."""
        deletes: list[int] = []
        for each in settlements:
            match each:
                case Delete():
                    deletes.append(each.number)
                case Update():
                    values = (each.history, each.retry_at, each.number)
                    self._connection.execute(UPDATE, values)
                case Bury():
                    self._bury(each.number, each.letter)
                    deletes.append(each.number)
                case Forget():
                    key = (self._plugin(each.plugin), each.source, each.id)
                    self._connection.execute(FORGET, key)
        if deletes:
            self.delete(deletes)

    def append(self, appends: Sequence[Append]) -> None:
        """Put events into their queues, and remember that they were there."""
        rows: list[tuple[object, ...]] = []
        seen: list[tuple[int, str, str, float]] = []
        for append in appends:
            row = append.row
            plugin = self._plugins.get(row.plugin) or self._plugin(row.plugin)
            texts = (row.envelope, row.payload, row.history)
            rows.append((row.number, plugin, *texts, row.retry_at, row.crashes))
            if append.seen is not None:
                seen.append((plugin, append.seen.source, append.seen.id, append.seen.until))
        if rows:
            self._connection.executemany(APPEND, rows)
        if seen:
            self._connection.executemany(REMEMBER, seen)

    def delete(self, numbers: Iterable[int]) -> None:
        """Take events out of their queues."""
        self._connection.executemany(DELETE, [(number,) for number in numbers])

    def blame(self, numbers: Iterable[int]) -> None:
        """Count a crash for each of these events."""
        self._connection.executemany(BLAME, [(number,) for number in numbers])

    # In or out of one.

    def read(self, plugin: str, after: int, limit: int, take: Takes) -> list[Row]:
        """See `Journal.read`."""
        values = (self._plugin(plugin), after, limit)
        with closing(self._connection.execute(READ_ON, values)) as rows:
            return _taken((_row(plugin, row) for row in rows), take)

    def read_numbers(self, plugin: str, numbers: Iterable[int], take: Takes) -> list[Row]:
        """See `Journal.read_numbers`."""
        known_as = self._plugin(plugin)
        rows = (
            _row(plugin, row)
            for number in sorted(numbers)
            for row in self._connection.execute(READ_ONE, (known_as, number)).fetchall()
        )
        return _taken(rows, take)

    def seen(self, plugin: str) -> list[Seen]:
        """See `Journal.seen`."""
        return [Seen(*row) for row in self._connection.execute(SEEN, (plugin,)).fetchall()]

    def counts(self) -> dict[str, Backlog]:
        """See `Journal.counts`."""
        rows = self._connection.execute(COUNTS).fetchall()
        return {name: Backlog(count, size) for name, count, size in rows}

    def orphans(self) -> int:
        """Events of which it cannot be told for which plugin they are."""
        count: int = self._connection.execute(ORPHANS).fetchone()[0]
        return count

    def _bury(self, number: int, letter: DeadLetterFacts) -> None:
        facts = (letter.event, letter.id, letter.source, letter.died_at, letter.reason)
        size = len(letter.history)
        self._connection.execute(BURY, (*facts, letter.history, size, number))

    def _plugin(self, name: str) -> int:
        """The number of a plugin; 0 if nothing was ever written for it."""
        if name not in self._plugins:
            if self._connection.in_transaction:
                insert = "INSERT OR IGNORE INTO plugin(name) VALUES (?)"
                self._connection.execute(insert, (name,))
            query = "SELECT id FROM plugin WHERE name = ?"
            row = self._connection.execute(query, (name,)).fetchone()
            if row is None:
                return 0
            self._plugins[name] = row[0]
        return self._plugins[name]


def _taken(rows: Iterable[Row], take: Takes) -> list[Row]:
    """The rows up to the first after which `take` wants no other."""
    taken: list[Row] = []
    for row in rows:
        taken.append(row)
        if not take(row):
            break
    return taken


COLUMNS = ("envelope", "payload", "history", "retry_at", "crashes")


def _row(plugin: str, columns: tuple[Any, ...]) -> Row:
    """A row as it was read; with what is wrong where a value is not of its column's type."""
    number, envelope, payload, history, retry_at, crashes = columns
    is_sound = (
        type(envelope) is bytes
        and type(payload) is bytes
        and (history is None or type(history) is bytes)
        and (retry_at is None or type(retry_at) is float)
        and type(crashes) is int
    )
    if is_sound:
        return Row(plugin, *columns)
    kinds = (bytes, bytes, bytes | None, float | None, int)
    named = zip(COLUMNS, columns[1:], kinds, strict=True)
    wrong = [name for name, value, kind in named if not isinstance(value, kind)]
    damage = f"damaged in the store: {', '.join(wrong)}"
    return Row(plugin, number, as_bytes(envelope), as_bytes(payload), damage=damage)


def as_bytes(value: object) -> bytes:
    """A value of any type that SQLite has, where there should be bytes."""
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()
