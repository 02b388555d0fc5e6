"""The versions of a program's settings.

Owns the tag by which an operator says which settings it has seen.
Never knows how settings are changed.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from .._program._reading import LARGEST
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
