"""A store's file made anew: beside the old one, then in its place.

Owns the new file until it is whole, and the exchange.
Never knows what is copied, nor why.

The old file is as it was until the new one is whole and on the disk. A process that is killed, or
has no room, leaves a new file that is not whole, which the next start throws away.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

from ._files import log_of, new_of
from ._lock import Lock
from ._records import JournalUnavailableError
from ._schema import connect, create
from ._upkeep import checkpoint

Copies = Callable[[sqlite3.Connection, sqlite3.Connection], None]
"""Copies an old file into a new one, which has the tables of this version."""


def make_anew(path: Path, lock: Lock, copy: Copies, *, keep: Path | None = None) -> None:
    """Put a new file in the place of an old one.

    Args:
        path: the file.
        lock: its lock, which goes over to the new file.
        copy: what copies the content.
        keep: the name that the old file is to have; None if nobody needs it.

    Raises:
        JournalUnavailableError: the file has other names, or its log is in use.
        sqlite3.Error: it is damaged, or there is no room.
    """
    if path.stat().st_nlink > 1:
        reason = "it has several names, and can be made anew under one only"
        raise JournalUnavailableError(path, reason)
    new_path = new_of(path)
    with closing(connect(path)) as old:
        old.execute("PRAGMA locking_mode = EXCLUSIVE")
        with _new_file(new_path) as new:
            checkpoint(old)  # What reads the pages by hand finds the last of each.
            old.execute("BEGIN IMMEDIATE")  # Nobody writes into the old file any more.
            copy(old, new)
            old.execute("ROLLBACK")
        checkpoint(old)
        log = log_of(path)
        if log.exists() and log.stat().st_size:
            new_path.unlink()
            raise JournalUnavailableError(path, "another process reads it; try again")
        if keep is not None:
            keep.unlink(missing_ok=True)
            keep.hardlink_to(path)
        lock.hand_over(new_path)


@contextmanager
def _new_file(path: Path) -> Generator[sqlite3.Connection]:
    """A new file; it is whole and on the disk when the block is left, or gone if that fails."""
    path.unlink(missing_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA page_size = 4096")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = OFF")  # What is not whole is thrown away.
            connection.execute("PRAGMA synchronous = OFF")
            create(connection)
            yield connection
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
