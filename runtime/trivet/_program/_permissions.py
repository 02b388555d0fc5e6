"""The plugins' directory, as others may change it.

Owns the refusal of code that any user of the machine may write, or exchange.
Never knows which of the files are plugins.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from .._faults._errors import ConfigurationError

NAMED = 5
"""Files that a refusal names, at most."""
_CODE = (".py", ".pyc", ".so")
_CACHE = "__pycache__"


def refuse_writable_code(directory: Path, setting: str) -> None:
    """Refuse a directory in which any user of the machine may put code into the program.

    Args:
        directory: the plugins' directory, which need not exist.
        setting: the key that gives it, for messages.

    Raises:
        ConfigurationError: the directory, code in it, or a directory on the way to one of them is
            writable for everybody.
    """
    code = [*_code_within(directory.absolute())]
    found = {path for path in code if _is_writable(path)}
    found |= {path for path in _ways_to(code) if _is_writable(path, but=stat.S_ISVTX)}
    if found:
        named = ", ".join(sorted(map(str, found))[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise ConfigurationError(
            f"{setting}: any user of this machine may write {named}{more}: chmod o-w"
        )


def _code_within(directory: Path) -> Iterator[Path]:
    """The directory, the folders of code in it, and the files that an import would run.

    A package need not have an `__init__.py`, and may be a link.
    """
    known: set[str] = set()
    for root, folders, files in os.walk(directory, followlinks=True):
        folder = Path(root)
        code = [folder / file for file in files if file.endswith(_CODE)]
        if code or folder == directory or folder.name == _CACHE:
            yield folder
        yield from code
        known.add(os.path.realpath(root))
        folders[:] = [
            name
            for name in folders
            if name.isidentifier() and os.path.realpath(folder / name) not in known
        ]


def _ways_to(code: Iterable[Path]) -> set[Path]:
    """The directories above the code, where one could put other code in its place.

    Args:
        code: the files and the folders, the first of which has all others.
    """
    code = [*code]
    targets = [path.resolve() for path in code if path.is_symlink() or path == code[0]]
    folders = {path.parent for path in (*code, *targets)}
    return folders.union(*(folder.parents for folder in folders))


def _is_writable(path: Path, *, but: int = 0) -> bool:
    """Whether every user may write a file, or into a directory; a link is its target.

    Args:
        path: the file or the directory.
        but: a mode with which it is no danger. In a directory with the sticky bit nobody exchanges
            what belongs to somebody else.
    """
    try:
        mode = path.stat().st_mode
        if not mode & stat.S_IWOTH or mode & but:
            return False
        return not os.statvfs(path).f_flag & os.ST_RDONLY  # As Kubernetes mounts a ConfigMap.
    except OSError:
        return False  # It is gone, or a link to nothing.
