"""The room on the disk for one file: its ballast, its free pages, and the length of its log.

Owns what is done to have room, and the decision that there is too little.
Never knows what needs the room.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ._files import ballast_of
from ._records import JournalFullError
from ._upkeep import LONG_LOG, SHORT_LOG, VACUUM, checkpoint, limit_log, vacuum

PLENTY = 16 << 20
"""Bytes of room, below which pages are given back a few at a time, since the log that this takes is
a part of the ballast."""
FEW_PAGES = 64
ROOMY = 256 << 20
"""Bytes of room, below which the write-ahead log is kept short. A checkpoint of the log may take as
much of it as the log is long: a disk that fills up in a few seconds from here on would leave too
little for that."""
ROUNDS = 16
"""Times that pages are given back before the disk counts as full."""


class Room:
    """The room of one file; there is always enough for one in memory.

    Args:
        path: the file; None for one in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._ballast = None if path is None else ballast_of(path)
        self._connection: sqlite3.Connection
        self._has_long_log = False

    def use(self, connection: sqlite3.Connection) -> None:
        """Work with this connection from now on, whose log is short at first."""
        self._connection = connection
        limit_log(connection, SHORT_LOG)
        self._has_long_log = False

    def mind_log(self) -> None:
        """Let the log be long while there is plenty of room, since each checkpoint waits twice."""
        if self._ballast is None:
            return
        has_plenty = self._ballast.room() >= ROOMY
        if has_plenty != self._has_long_log:
            limit_log(self._connection, LONG_LOG if has_plenty else SHORT_LOG)
            if not has_plenty:
                checkpoint(self._connection)
            self._has_long_log = has_plenty

    def make(self, needed: int) -> None:
        """Have room for so many bytes, besides what settlements may need.

        Raises:
            JournalFullError: the disk is full.
        """
        if self._ballast is None or self._path is None or self._has(needed):
            return
        checkpoint(self._connection)  # First: what gives room back needs some for its log.
        for _ in range(ROUNDS):
            self.give_back()
            if self._has(needed):
                return
        raise JournalFullError(self._path, "the disk is full")

    def _has(self, needed: int) -> bool:
        ballast = self._ballast
        return ballast is None or (ballast.put_back() and ballast.room() >= needed)

    def give_back(self) -> None:
        """Give free pages back to the disk: a few, where there is little room for the log of it."""
        has_plenty = self._ballast is None or self._ballast.room() >= PLENTY
        vacuum(self._connection, VACUUM if has_plenty else FEW_PAGES)
        if not has_plenty:
            checkpoint(self._connection)

    def give_up(self) -> bool:
        """Give the ballast up, for the ends of events; says whether there was one."""
        return self._ballast is not None and self._ballast.give_up()

    def put_back(self) -> None:
        """Have the ballast again, if there is room for it."""
        if self._ballast is not None:
            self._ballast.put_back()
