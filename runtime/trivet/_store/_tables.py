"""The tables of the durable inboxes: what is written into them, and read from them.

Owns the statements for events that come in, that are read, and for what plugins have seen.
Never knows transactions, nor why one is written: the journal does.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from itertools import groupby
from operator import attrgetter
from typing import Any

from ._commit import Append
from ._records import Row, Seen, Takes
from ._schema import damage
from ._subscribers import Subscriber, Subscribers

APPEND = "INSERT INTO event(number, audience, envelope, payload) VALUES (?, ?, ?, ?)"
EXCEPT = "INSERT INTO exception(number, subscriber, ended, crashes) VALUES (?, ?, 1, 0)"
COUNT = "UPDATE subscriber SET waiting = waiting + ?, bytes = bytes + ? WHERE id = ?"
REMEMBER = "INSERT OR REPLACE INTO seen(plugin, source, id, until) VALUES (?, ?, ?, ?)"
READ = """
    SELECT event.number, envelope, payload, history, retry_at,
        iif(exception.number IS NULL, 0, crashes)
    FROM event {how} LEFT JOIN exception
        ON exception.number = event.number AND exception.subscriber = ?
    WHERE {which} AND ended IS NOT 1
"""
READ_ON = (
    READ.format(how="INDEXED BY event_by_audience", which="audience = ? AND event.number > ?")
    + " ORDER BY event.number LIMIT ?"
)
READ_ONE = READ.format(how="", which="audience = ? AND event.number = ?")
SEEN = """
    SELECT source, seen.id, until FROM seen JOIN subscriber ON subscriber.id = seen.plugin
    WHERE subscriber.name = ?
        AND typeof(source) || typeof(seen.id) || typeof(until) = 'texttextreal'
    ORDER BY until
"""
USED = """
    WITH RECURSIVE used(audience) AS (
        SELECT min(audience) FROM event
        UNION ALL
        SELECT (SELECT min(audience) FROM event WHERE audience > used.audience) FROM used
        WHERE used.audience IS NOT NULL
    ) SELECT audience FROM used WHERE audience IS NOT NULL
"""
OF_AUDIENCE = "SELECT count(*) FROM event WHERE audience IS ?"


_plugins_of = attrgetter("plugins")


class Tables:
    """The tables, over the owner's connection."""

    def __init__(self, connection: sqlite3.Connection, subscribers: Subscribers) -> None:
        self._connection = connection
        self._subscribers = subscribers

    def append(self, appends: Sequence[Append]) -> None:
        """Put events into the log, and remember that they were there; inside a transaction."""
        rows: list[tuple[object, ...]] = []
        seen: list[tuple[int, str, str, float]] = []
        counts, sizes = Counter[int](), Counter[int]()
        excepted: list[tuple[int, int]] = []
        for plugins, neighbours in groupby(appends, _plugins_of):
            audience = self._subscribers.audience(plugins)
            number, some = audience.id, [*neighbours]
            size = sum([len(each.envelope) + len(each.payload) for each in some])
            rows += [(each.number, number, each.envelope, each.payload) for each in some]
            for key in (number, *(-subscriber for subscriber in audience.excepted)):
                counts[key] += len(some)
                sizes[key] += size
            for subscriber in audience.excepted:
                excepted += [(each.number, subscriber) for each in some]
            for each in some:
                for plugin, its in each.seen or ():
                    key = self._subscribers.add(plugin).id
                    seen.append((key, its.source, its.id, its.until))
        self._connection.executemany(APPEND, rows)
        if excepted:
            self._connection.executemany(EXCEPT, excepted)
        self._count(counts, sizes)
        if seen:
            self._connection.executemany(REMEMBER, seen)

    def _count(self, counts: Counter[int], sizes: Counter[int]) -> None:
        """Add to what waits, by the audience; less for a subscriber by its negative number."""
        more, bytes_more = Counter[int](), Counter[int]()
        for audience, count in counts.items():
            if audience < 0:
                more[-audience] -= count
                bytes_more[-audience] -= sizes[audience]
            for member in self._subscribers.members(audience):
                more[member.id] += count
                bytes_more[member.id] += sizes[audience]
        values = [(count, bytes_more[number], number) for number, count in more.items()]
        self._connection.executemany(COUNT, values)

    # In or out of one.

    def read(self, plugin: str, after: int, limit: int, take: Takes) -> list[Row]:
        """See `Journal.read`."""
        subscriber = self._subscribers.get(plugin)
        if subscriber is None:
            return []
        after = max(after, subscriber.cursor)
        with ExitStack() as cursors:
            sources = [
                cursors.enter_context(
                    closing(self._connection.execute(READ_ON, (subscriber.id, each, after, limit)))
                )
                for each in subscriber.audiences
            ]
            columns = sources[0] if len(sources) == 1 else heapq.merge(*sources)
            return _taken((_row(plugin, each) for each in columns), limit, take)

    def read_numbers(self, plugin: str, numbers: Iterable[int], take: Takes) -> list[Row]:
        """See `Journal.read_numbers`."""
        subscriber = self._subscribers.get(plugin)
        wanted = sorted(numbers)
        if subscriber is None:
            return []
        found = (self._read_one(subscriber, number) for number in wanted)
        return _taken((row for row in found if row is not None), len(wanted), take)

    def _read_one(self, subscriber: Subscriber, number: int) -> Row | None:
        for audience in subscriber.audiences:
            values = (subscriber.id, audience, number)
            if rows := self._connection.execute(READ_ONE, values).fetchall():
                return _row(subscriber.name, rows[0])
        return None

    def seen(self, plugin: str) -> list[Seen]:
        """See `Journal.seen`."""
        return [Seen(*row) for row in self._connection.execute(SEEN, (plugin,)).fetchall()]

    def orphans(self) -> int:
        """Events of which it cannot be told who they are for."""
        # One step for each audience, however many events wait.
        used = [audience for (audience,) in self._connection.execute(USED).fetchall()]
        strange = [None, *(each for each in used if not self._subscribers.members(each))]
        counts = (self._connection.execute(OF_AUDIENCE, (each,)) for each in strange)
        return sum(each.fetchone()[0] for each in counts)


def _taken(rows: Iterable[Row], limit: int, take: Takes) -> list[Row]:
    """The rows up to the first after which `take` wants no other."""
    taken: list[Row] = []
    for row in rows:
        if len(taken) == limit:
            break
        if taken and row.number <= taken[-1].number:
            raise damage("another page is in the place of one of an index")
        taken.append(row)
        if not take(row):
            break
    return taken


LOST = "its page cannot be read"
"""The envelope of an event of which no more is known than its place."""
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
    what = envelope if (envelope, payload) == (LOST, "") else ", ".join(wrong)
    reason = f"damaged in the store: {what}"
    return Row(plugin, number, as_bytes(envelope), as_bytes(payload), damage=reason)


def as_bytes(value: object) -> bytes:
    """A value of any type that SQLite has, where there should be bytes."""
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()
