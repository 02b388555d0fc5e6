"""The ends of events: a cursor that moves on, and the few events that end out of order.

Owns what is written when an event has ended for a subscriber, and when its row goes.
Never knows transactions, nor why an event has ended.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence

import attrs

from ._records import Bury, DeadLetterFacts, Delete, Forget, Settlement, Update
from ._register import LeftOver
from ._subscribers import Subscriber, Subscribers
from ._unwritten import ends_in

UPDATE = """
    INSERT INTO exception(number, subscriber, ended, history, retry_at, crashes)
    SELECT number, ?, 0, ?, ?, 0 FROM event WHERE number = ?
    ON CONFLICT DO UPDATE SET history = excluded.history, retry_at = excluded.retry_at, crashes = 0
        WHERE ended IS NOT 1
"""
BLAME = """
    INSERT INTO exception(number, subscriber, ended, crashes)
    SELECT number, ?, 0, 1 FROM event WHERE number = ?
    ON CONFLICT DO UPDATE SET crashes = crashes + 1 WHERE ended IS NOT 1
"""
END = """
    INSERT INTO exception(number, subscriber, ended, crashes) VALUES (?, ?, 1, 0)
    ON CONFLICT DO UPDATE SET ended = 1, history = NULL, retry_at = NULL WHERE ended IS NOT 1
"""
ENDED_BEFORE = """
    SELECT number FROM exception
    WHERE number > ? AND number <= ? AND subscriber = ? AND ended = 1
"""
ENDED_FOR_OTHERS = """
    SELECT DISTINCT number FROM exception WHERE number > ? AND number <= ? AND ended = 1
"""
COUNT_PASSED = """
    SELECT count(*) FROM event INDEXED BY event_by_audience
    WHERE audience = ? AND number > ? AND number <= ?
"""
ALL_PASSED = """
    SELECT number FROM event INDEXED BY event_by_audience
    WHERE audience = ? AND number > ? AND number <= ?
"""
PASSED = "DELETE FROM exception WHERE number > ? AND number <= ? AND subscriber = ?"
MOVE = """
    UPDATE subscriber SET cursor = max(cursor, :cursor), waiting = max(0, waiting - :count),
        bytes = iif(waiting <= :count, 0, max(0, bytes - :size))
    WHERE id = :id
"""
AUDIENCE = "SELECT audience FROM event WHERE number = ?"
SIZE = "SELECT ifnull(length(envelope), 0) + ifnull(length(payload), 0) FROM event WHERE number = ?"
RECLAIM = "DELETE FROM event WHERE audience = ? AND number > ? AND number <= ?"
REMOVE = "DELETE FROM event WHERE number = ?"
REMOVE_EXCEPTIONS = "DELETE FROM exception WHERE number = ?"
ENDED_FOR = "SELECT subscriber FROM exception WHERE number = ? AND ended = 1"
BURY = """
    INSERT INTO dead_letter(
        plugin, event, id, source, died_at, reason, history, size, envelope, payload)
    SELECT ?, ?, ?, ?, ?, ?, ?, ? + ifnull(length(envelope), 0) + ifnull(length(payload), 0),
        ifnull(envelope, x''), ifnull(payload, x'')
    FROM event WHERE number = ?
"""
FORGET = "DELETE FROM seen WHERE plugin = ? AND source = ? AND id = ?"


@attrs.define
class _Ended:
    """Events that have ended for one subscriber."""

    numbers: list[int] = attrs.field(factory=list[int])
    sizes: list[int] = attrs.field(factory=list[int])

    def add(self, numbers: list[int], sizes: list[int]) -> None:
        self.numbers += numbers
        self.sizes += sizes


class Ends:
    """The ends of the events of one file. All methods are for use inside a transaction.

    Args:
        connection: the owner's.
        subscribers: those of the file.
    """

    def __init__(self, connection: sqlite3.Connection, subscribers: Subscribers) -> None:
        self._connection = connection
        self._subscribers = subscribers
        self._reclaimed: dict[int, int] = {}
        """The number up to which the events of an audience are gone."""

    def forget(self) -> None:
        """Know nothing of a transaction that was undone."""
        self._reclaimed.clear()

    def settle(self, settlements: Sequence[Settlement], cursors: Mapping[str, int]) -> None:
        """Write down what has become of events.

        Args:
            settlements: the changes, in their order.
            cursors: for each subscriber the number up to which everything has ended, be it by these
                settlements or before.
        """
        ended: defaultdict[str, _Ended] = defaultdict(_Ended)
        for each in settlements:
            match each:
                case Delete():
                    ended[each.plugin].add(each.numbers, each.sizes)
                case Update():
                    subscriber = self._subscribers.add(each.plugin)
                    values = (subscriber.id, each.history, each.retry_at, each.number)
                    self._connection.execute(UPDATE, values)
                case Bury():
                    self._bury(each)
                    ended[each.plugin].add([each.number], [each.size])
                case Forget():
                    key = (self._subscribers.add(each.plugin).id, each.source, each.id)
                    self._connection.execute(FORGET, key)
        if ended:
            self._end_all(ended, cursors)

    def settle_left_over(self, left: LeftOver) -> None:
        """Write down what a process has left that died: ends, and a crash for each other event."""
        names = {each.id: each.name for each in self._subscribers.all()}
        for number, subscriber in left.done:
            if subscriber in names:
                self._end_if_alive(number, names[subscriber])
        blamed = [(subscriber, number) for number, subscriber in left.blamed if subscriber in names]
        self._connection.executemany(BLAME, blamed)

    def _end_if_alive(self, number: int, plugin: str) -> None:
        row = self._connection.execute(SIZE, (number,)).fetchone()
        if row is not None and number > self._subscribers.add(plugin).cursor:
            self._end_all({plugin: _Ended([number], [row[0]])}, {})

    def _end_all(self, ended: Mapping[str, _Ended], cursors: Mapping[str, int]) -> None:
        moved: set[int] = set()
        complete: set[int] = set()
        for plugin, ends in ended.items():
            subscriber = self._subscribers.add(plugin)
            before = subscriber.cursor
            complete.update(self._end(subscriber, ends, max(before, cursors.get(plugin, 0))))
            if subscriber.cursor > before:
                moved.update(subscriber.audiences)
                passed = (before, subscriber.cursor)
                others = self._connection.execute(ENDED_FOR_OTHERS, passed).fetchall()
                complete.update(number for (number,) in others)
        for audience in moved:
            self._reclaim(audience)
        for number in complete:
            self._remove_if_complete(number)

    def _end(self, subscriber: Subscriber, ends: _Ended, cursor: int) -> list[int]:
        """Note the ends for one subscriber; returns the events that ended out of order."""
        before, known = subscriber.cursor, set[int]()
        if cursor > before:
            passed = (before, cursor, subscriber.id)
            rows = self._connection.execute(ENDED_BEFORE, passed).fetchall()
            known.update(number for (number,) in rows)
            now = {number for number in ends.numbers if before < number <= cursor}
            cursor = self._before_unread(subscriber, cursor, known | now)
            passed = (before, cursor, subscriber.id)
            self._connection.execute(PASSED, passed)
            subscriber.cursor = cursor
        sizes: list[int] = ends.sizes
        out_of_order: list[int] = []
        if known or min(ends.numbers) <= before or max(ends.numbers) > cursor:
            sizes = list[int]()
            for number, size in zip(ends.numbers, ends.sizes, strict=True):
                if number > cursor:
                    if not self._end_out_of_order(subscriber, number):
                        continue
                    out_of_order.append(number)
                elif number <= before or number in known:
                    continue
                sizes.append(size)
        values = {
            "cursor": cursor,
            "count": len(sizes),
            "size": sum(sizes),
            "id": subscriber.id,
        }
        self._connection.execute(MOVE, values)
        return out_of_order

    def _before_unread(self, subscriber: Subscriber, cursor: int, ended: set[int]) -> int:
        """The cursor, or one before the first event that has not ended: it was never read.

        That is so where an index did not show all events, since another page was in the place of
        one of its own.
        """
        places = [(each, subscriber.cursor, cursor) for each in subscriber.audiences]
        counts = (self._connection.execute(COUNT_PASSED, place) for place in places)
        if sum(each.fetchone()[0] for each in counts) <= len(ended):
            return cursor
        rows = (self._connection.execute(ALL_PASSED, place).fetchall() for place in places)
        unread = {number for some in rows for (number,) in some} - ended
        return min((number - 1 for number in unread), default=cursor)

    def _end_out_of_order(self, subscriber: Subscriber, number: int) -> bool:
        """Note the end of an event before which others wait; says whether it was not known."""
        audience = self._audience_of(number)
        if len(self._subscribers.members(audience)) == 1:
            self._remove(number)
            return True
        if audience is None:
            return False
        return self._connection.execute(END, (number, subscriber.id)).rowcount > 0

    def _audience_of(self, number: int) -> object:
        """The audience of an event; None if the event is gone."""
        row = self._connection.execute(AUDIENCE, (number,)).fetchone()
        return None if row is None else row[0]

    def _reclaim(self, audience: int) -> None:
        """Remove the events of an audience that all of its members have passed."""
        low = min((each.cursor for each in self._subscribers.members(audience)), default=0)
        before = self._reclaimed.get(audience, 0)
        if low <= before:
            return
        self._reclaimed[audience] = low
        self._connection.execute(RECLAIM, (audience, before, low))

    def _remove_if_complete(self, number: int) -> None:
        """Remove an event that has ended for all of its audience."""
        members = self._subscribers.members(self._audience_of(number))
        left = {each.id for each in members if each.cursor < number}
        if not members:
            return
        rows = self._connection.execute(ENDED_FOR, (number,)).fetchall()
        if left <= {subscriber for (subscriber,) in rows}:
            self._remove(number)

    def _remove(self, number: int) -> None:
        """Remove the row of an event."""
        self._connection.execute(REMOVE, (number,))
        self._connection.execute(REMOVE_EXCEPTIONS, (number,))

    def _bury(self, bury: Bury) -> None:
        letter = bury.letter
        values = (self._subscribers.add(bury.plugin).id, *_facts(letter), len(letter.history))
        self._connection.execute(BURY, (*values, bury.number))


def _facts(letter: DeadLetterFacts) -> tuple[object, ...]:
    return (
        letter.event,
        letter.id,
        letter.source,
        letter.died_at,
        letter.reason,
        letter.history,
    )


def cursors_of(some: Sequence[Settlement], cursors: Mapping[str, int]) -> dict[str, int]:
    """The cursors after the first of the settlements, which are in the order of their numbers."""
    return {
        plugin: min(max(numbers), cursors.get(plugin, 0))
        for plugin, numbers in ends_in(some).items()
    }
