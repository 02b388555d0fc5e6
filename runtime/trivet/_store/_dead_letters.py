"""The dead letters in the file of the durable inboxes: to look at, to replay, to throw away.

Owns the questions and commands of an operator, on the file of a stopped or of a running program.
Never knows that program: it has a connection of its own, and keeps every transaction short.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from ._records import DeadLetter, JournalUnavailableError
from ._schema import (
    MARK,
    SAME_TABLES,
    connect,
    damage,
    first_number,
    is_damage,
    next_opening,
    reported,
    transaction,
    version_of,
)
from ._tables import as_bytes

SLICE = 1000
"""Dead letters in one transaction."""

COLUMNS = """
    SELECT dead_letter.number, subscriber.name, event, dead_letter.id, source, died_at, reason,
        history, envelope, payload
    FROM dead_letter LEFT JOIN subscriber ON subscriber.id = dead_letter.plugin
"""
GET = COLUMNS + "WHERE dead_letter.number = ?"
MATCH = """
    WHERE (:plugin IS NULL OR subscriber.name = :plugin) AND (:event IS NULL OR event = :event)
        AND (:since IS NULL OR died_at >= :since) AND (:until IS NULL OR died_at < :until)
        AND (:text IS NULL OR instr(lower(reason), lower(:text)))
"""
LIST = (
    COLUMNS
    + MATCH
    + "AND dead_letter.number < :before ORDER BY dead_letter.number DESC LIMIT :size"
)
SELECTED = "FROM dead_letter LEFT JOIN subscriber ON subscriber.id = dead_letter.plugin" + MATCH
COUNT = "SELECT count(*) " + SELECTED
NUMBERS = "SELECT dead_letter.number " + SELECTED + "ORDER BY dead_letter.number"
REPLAY = """
    INSERT INTO event(number, audience, envelope, payload)
    SELECT ?, plugin, ifnull(envelope, x''), ifnull(payload, x'')
    FROM dead_letter WHERE number = ? AND plugin IN (SELECT id FROM subscriber)
"""
COUNT_REPLAYED = """
    UPDATE subscriber SET waiting = waiting + more.count, bytes = bytes + more.size
    FROM (
        SELECT audience, count(*) AS count, sum(length(envelope) + length(payload)) AS size
        FROM event WHERE number >= ? GROUP BY audience
    ) AS more WHERE more.audience = subscriber.id
"""
OF_NOBODY = "SELECT number FROM dead_letter WHERE plugin NOT IN (SELECT id FROM subscriber)"
AGREE = """
    SELECT (SELECT count(*) || ' ' || total(number) FROM dead_letter NOT INDEXED)
        = (SELECT count(*) || ' ' || total(number) FROM dead_letter INDEXED BY dead_letter_by_age)
"""
PURGE = "DELETE FROM dead_letter WHERE number = ?"


@attrs.frozen(kw_only=True)
class Criteria:
    """The dead letters that are meant; None for a criterion that does not matter."""

    numbers: Sequence[int] | None = None
    """Their numbers; `list` and `count` do not ask."""
    plugin: str | None = None
    """The plugin that failed."""
    event: str | None = None
    """The name of the event type."""
    since: float | None = None
    """The moment from which on they died; POSIX seconds."""
    until: float | None = None
    """The moment before which they died; POSIX seconds."""
    text: str | None = None
    """A text in the reason, whichever case its ASCII letters have."""

    def values(self) -> dict[str, object]:
        """The values for a query."""
        return attrs.asdict(self, filter=lambda field, _: field.name != "numbers")


ALL = Criteria()


class DeadLetters:
    """A connection to the dead letters of a file, to be left with `with`, soon.

    Args:
        path: the file.
        connection: one that is there already, and stays open.

    Raises:
        JournalUnavailableError: there is no such file, or it is not one of durable inboxes.
    """

    def __init__(self, path: Path, *, connection: sqlite3.Connection | None = None) -> None:
        self._path = path
        self._closing = ExitStack()
        self._connection = self._connect() if connection is None else connection

    def _connect(self) -> sqlite3.Connection:
        path = self._path
        if not path.exists():
            raise JournalUnavailableError(path, "there is no such file")
        with reported(path), ExitStack() as stack:
            connection = connect(path)
            stack.callback(connection.close)
            if version_of(connection, path) < SAME_TABLES:
                reason = "its tables are not of this version yet; the next start makes them so"
                raise JournalUnavailableError(path, reason)
            connection.execute("PRAGMA synchronous = FULL")
            self._closing = stack.pop_all()
            return connection

    def __enter__(self) -> DeadLetters:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    @contextmanager
    def _reported(self) -> Generator[None]:
        """Raise an error of SQLite as ours; a damaged page is marked, so that the owner knows."""
        try:
            with reported(self._path):
                yield
        except JournalUnavailableError as error:
            cause = error.__cause__
            if not isinstance(cause, sqlite3.DatabaseError) or not is_damage(cause):
                raise
            with suppress(sqlite3.Error), transaction(self._connection):
                self._connection.execute(MARK)
            reason = f"it is damaged ({cause}); the program, or its next start, makes it anew"
            raise JournalUnavailableError(self._path, reason) from cause

    def _look(self) -> None:
        """Raise where another page is in the place of one with dead letters."""
        with self._reported():
            if not self._connection.execute(AGREE).fetchone()[0]:
                raise damage("a table and its index do not fit together")

    def list(
        self, chosen: Criteria = ALL, *, limit: int | None = None, before: int | None = None
    ) -> list[DeadLetter]:
        """The dead letters that are meant, the newest first.

        Args:
            chosen: which.
            limit: at most so many.
            before: only those with a lower number.
        """
        if limit is None:
            self._look()
        letters: list[DeadLetter] = []
        left = limit if limit is not None else 1 << 62
        before = before if before is not None else 1 << 62
        while left > 0:
            values = {**chosen.values(), "before": before, "size": min(left, SLICE)}
            with self._reported():
                rows = self._connection.execute(LIST, values).fetchall()
            letters += [_letter(row) for row in rows]
            if len(rows) < SLICE:
                break
            left, before = left - len(rows), letters[-1].number
        return letters

    def get(self, number: int) -> DeadLetter | None:
        """One of them."""
        with self._reported():
            row = self._connection.execute(GET, (number,)).fetchone()
        return None if row is None else _letter(row)

    def count(self, chosen: Criteria = ALL) -> int:
        """The number of dead letters that are meant."""
        with self._reported():
            count: int = self._connection.execute(COUNT, chosen.values()).fetchone()[0]
        return count

    def replay(self, chosen: Criteria = ALL) -> int:
        """Put them back into the log, for the plugin that failed, without their history.

        Their order stays as it was; they come after everything that is in the log. One of which
        it cannot be told any more for which plugin it was stays where it is.

        Returns:
            The number of those that were put back.
        """

        def put_back(part: Sequence[int]) -> int:
            # In the same transaction, so that no number above these is used before they are there.
            first = first_number(next_opening(self._connection))
            new = zip(range(first, first + len(part)), part, strict=True)
            self._connection.executemany(REPLAY, new)
            self._connection.execute(COUNT_REPLAYED, (first,))
            return self._remove(part)

        self._look()
        with self._reported():
            nobodys = {number for (number,) in self._connection.execute(OF_NOBODY).fetchall()}
        return self._in_slices(
            [each for each in self._select(chosen) if each not in nobodys], put_back
        )

    def purge(self, chosen: Criteria = ALL) -> int:
        """Throw them away for ever; returns their number."""
        return self._in_slices(self._select(chosen), self._remove)

    def _select(self, chosen: Criteria) -> Sequence[int]:
        with self._reported():
            rows = self._connection.execute(NUMBERS, chosen.values()).fetchall()
        asked = None if chosen.numbers is None else set(chosen.numbers)
        return [number for (number,) in rows if asked is None or number in asked]

    def _remove(self, part: Sequence[int]) -> int:
        return self._connection.executemany(PURGE, [(number,) for number in part]).rowcount

    def _in_slices(self, numbers: Sequence[int], do: Callable[[Sequence[int]], int]) -> int:
        total = 0
        for part in slices(numbers):
            with self._reported(), transaction(self._connection):
                total += do(part)
        return total


def slices(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Parts of at most a transaction's size."""
    return (numbers[at : at + SLICE] for at in range(0, len(numbers), SLICE))


def _letter(columns: tuple[Any, ...]) -> DeadLetter:
    """A dead letter as it was read, also where a value is not of its column's type."""
    number, *texts, died_at, reason = columns[:7]
    plugin, event, event_id, source = ("" if text is None else str(text) for text in texts)
    if not isinstance(died_at, float):
        died_at = 0.0
    stored = (as_bytes(value) for value in columns[7:])
    return DeadLetter(number, plugin, event, event_id, source, died_at, str(reason), *stored)
