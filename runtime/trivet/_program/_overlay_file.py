"""The overlay's file, as it is written: wholly, or not at all.

Owns the form of the file, its permissions, and the order in which it comes to the disk.
Never knows what is in it.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, cast

from .._faults._errors import ConfigurationError
from ._values import is_table

_NUMBERS = count(1)
_own: set[str] = set()
"""The names of the drafts of this process."""

HEADER = """\
# Trivet writes this file when an operator changes settings while it runs, by
# PATCH /-/settings or `trivet set`. It counts over the settings' file. Each change
# writes it anew, and drops what else is in it, such as your comments.

"""


def as_toml(table: Mapping[str, Any]) -> bytes:
    """The text of an overlay: the same for the same content, whatever its order.

    Raises:
        ConfigurationError: TOML cannot express it.
    """
    import tomli_w  # noqa: PLC0415 - a program that is not changed does without

    ordered = _in_order(table)
    try:
        text = HEADER + tomli_w.dumps(ordered)
        is_right = tomllib.loads(text) == ordered
        content = text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"the change cannot be written as TOML: {error}") from error
    if not is_right:  # A number that is none, for one.
        raise ConfigurationError("the change cannot be written as TOML")
    return content


def _in_order(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with its keys in order, and so all that is within it."""
    return {key: _value_in_order(table[key]) for key in sorted(table)}


def _value_in_order(value: object) -> object:
    if is_table(value):
        return _in_order(value)
    if isinstance(value, list):
        return [_value_in_order(each) for each in cast("list[object]", value)]
    return value


class Draft:
    """The new content of an overlay, on the disk beside the file whose place it is to take.

    A process that is killed at any moment leaves the old file or the new one.

    Args:
        file: the overlay; behind a symbolic link, the file that it leads to.
        content: the new content.

    Raises:
        ConfigurationError: the place cannot be written to; the reason is in it.
    """

    def __init__(self, file: Path, content: bytes) -> None:
        self._named = file
        self._file = Path(os.path.realpath(file))
        # A name of its own: a change that was given up may still be written.
        number = next(_NUMBERS)
        self._draft = self._file.with_name(f".{self._file.name}.{os.getpid()}.{number}.new")
        _own.add(self._draft.name)
        delete_old_drafts(self._file)
        try:
            self._refuse_no_file()
            self._write(content)
        except OSError as error:
            self.discard()
            raise self._unwritable(error) from error

    def _refuse_no_file(self) -> None:
        """Refuse to put a file in the place of a device or a directory."""
        try:
            mode = self._file.stat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{self._named}: it is no regular file")

    def _write(self, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._draft, flags, 0o600)
        with open(descriptor, "wb") as opened:  # noqa: PTH123 - a descriptor has no path
            os.fchmod(descriptor, 0o600)  # Secrets may stand in it.
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)

    def _unwritable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"{self._named}: cannot be written: {error.strerror or error}")

    def take_place(self) -> None:
        """Put the draft in the place of the file, at one instant.

        Raises:
            ConfigurationError: it is impossible now; the file is as it was.
        """
        try:
            self._draft.replace(self._file)
        except OSError as error:
            raise self._unwritable(error) from error

    def settle(self) -> None:
        """Have the directory on the disk, too: from now on a power cut leaves the new file.

        Raises:
            OSError: the disk fails.
        """
        descriptor = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Delete the draft, if it has not taken its place."""
        with suppress(OSError):
            self._draft.unlink()


def delete_old_drafts(file: Path) -> None:
    """Delete the drafts of processes that are gone: they were killed while they wrote.

    Args:
        file: the overlay.
    """
    file = Path(os.path.realpath(file))
    draft = re.compile(rf"\.{re.escape(file.name)}\.(\d+)\.\d+\.new")
    with suppress(OSError):
        for each in file.parent.iterdir():
            found = draft.fullmatch(each.name)
            if found is not None and each.name not in _own and _is_gone(int(found[1])):
                each.unlink(missing_ok=True)


def _is_gone(pid: int) -> bool:
    """Whether no other process has this id; in a container, each program may have the same one."""
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False
