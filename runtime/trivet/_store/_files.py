"""The files of a store: the names of those that stand beside its own.

Owns these names, and which of them may be there.
Never knows what is in the files.
"""

from __future__ import annotations

from pathlib import Path

from ._ballast import Ballast
from ._records import JournalUnavailableError

BESIDE = ("inhand", "ballast", "lock", "new", "damaged")
"""The suffixes of the files that stand beside the store's own."""


def refuse_others(path: Path) -> None:
    """Raise where one of the store's names is that of a directory or a pipe."""
    for file in (path, *(Path(f"{path}.{beside}") for beside in BESIDE)):
        if file.exists() and not file.is_file():
            raise JournalUnavailableError(file, "it is a directory, or no regular file")


def log_of(path: Path) -> Path:
    """The write-ahead log beside the file."""
    return Path(f"{path}-wal")


def register_of(path: Path) -> Path:
    """The register of events in flight."""
    return Path(f"{path}.inhand")


def new_of(path: Path) -> Path:
    """The file that is to take the place of one of an earlier version."""
    return Path(f"{path}.new")


def damaged_of(path: Path) -> Path:
    """The file before it was made anew, since it was damaged."""
    return Path(f"{path}.damaged")


def ballast_of(path: Path) -> Ballast:
    """The room that is kept for this file."""
    return Ballast(Path(f"{path}.ballast"))


def own_name(path: Path) -> Path:
    """The file's name, whatever links lead to it: what is beside it has one name, too."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # As which some versions report a circle of links.
        raise JournalUnavailableError(path, f"it is a link that leads nowhere: {error}") from error
