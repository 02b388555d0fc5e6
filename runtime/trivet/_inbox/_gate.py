"""The gate through which an inbox hands its events out, and which an operator may shut.

Owns the reasons for which it is shut.
Never knows events, nor why the operator acts.
"""

from __future__ import annotations

import trio

from ._fast_path import FastPath

PAUSED = "an operator has paused the delivery"
RETIRED = "the plugin is being disabled"
HELD = "the plugin is being replaced"


class Gate:
    """The gate of one inbox.

    Args:
        path: the inbox's fast path, which is closed while the gate is shut.
    """

    def __init__(self, path: FastPath) -> None:
        self._path = path
        self.is_paused: bool = False
        """Whether an operator has paused the delivery."""
        self.is_retired: bool = False
        """Whether nothing more is handed out before the plugin's next lifetime."""
        self.is_held: bool = False
        """Whether nothing more is handed out before another instance has taken the plugin's place.
        Events go on coming in, as long as there is room."""
        self._is_draining = False
        """Whether all that is inside is handed out, paused or not: it would be lost."""

    @property
    def is_shut(self) -> bool:
        """Whether nothing is handed out."""
        return self.is_retired or self.is_held or (self.is_paused and not self._is_draining)

    @trio.lowlevel.enable_ki_protection
    def pause(self) -> None:
        """Shut the gate until `resume`."""
        self.is_paused = True
        self._mind()

    @trio.lowlevel.enable_ki_protection
    def resume(self) -> None:
        """Open the gate after `pause`."""
        self.is_paused = False
        self._mind()

    @trio.lowlevel.enable_ki_protection
    def hold(self) -> None:
        """Shut the gate until `release`."""
        self.is_held = True
        self._mind()

    @trio.lowlevel.enable_ki_protection
    def release(self) -> None:
        """Open the gate after `hold`."""
        self.is_held = False
        self._mind()

    @trio.lowlevel.enable_ki_protection
    def retire(self) -> None:
        """Shut the gate until `reopen`."""
        self.is_retired = True
        self._mind()

    @trio.lowlevel.enable_ki_protection
    def drain(self) -> None:
        """Open the gate until `reopen` although it is paused."""
        self._is_draining = True
        self._mind()

    @trio.lowlevel.enable_ki_protection
    def reopen(self) -> None:
        """Open the gate for the plugin's next lifetime, unless it is paused."""
        self.is_retired = self._is_draining = False
        self._mind()

    def _mind(self) -> None:
        self._path.mind(PAUSED, self.is_paused and not self._is_draining)
        self._path.mind(RETIRED, self.is_retired)
        self._path.mind(HELD, self.is_held)
        self._path.readers.wake_all()
