"""The lock by which one process owns a file, whatever names the file has.

Owns two locks: one on the file itself, and one on another beside it, which has the owner's id.
Never knows what is in the file.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from weakref import WeakSet

from ._records import JournalInUseError

_held: WeakSet[Lock] = WeakSet()


class Lock:
    """A lock on a file, held from its creation until `release`, or until the process ends.

    The file is made if it is not there. It must not be open in this process yet, and must be closed
    before `release`: to close a file takes away the locks that SQLite has on it.

    Args:
        path: the file, by its own name and not by a link.

    Raises:
        JournalInUseError: another process holds the lock, or another `Lock` of this process, by
            whatever name of the file.
        OSError: the file cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[int] = []
        self.inode: tuple[int, int] | None = None
        """The device and number by which the system knows the file."""
        try:
            beside = self._lock(Path(f"{path}.lock"))
            # Always the same bytes of the disk, which may be full.
            os.pwrite(beside, b"%10d\n" % os.getpid(), 0)
            if path.exists():
                self._refuse_if_held(_inode(path.stat()))
            self.inode = _inode(os.fstat(self._lock(path)))
        except BaseException:
            self.release()
            raise
        _held.add(self)

    def _refuse_if_held(self, inode: tuple[int, int]) -> None:
        """Raise if this process holds the file already, before it opens the file; see the class."""
        if any(lock.inode == inode for lock in _held):
            raise JournalInUseError(self._path, "it owns it under another name", os.getpid())

    def _lock(self, path: Path) -> int:
        # Payloads are nobody else's business.
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._files.append(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if path == self._path:
                why = "it owns it under another name, which is a link to the same file"
                raise JournalInUseError(path, why) from None
            pid = os.pread(file, 32, 0).strip()
            why = "one process owns it"
            raise JournalInUseError(self._path, why, int(pid) if pid.isdigit() else None) from None
        return file

    def hand_over(self, new: Path) -> None:
        """Lock another file, and put it in the place of the locked one, for good."""
        file = self._lock(new)
        new.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._files.remove(file)
        replaced, self._files[-1] = self._files[-1], file
        self.inode = _inode(os.fstat(file))
        os.close(replaced)

    def release(self) -> None:
        """Let another process have the file; in a forked child, the parent keeps its lock."""
        _held.discard(self)
        while self._files:
            os.close(self._files.pop())


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _release_in_child() -> None:
    # A child that outlives this process would keep the next one out.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
