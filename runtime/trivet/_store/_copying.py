"""The copying of a file's rows into a new one, as far as they can be read.

Owns how a table is read whose pages may be damaged.
Never knows a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from ._raw import rows
from ._schema import first_value, is_damage, transaction

PIECE = 1000
"""Rows in one transaction, at most."""
PIECE_BYTES = 4 << 20
"""Bytes of rows, after which a transaction ends."""


@attrs.frozen
class Copying:
    """The way of rows out of an old file into a new one."""

    path: Path
    """The old file."""
    old: sqlite3.Connection
    new: sqlite3.Connection

    def rows(self, insert: str, queries: Sequence[str], types: Sequence[type]) -> None:
        """Copy rows; see `read`."""
        self._add(insert, self.read(queries, types))

    def found(self, insert: str, types: Sequence[type]) -> None:
        """Copy the rows that are on any page, whatever leads there.

        Args:
            insert: a statement that takes only rows that are known to be real.
            types: of the values behind the number, which is the first column.
        """
        size: int = first_value(self.old, "PRAGMA page_size")
        every = rows(self.path, size, 1 + len(types))
        right = ((number, *each) for number, (_, *each) in every if are(each, types))
        self._add(insert, right)

    def read(self, queries: Sequence[str], types: Sequence[type]) -> Generator[tuple[Any, ...]]:
        """The rows of a table that can be read, some perhaps twice.

        Args:
            queries: for the table and for an index that has the same; each in one order.
            types: of the values; rows with others are another table's.
        """
        for query in queries:
            for row in from_both_ends(self.old, query):
                if are(row, types):
                    yield row

    def count(self, of: str) -> int:
        """The number of rows in the new file."""
        count: int = first_value(self.new, f"SELECT count(*) {of}")
        return count

    def _add(self, insert: str, some: Generator[tuple[Any, ...]]) -> None:
        with closing(some):  # A statement that is left alone would keep the old file locked.
            for piece in pieces(some):
                with transaction(self.new):
                    self.new.executemany(insert, piece)


def are(values: Sequence[object], types: Sequence[type]) -> bool:
    """Whether the values have these types."""
    return all(map(isinstance, values, types))


def from_both_ends(connection: sqlite3.Connection, query: str) -> Generator[tuple[Any, ...]]:
    """The rows before the first page that cannot be read, and those behind the last."""
    for direction in ("ASC", "DESC"):
        try:
            with closing(connection.execute(f"{query} {direction}")) as cursor:
                yield from cursor
        except sqlite3.DatabaseError as error:
            if not is_damage(error) and "no such index" not in str(error):
                raise
        else:
            return


def first_row(connection: sqlite3.Connection, query: str) -> tuple[Any, ...] | None:
    """The first row of an ordered query, if any can be read."""
    with closing(from_both_ends(connection, query)) as found:
        return next(found, None)


def pieces(every: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows in pieces that are written together."""
    piece: list[tuple[Any, ...]] = []
    size = 0
    for row in every:
        piece.append(row)
        size += sum(len(value) for value in row if isinstance(value, (bytes, str)))
        if len(piece) >= PIECE or size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
