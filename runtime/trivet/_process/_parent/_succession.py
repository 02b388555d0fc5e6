"""The change from one program to a new one: `trivet restart`.

Owns the start of the new one beside the old one, and the moment at which the old one makes room:
when the new one is imported, checked, and waits. Until then the old one serves untouched, and a
fault of the new one changes nothing.
Never knows how the old one ends, nor what the new one does once it may go on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ._child import Child
from ._config import ParentConfig
from ._deaths import Deaths
from ._last_words import LastWords, named, say
from ._wire import MAKE_ROOM, STAY


class Succession:
    """The new program that is to take the old one's place, if there is one.

    Args:
        config: the command, the sockets, and the time that a new program has.
        deaths: the program's deaths, of which a new one is told.
    """

    def __init__(self, config: ParentConfig, deaths: Deaths) -> None:
        self._config = config
        self._deaths = deaths
        self._new: Child | None = None
        self.until = float("inf")
        """The moment by which the new program must be checked; infinite without one."""
        self.is_decided = False
        """Whether the new program is checked, so that the old one makes room."""

    @property
    def pid(self) -> int | None:
        """The new program's process id; None without one."""
        return None if self._new is None else self._new.pid

    def begin(self) -> None:
        """Start a new program, unless one is under way."""
        if self._new is not None:
            say("a new program is under way already")
            return
        say("starting a new program beside the old one")
        self._new = Child.spawn(self._config, deaths=self._deaths.told, waits=True)
        self._new.signal_bytes()
        limit = self._config.hang_limit
        self.until = time.monotonic() + limit if limit else float("inf")

    def advance(self, old: Child, ended: Mapping[int, int]) -> bool:
        """Have the old program make room when the new one is checked, or stay if it never will be.

        Args:
            old: the old program.
            ended: the wait statuses of processes that have ended, by their ids.

        Returns:
            Whether the old program was asked to make room just now.
        """
        new = self._new
        if new is None or self.is_decided:
            return False
        new.read_beats()
        if new.pid in ended:
            self._give_up(f"ended with {named(new.exit_code(ended[new.pid]))}", old)
        elif new.is_checked:
            self.until, self.is_decided = float("inf"), True
            say("the new program is checked: the old one makes room")
            old.send(MAKE_ROOM)
        elif time.monotonic() >= self.until:
            new.request_dump()
            self._give_up(f"was not checked within {self._config.hang_limit:g} s", old)
        return self.is_decided

    def _give_up(self, why: str, old: Child) -> None:
        self.end()
        say(f"the new program {why}; the old one serves on")
        old.send(STAY)

    def end(self) -> None:
        """End the new program, if there is one."""
        new, self._new = self._new, None
        self.until, self.is_decided = float("inf"), False
        if new is not None:
            new.kill()
            LastWords(new.report).say(whole=True)
            new.close()

    def take(self) -> Child | None:
        """The new program, once it may go on: the old one has ended."""
        if not self.is_decided:
            return None
        new, self._new = self._new, None
        self.is_decided = False
        return new
