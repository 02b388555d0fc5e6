"""A damaged store, made anew of all that can be read, beside the old file and then in its place.

Owns what is read of a damaged file, and what becomes of an event that cannot be read.
Never knows what has damaged the file, nor how that is noticed.

Each table is read in its own order, from both ends up to the pages that cannot be read, and then
once more by an index that has the same values. Rows that an index has and the table has not are
sought on every page. So only a page with the rows themselves costs anything. An event of which no
more is left than its place in the index keeps a row without content, which its plugins put to the
dead letters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import attrs
import structlog

from ._copying import Copying
from ._files import damaged_of
from ._records import Backlog
from ._schema import DAMAGED, damage, first_number, first_value, transaction
from ._subscribers import FIRST_SET, Subscribers
from ._tables import LOST

LAST_SET = FIRST_SET << 10
"""The number above which no audience is."""

SUBSCRIBERS = "SELECT id, name, cursor, waiting, bytes FROM subscriber NOT INDEXED ORDER BY id"
NAMES = "SELECT id, name FROM subscriber INDEXED BY sqlite_autoindex_subscriber_1 ORDER BY name"
MEMBERS = "SELECT id, subscriber FROM audience NOT INDEXED ORDER BY id"
MEMBERS_TOO = """
    SELECT id, subscriber FROM audience INDEXED BY audience_by_subscriber ORDER BY subscriber
"""
PLACES = "SELECT number, audience FROM event INDEXED BY event_by_audience ORDER BY audience"
EVENTS = "SELECT number, audience, envelope, payload FROM event NOT INDEXED ORDER BY number"
EXCEPTIONS = """
    SELECT number, subscriber, ended, history, retry_at, crashes
    FROM exception NOT INDEXED ORDER BY number
"""
SEEN = "SELECT plugin, source, id, until FROM seen NOT INDEXED ORDER BY plugin"
SEEN_TOO = "SELECT plugin, source, id, until FROM seen INDEXED BY seen_by_until ORDER BY until"
LETTERS = "SELECT * FROM dead_letter NOT INDEXED ORDER BY number"
LETTERS_TOO = "SELECT number FROM dead_letter INDEXED BY dead_letter_by_age ORDER BY died_at"
COUNTERS = "SELECT name, value FROM counter NOT INDEXED ORDER BY name"
SEQUENCE = "SELECT name, seq FROM sqlite_sequence ORDER BY rowid"

MAKE_PLACES = (
    "CREATE TEMP TABLE place(number INTEGER PRIMARY KEY, audience INTEGER)",
    "CREATE TEMP TABLE letter_place(number INTEGER PRIMARY KEY)",
)
ADD_PLACE = """
    INSERT OR IGNORE INTO place SELECT ?1, ?2 WHERE ?2 IN (SELECT id FROM audience)
"""
ADD_LETTER_PLACE = "INSERT OR IGNORE INTO letter_place VALUES (?)"
# What a page of another table holds has no place, or other types: no other table has a moment or a
# payload in the columns of a dead letter.
ADD_EVENT = """
    INSERT OR IGNORE INTO event SELECT ?1, ?2, ifnull(?3, ''), ifnull(?4, '')
    WHERE EXISTS (SELECT * FROM place WHERE number = ?1) OR typeof(?3) || typeof(?4) = 'blobblob'
"""
RIGHT_AUDIENCES = """
    UPDATE event SET audience = (SELECT audience FROM place WHERE place.number = event.number)
    WHERE audience NOT IN (SELECT id FROM audience) AND number IN (SELECT number FROM place)
"""
WITHOUT_ROW = "FROM place WHERE number NOT IN (SELECT number FROM event)"
ADD_FOUND = """
    INSERT OR IGNORE INTO event SELECT ?1, ?2, ?3, ?4
    WHERE EXISTS (SELECT * FROM place WHERE number = ?1 AND audience = ?2)
"""
ADD_LOST = "INSERT INTO event SELECT number, audience, ?, '' " + WITHOUT_ROW
ADD_EXCEPTION = """
    INSERT OR IGNORE INTO exception SELECT ?1, ?2, ?3, ?4, ?5, ifnull(?6, 'none')
    WHERE EXISTS (SELECT * FROM event WHERE number = ?1)
    AND EXISTS (SELECT * FROM subscriber WHERE id = ?2)
"""
ADD_SEEN = "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)"
ADD_LETTER = """
    INSERT OR IGNORE INTO dead_letter SELECT ?1, ifnull(?2, 0), ifnull(?3, ''), ifnull(?4, ''),
        ifnull(?5, ''), ifnull(?6, 0.0), ifnull(?7, ''), ifnull(?8, 0), ifnull(?9, x''),
        ifnull(?10, x''), ifnull(?11, x'')
    WHERE (typeof(?6) = 'real' OR typeof(?11) = 'blob')
    AND (typeof(?3) = 'text' OR EXISTS (SELECT * FROM letter_place WHERE number = ?1))
"""
LETTERS_WITHOUT_ROW = """
    FROM letter_place WHERE number NOT IN (SELECT number FROM dead_letter)
"""
SET_SEQUENCE = "REPLACE INTO sqlite_sequence(rowid, name, seq) VALUES (1, 'dead_letter', ?)"
ADD_SUBSCRIBER = "INSERT INTO subscriber VALUES (?, ?, ?, ?, ?)"
ADD_MEMBER = "INSERT OR IGNORE INTO audience(id, subscriber) VALUES (?, ?)"
ADD_COUNTER = "REPLACE INTO counter VALUES (?, ?)"
DELETE_PASSED = "DELETE FROM event WHERE audience = ? AND number <= ?"
DELETE_EXCEPTIONS = "DELETE FROM exception WHERE number NOT IN (SELECT number FROM event)"
USED = "SELECT ifnull(max(number) >> 40, 0) FROM event WHERE number < 1 << 62"
HIGHEST_OPENING = 1 << 22

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.define
class _Known:
    """The record of a subscriber, as far as it can be read."""

    name: str
    cursor: int = 0
    backlog: Backlog | None = None
    """None where there is no record, so that nothing is known of what has ended."""


def salvage(
    path: Path, counters: Mapping[str, int], old: sqlite3.Connection, new: sqlite3.Connection
) -> None:
    """Copy all of a damaged file that can be read, and log what cannot.

    Args:
        path: the old file, for the log.
        counters: their values where the file's own cannot be read.
        old: it.
        new: an empty file of this version.

    Raises:
        sqlite3.DatabaseError: so much is damaged that nobody can tell whose the events are.
    """
    copying = Copying(path, old, new)
    copy = _Salvage(copying)
    for statement in MAKE_PLACES:
        new.execute(statement)
    subscribers = copy.subscribers()
    copy.events()
    copy.exceptions()
    copying.rows(ADD_SEEN, (SEEN, SEEN_TOO), (int, str, str, float))
    copy.letters()
    copy.counts(subscribers, first_number(copy.counters(subscribers, counters) + 1))
    _log.error(
        "the store is damaged: all that can be read is in a new file",
        path=str(path),
        kept=str(damaged_of(path)),
        lost_events=copy.lost_events,
        lost_dead_letters=copy.lost_letters,
    )


class _Salvage:
    """The way of everything that can be read into a new file."""

    def __init__(self, copying: Copying) -> None:
        self._copying = copying
        self._new = copying.new
        self.lost_events = 0
        self.lost_letters = 0

    def subscribers(self) -> dict[int, _Known]:
        """Copy the subscribers and their audiences."""
        members: set[tuple[int, int]] = set()
        for number, subscriber in self._copying.read((MEMBERS, MEMBERS_TOO), (int, int)):
            if number == subscriber < FIRST_SET or FIRST_SET <= number < LAST_SET:
                members.add((number, subscriber))
        some = {subscriber for _, subscriber in members}
        known: dict[int, _Known] = {}
        names = {
            (number, name)
            for number, name in self._copying.read((NAMES,), (int, str))
            if number in some or not some
        }
        types = (int, str, int, int, int)
        records = {row[:2]: row[2:] for row in self._copying.read((SUBSCRIBERS,), types)}
        # First those in both, since another page may be in the place of either.
        for key in (*(names & records.keys()), *names, *records):
            number, name = key
            if number in known or any(each.name == name for each in known.values()):
                continue
            known[number] = _Known(name)
            if key in records:
                cursor, waiting, size = records[key]
                known[number] = _Known(name, cursor, Backlog(waiting, size))
        if not known:
            raise damage("no plugin's name can be read")
        with transaction(self._new):
            rows = [(number, each.name, each.cursor, 0, 0) for number, each in known.items()]
            self._new.executemany(ADD_SUBSCRIBER, rows)
            members.update((number, number) for number in known)
            self._new.executemany(ADD_MEMBER, [each for each in members if each[1] in known])
        return known

    def events(self) -> None:
        """Copy the events; what has only a place in the index, keeps that."""
        self._copying.rows(ADD_PLACE, (PLACES,), (int, int))
        self._copying.rows(ADD_EVENT, (EVENTS,), (int, object, object, object))
        if self._copying.count(WITHOUT_ROW):
            self._copying.found(ADD_FOUND, (int, bytes, bytes))
        with transaction(self._new):
            self._new.execute(RIGHT_AUDIENCES)
            self.lost_events = self._new.execute(ADD_LOST, (LOST,)).rowcount

    def exceptions(self) -> None:
        """Copy the exceptions of the events that are there."""
        types = (int, int, int, object, object, object)
        self._copying.rows(ADD_EXCEPTION, (EXCEPTIONS,), types)

    def letters(self) -> None:
        """Copy the dead letters."""
        self._copying.rows(ADD_LETTER_PLACE, (LETTERS_TOO,), (int,))
        self._copying.rows(ADD_LETTER, (LETTERS,), (int, *[object] * 10))
        if self._copying.count(LETTERS_WITHOUT_ROW):
            types = (int, str, str, str, float, str, int, bytes, bytes, bytes)
            self._copying.found(ADD_LETTER, types)
        self.lost_letters = self._copying.count(LETTERS_WITHOUT_ROW)
        with transaction(self._new):
            last = first_value(self._new, "SELECT ifnull(max(number), 0) FROM dead_letter")
            said = [seq for _, seq in self._copying.read((SEQUENCE,), (str, int))]
            self._new.execute(SET_SEQUENCE, (max([last, *said]),))

    def counters(self, known: dict[int, _Known], others: Mapping[str, int]) -> int:
        """Copy the counters; returns that of the openings, so that no number is used twice."""
        counters = {**others, **dict(self._copying.read((COUNTERS,), (str, int)))}
        counters.pop(DAMAGED, None)
        openings = [first_value(self._new, USED), counters.get("openings", 0)]
        if "openings" not in counters:
            openings += [each.cursor >> 40 for each in known.values()]
        highest: int = max(each for each in openings if each < HIGHEST_OPENING)
        counters["openings"] = highest
        with transaction(self._new):
            self._new.executemany(ADD_COUNTER, counters.items())
        return highest

    def counts(self, known: dict[int, _Known], highest: int) -> None:
        """Count what waits, and remove what has ended.

        A subscriber for which more should wait than does, has missed events, which an index did not
        show, say. It gets all again that are in the log.
        """
        subscribers = Subscribers(self._new)
        with transaction(self._new):
            for each in subscribers.all():
                backlog = known[each.id].backlog
                counted = subscribers.count(each)
                if backlog is None or backlog.count > counted.count:
                    each.cursor = 0
                subscribers.recount(each, highest)
            for audience in {audience for each in subscribers.all() for audience in each.audiences}:
                low = min(each.cursor for each in subscribers.members(audience))
                self._new.execute(DELETE_PASSED, (audience, low))
            self._new.execute(DELETE_EXCEPTIONS)
