"""An attempt at a reload, which can be given up while a thread still works at it.

Owns how to undo what the attempt has made, and that it makes nothing more once it is given up.
Never knows what is made, nor why it is given up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .._faults._errors import ReloadRefusedError


class Attempt:
    """One attempt; each method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_over = False
        self._undo: list[Callable[[], object]] = []

    def go_on(self) -> None:
        """Do nothing, or end a thread that works for nothing.

        Raises:
            ReloadRefusedError: the attempt is given up.
        """
        if self._is_over:
            raise ReloadRefusedError("it came too late")

    def made(self, undo: Callable[[], object]) -> None:
        """Note that something is made.

        Args:
            undo: undoes it, from any thread, and does not raise.

        Raises:
            ReloadRefusedError: the attempt was given up before; it is undone.
        """
        with self._lock:
            if not self._is_over:
                self._undo.append(undo)
                return
        undo()
        self.go_on()

    def give_up(self) -> None:
        """Undo all that is made, the last first, and whatever is made from now on."""
        with self._lock:
            self._is_over = True
        while self._undo:
            self._undo.pop()()
