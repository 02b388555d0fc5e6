"""Copies of a store's file for an operator: a backup, its return, and the file without free pages.

Owns the steps by which a copy is whole or not there at all.
Never knows a running program: a backup reads the file as any reader does, and what writes owns it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs

from ._files import log_of, new_of, register_of
from ._lock import Lock
from ._records import JournalUnavailableError
from ._register import Register
from ._schema import connect, first_value, reported, version_of

STORED = "SELECT ifnull(max(value), 0) FROM counter WHERE name = 'stored'"
LAST = "SELECT ifnull(max(number), 0) FROM event"
LETTERS = "SELECT count(*) FROM dead_letter"


@attrs.frozen
class Copy:
    """The content of a copy."""

    moment: datetime
    """The moment, in UTC: every event that was accepted before it is in the copy, unless it had
    ended."""
    stored: int
    """Events that were ever stored in the file until then."""
    waiting: int
    """Events that wait for a plugin, or for several."""
    last: int
    """The number of the last of them; 0 without any."""
    dead_letters: int
    """Dead letters."""


def back_up(path: Path, copy: Path) -> Copy:
    """Copy a file of which other processes may write; the copy has no free pages.

    Args:
        path: the store's file.
        copy: the file that is made.

    Raises:
        JournalUnavailableError: `copy` is there already, or one of the files cannot be read or
            written.
        JournalFullError: the disk is full.
    """
    if copy.exists():
        raise JournalUnavailableError(copy, "it is there already, and a backup replaces nothing")
    moment = datetime.now(UTC)
    with reported(path), closing(connect(path)) as connection:
        version_of(connection, path)
        with _whole(copy, connection):
            return _content(copy, moment)


def restore(path: Path, copy: Path) -> Path | None:
    """Put a backup in the place of a store's file, which no program may own.

    The file that was there, and its register, are kept under another name.

    Args:
        path: the store's file; it need not be there.
        copy: the backup, which stays as it is.

    Returns:
        The name under which the file that was there is kept; None where there was none.

    Raises:
        JournalInUseError: a program owns the file.
        JournalUnavailableError: the backup is damaged, or no store; or a file cannot be read or
            written.
        JournalFullError: the disk is full.
    """
    path = path.resolve()
    _refuse_damage(copy)
    with reported(path), ExitStack() as stack:
        lock = Lock(path)
        stack.callback(lock.release)
        new = new_of(path)
        new.unlink(missing_ok=True)
        with closing(connect(copy)) as connection, _whole(new, connection):
            stored = first_value(connection, STORED)
        kept = _keep(path)
        lock.hand_over(new)
        register = register_of(path)
        if kept is not None and register.exists():
            register.rename(register_of(kept))
        with closing(Register(register)) as made:
            made.stored = stored
        return kept


def compact(path: Path) -> tuple[int, int]:
    """Give all free pages of a file back to the disk; no program may own it.

    Returns:
        Its size in bytes before and after.

    Raises:
        JournalInUseError: a program owns it.
        JournalUnavailableError: it is damaged, no store, or cannot be written.
        JournalFullError: the disk has no room for a copy.
    """
    path = path.resolve()
    with reported(path), ExitStack() as stack:
        lock = Lock(path)
        stack.callback(lock.release)
        before = _size(path)
        with closing(connect(path)) as connection:
            version_of(connection, path)
            connection.execute("VACUUM")
        return before, _size(path)


def _size(path: Path) -> int:
    log = log_of(path)
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


@contextmanager
def _whole(copy: Path, connection: sqlite3.Connection) -> Generator[None]:
    """Copy all that a connection sees into a file that has its name when the block is left.

    Within the block the file is there under the name, and it is gone again if anything fails.
    """
    try:
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise JournalUnavailableError(copy, error.strerror or str(error)) from error
    try:
        connection.execute("VACUUM INTO ?", (str(copy.absolute()),))
        _synchronize(copy)
        _synchronize(copy.absolute().parent)
        yield
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _synchronize(path: Path) -> None:
    """Have a file, or a directory, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _content(copy: Path, moment: datetime) -> Copy:
    with closing(connect(copy)) as connection:
        waiting = first_value(connection, "SELECT count(*) FROM event")
        last = first_value(connection, LAST)
        stored, letters = first_value(connection, STORED), first_value(connection, LETTERS)
        return Copy(moment, stored, waiting, last, letters)


def _refuse_damage(copy: Path) -> None:
    """Raise where a backup is not what it should be."""
    if not copy.is_file():
        raise JournalUnavailableError(copy, "there is no such file")
    with reported(copy), closing(connect(copy)) as connection:
        if not version_of(connection, copy):
            raise JournalUnavailableError(copy, "it is empty, and no store")
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise JournalUnavailableError(copy, f"it is damaged: {found}")


def _keep(path: Path) -> Path | None:
    """Give the store's file a second name, under which it is whole by itself."""
    if not path.stat().st_size:
        return None  # The lock has made it.
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    log = log_of(path)
    if log.exists() and log.stat().st_size:
        raise JournalUnavailableError(path, "another process reads it; try again")
    kept = Path(f"{path}.{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    kept.hardlink_to(path)
    return kept
