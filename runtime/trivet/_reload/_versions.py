"""The versions of a program's settings, and the sources over which no change counts.

Owns the tag by which an operator says which settings it has seen.
Never knows how settings are changed.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._faults._errors import ConfigurationError
from .._program._origins import variable_within
from .._program._overlay import key_of, steps_within, within
from .._program._reading import LARGEST
from .._program._settings import Settings
from .._program._values import EnvText
from .._runtime import Runtime


class Versions:
    """The versions of the settings of one program that runs.

    Args:
        runtime: the program.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._key = secrets.token_bytes(32)  # A digest alone would let secrets be guessed at.
        self._reloads = 0
        runtime.on_adopt.append(self._note)

    def _note(self) -> None:
        self._reloads += 1

    def current(self) -> str:
        """The version that holds: another one after each reload, and when the overlay changes.

        It reads the overlay, which takes its time.
        """
        content = _content(self._runtime.program.settings.overlay)
        said = b"%d:%s" % (self._reloads, content)
        return hmac.digest(self._key, said, "sha256").hex()[:32]


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(LARGEST)
    except OSError as error:
        return str(error.strerror).encode()


def refuse_overridden(patch: Mapping[str, Any], settings: Settings) -> None:
    """Refuse a change that would not count, since a later source sets its key.

    Args:
        patch: a JSON merge patch; a key that it removes may be overridden.
        settings: the settings after it.

    Raises:
        ConfigurationError: with a line for each such key.
    """
    merged, faults = settings.written.merged, list[str]()
    for path, value in steps_within(patch):
        if value is None:
            continue
        key, top = key_of(path), str(path[0])
        variable = _variable_on(path, merged)
        if settings.sources.get(top) == top:
            faults.append(f"{key}: the command line sets it")
        elif variable is not None:
            faults.append(f"{key}: the environment sets it, by {variable}")
    if faults:
        raise ConfigurationError("\n".join(faults))


def _variable_on(path: tuple[str | int, ...], merged: Mapping[str, Any]) -> str | None:
    """The variable that has set the value at a path, or a table on the way to it."""
    for length in range(1, len(path)):
        around = within(merged, path[:length])
        if isinstance(around, EnvText):
            return around.source
    return variable_within(within(merged, path))
