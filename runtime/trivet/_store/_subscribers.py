"""The subscribers of the log, and the sets of them that events are for.

Owns the cursor of each subscriber, what waits for it in numbers, and the audiences.
Never knows events, nor when a cursor moves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import attrs

from ._records import Backlog

FIRST_SET = 1 << 20
"""The number of the first audience of several; below it, an audience is a subscriber by itself."""
SETS = 64
"""Audiences of several subscribers, above which an event gets one that is larger than it needs."""

ADD = "INSERT INTO subscriber(name, cursor, waiting, bytes) VALUES (?, 0, 0, 0)"
ADD_MEMBER = "INSERT OR IGNORE INTO audience(id, subscriber) VALUES (?, ?)"
SUBSCRIBERS = "SELECT id, name, cursor FROM subscriber"
MEMBERS = "SELECT id, subscriber FROM audience"
COUNTS = "SELECT name, waiting, bytes FROM subscriber WHERE waiting > 0"
UNUSED = """
    DELETE FROM audience WHERE id >= ?
    AND NOT EXISTS (SELECT * FROM event WHERE event.audience = audience.id)
"""
RECOUNT = """
    SELECT count(*), ifnull(sum(ifnull(length(envelope), 0) + ifnull(length(payload), 0)), 0)
    FROM event LEFT JOIN exception
        ON exception.number = event.number AND exception.subscriber = :subscriber
    WHERE audience = :audience AND event.number > :cursor AND ended IS NOT 1
"""
CORRECT = "UPDATE subscriber SET cursor = ?, waiting = ?, bytes = ? WHERE id = ?"
DAMAGED = """
    SELECT name FROM subscriber WHERE NOT ifnull(typeof(cursor) || typeof(waiting) || typeof(bytes)
        = 'integerintegerinteger' AND cursor BETWEEN 0 AND ? AND waiting >= 0 AND bytes >= 0, 0)
"""


@attrs.define(eq=False)
class Subscriber:
    """One subscriber of the log."""

    id: int
    name: str
    cursor: int
    """Everything up to this number has ended for it."""
    audiences: list[int] = attrs.field(factory=list[int])
    """The audiences that it belongs to."""


@attrs.frozen
class Audience:
    """The subscribers that an event is for."""

    id: int
    excepted: tuple[int, ...] = ()
    """Members that the event is not for, all the same."""


class Subscribers:
    """The subscribers of one file; what is known of them here is what was committed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._by_name: dict[str, Subscriber] = {}
        self._members: dict[int, tuple[Subscriber, ...]] = {}
        self._audiences: dict[tuple[str, ...], Audience] = {}
        self._is_loaded = False

    def forget(self) -> None:
        """Read everything anew: a transaction was undone, or others have written."""
        self._is_loaded = False

    def get(self, name: str) -> Subscriber | None:
        """One of them; None if nothing was ever written for it."""
        if not self._is_loaded:
            self._load()
        return self._by_name.get(name)

    def members(self, audience: object) -> tuple[Subscriber, ...]:
        """The subscribers of an audience; nobody where there is no such audience."""
        if not self._is_loaded:
            self._load()
        return self._members.get(audience, ()) if isinstance(audience, int) else ()

    def counts(self) -> dict[str, Backlog]:
        """The backlog of each subscriber, as it is kept with every change."""
        rows = self._connection.execute(COUNTS).fetchall()
        return {name: Backlog(count, size) for name, count, size in rows}

    # Inside a transaction.

    def add(self, name: str) -> Subscriber:
        """The subscriber of this name, a new one if there is none."""
        known = self.get(name)
        if known is not None:
            return known
        number = self._connection.execute(ADD, (name,)).lastrowid
        assert number is not None
        self._connection.execute(ADD_MEMBER, (number, number))
        new = self._by_name[name] = Subscriber(number, name, 0, [number])
        self._members[number] = (new,)
        return new

    def audience(self, names: Sequence[str]) -> Audience:
        """The audience of an event for these subscribers."""
        if not self._is_loaded:
            self._load()
        key = tuple(names)
        known = self._audiences.get(key)
        if known is None:
            known = self._audiences[key] = self._find_audience({self.add(name) for name in names})
        return known

    def _find_audience(self, wanted: set[Subscriber]) -> Audience:
        if len(wanted) == 1:
            return Audience(wanted.pop().id)
        sets = {number: {*members} for number, members in self._members.items()}
        for number, members in sets.items():
            if members == wanted:
                return Audience(number)
        if sum(number >= FIRST_SET for number in sets) < SETS:
            return Audience(self._new_set(wanted))
        larger = [(len(members), number) for number, members in sets.items() if members >= wanted]
        if not larger:
            wanted_too = {*self._by_name.values()}
            larger = [(len(wanted_too), self._new_set(wanted_too))]
        number = min(larger)[1]
        excepted = {*self._members[number]} - wanted
        return Audience(number, tuple(each.id for each in excepted))

    def _new_set(self, members: Iterable[Subscriber]) -> int:
        query = "SELECT max(?, ifnull(max(id), 0) + 1) FROM audience WHERE typeof(id) = 'integer'"
        number: int = self._connection.execute(query, (FIRST_SET,)).fetchone()[0]
        self._members[number] = tuple(members)
        for each in self._members[number]:
            self._connection.execute(ADD_MEMBER, (number, each.id))
            each.audiences.append(number)
        return number

    def drop_unused(self) -> None:
        """Forget audiences for which no event is there, where there are many."""
        if sum(number >= FIRST_SET for number in self._members) > SETS // 2:
            self._connection.execute(UNUSED, (FIRST_SET,))
            self.forget()

    def mend(self, highest: int) -> None:
        """Count anew what waits for those of which the record is damaged.

        Args:
            highest: the number above which no event has been.
        """
        self._connection.execute(
            "INSERT OR IGNORE INTO audience(id, subscriber) SELECT id, id FROM subscriber"
        )
        damaged = {name for (name,) in self._connection.execute(DAMAGED, (highest,)).fetchall()}
        for each in self.all():
            if each.name in damaged:
                self.recount(each, highest)

    def recount(self, subscriber: Subscriber, highest: int) -> None:
        """Write down what waits for one of them, by reading it."""
        if not 0 <= subscriber.cursor <= highest:
            subscriber.cursor = 0
        counted = self.count(subscriber)
        values = (subscriber.cursor, counted.count, counted.bytes, subscriber.id)
        self._connection.execute(CORRECT, values)

    # In or out of one.

    def count(self, subscriber: Subscriber) -> Backlog:
        """Count what waits for one of them, by reading it."""
        count = size = 0
        for audience in subscriber.audiences:
            values = {
                "subscriber": subscriber.id,
                "audience": audience,
                "cursor": subscriber.cursor,
            }
            more, bytes_more = self._connection.execute(RECOUNT, values).fetchone()
            count, size = count + more, size + bytes_more
        return Backlog(count, size)

    def all(self) -> list[Subscriber]:
        """All of them."""
        if not self._is_loaded:
            self._load()
        return [*self._by_name.values()]

    def _load(self) -> None:
        self._audiences.clear()
        self._by_name.clear()
        by_id: dict[object, Subscriber] = {}
        for number, name, cursor in self._connection.execute(SUBSCRIBERS).fetchall():
            known_cursor = cursor if isinstance(cursor, int) else 0
            by_id[number] = self._by_name[str(name)] = Subscriber(number, str(name), known_cursor)
        members: dict[int, list[Subscriber]] = {}
        for audience, number in self._connection.execute(MEMBERS).fetchall():
            if number in by_id and isinstance(audience, int):
                members.setdefault(audience, []).append(by_id[number])
                by_id[number].audiences.append(audience)
        self._members = {number: tuple(each) for number, each in members.items()}
        self._is_loaded = True
