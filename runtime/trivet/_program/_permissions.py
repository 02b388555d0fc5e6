"""The plugins' directory, as others may change it.

Owns the refusal of code that any user of the machine may write.
Never knows which of the files are plugins.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .._faults._errors import ConfigurationError

NAMED = 5
"""Files that a refusal names, at most."""
_CODE = (".py", ".pyc", ".so")


def refuse_writable_code(directory: Path, setting: str) -> None:
    """Refuse a directory in which any user of the machine may put code into the program.

    Args:
        directory: the plugins' directory, which need not exist.
        setting: the key that gives it, for messages.

    Raises:
        ConfigurationError: the directory, or code in it, is writable for everybody.
    """
    found = sorted(path for path in _code_within(str(directory)) if _is_writable(path))
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise ConfigurationError(
            f"{setting}: any user of this machine may write {', '.join(found[:NAMED])}{more}: "
            f"chmod o-w"
        )


def _code_within(directory: str) -> Iterator[str]:
    """The directory, the packages in it, and the files that an import would run."""
    for root, folders, files in os.walk(directory):
        yield root
        yield from (os.path.join(root, file) for file in files if file.endswith(_CODE))  # noqa: PTH118
        folders[:] = [
            folder
            for folder in folders
            if folder == "__pycache__" or Path(root, folder, "__init__.py").exists()
        ]


def _is_writable(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IWOTH)  # noqa: PTH116 - a link's target counts
    except OSError:
        return False  # It is gone, or a link to nothing.
