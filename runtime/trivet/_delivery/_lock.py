"""That one process owns a file, by a lock on another one beside it.

Owns the lock file, in which the owner's process id stands.
Never knows what the file is for.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from weakref import WeakSet

from ._records import JournalInUseError

_held: WeakSet[Lock] = WeakSet()


class Lock:
    """Held from its creation until `release`, or until the process has ended, however it ends.

    Raises:
        JournalInUseError: another process holds it, or another `Lock` in this one.
        OSError: there can be no such file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Always the same bytes of the disk, which may be full.
            os.pwrite(self._file, b"%10d\n" % os.getpid(), 0)
        except BlockingIOError:
            pid = os.pread(self._file, 32, 0).strip()
            self.release()
            why = "one process owns it"
            raise JournalInUseError(path, why, int(pid) if pid.isdigit() else None) from None
        except OSError:
            self.release()
            raise
        _held.add(self)

    def release(self) -> None:
        """Let another process have it; in a forked child, the parent's lock stays as it is."""
        _held.discard(self)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _release_in_child() -> None:
    # A child that outlives this process would keep the next one out.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
