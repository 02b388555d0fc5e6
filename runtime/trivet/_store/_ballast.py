"""Room on the disk that is kept for a bad day: a file that is deleted when the disk is full.

Owns that file, how a file comes to own its room, and the look at how much room there is.
Never knows what is written into the room.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

BALLAST = 1 << 20
"""Bytes; several times what a write-ahead log of a hundred pages takes."""


def allocate(path: Path, size: int) -> None:
    """Make a file of `size` zero bytes that has its room on the disk.

    Raises:
        OSError: there is not enough; the file is not there then.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(file, "wb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
            left = memoryview(bytes(size))
            while left:  # A disk that fills up takes less than it is given, before it takes none.
                left = left[stream.write(left) :]
    except OSError:
        path.unlink()
        raise


class Ballast:
    """A file that takes room while there is plenty, so that some can be made when there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_there(self) -> bool:
        """Whether there is something to give up."""
        try:
            return self._path.stat().st_size == BALLAST
        except OSError:
            return False

    def room(self) -> int:
        """Bytes that can be written on this disk beside the ballast."""
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def give_up(self) -> bool:
        """Make room; returns whether there was anything to make it of."""
        was_there = self.is_there
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return was_there

    def put_back(self) -> bool:
        """Take the room again if as much is left then; returns whether it is taken now."""
        with suppress(OSError):
            if not self.is_there and self.room() >= 2 * BALLAST:
                allocate(self._path, BALLAST)
        return self.is_there
