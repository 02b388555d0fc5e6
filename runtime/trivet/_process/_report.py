"""The last words of a process that ends before its time: who ended it, and during which acts.

Owns the report's descriptor, and the writing there, which neither waits for long nor raises.
Never knows who ends the process, nor why.

Under a parent process the report is a file without a name, which the parent reads and prints when
the process is gone. Without a parent the report goes to standard error.
"""

from __future__ import annotations

import inspect
import json
import os
import traceback
from collections.abc import Mapping

from .._faults._stacks import places
from ._parent._last_words import duplicate_stderr, write_within
from ._parent._wire import COUNT_SIZE, FACTS_SIZE, LOG_AT, LOG_SIZE, NOTE_SIZE

WRITTEN_WITHIN = 0.1
"""Seconds in which standard error has to take a text."""


class Report:
    """The last words of this process, written by itself.

    Args:
        descriptor: the file that the parent reads; None without a parent.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._has_reader = descriptor is not None
        self._logged = 0
        self.descriptor = duplicate_stderr() if descriptor is None else descriptor
        """The file, where faulthandler writes, too."""

    def note(self, doing: str) -> None:
        """Replace the note of the acts that go on; they may be the last of the process."""
        if self._has_reader:
            note = doing.encode(errors="backslashreplace")[:NOTE_SIZE]
            try:
                os.pwrite(self.descriptor, note.ljust(NOTE_SIZE, b"\0"), 0)
            except OSError:
                return  # A plugin has closed a descriptor that is not its own.

    def state(self, facts: Mapping[str, object]) -> None:
        """Write the facts of this program for the parent; too many of them are left out."""
        data = json.dumps(facts).encode()
        if self._has_reader and len(data) <= FACTS_SIZE:
            try:
                os.pwrite(self.descriptor, data.ljust(FACTS_SIZE, b"\0"), NOTE_SIZE)
            except OSError:
                return  # As above.

    def log(self, line: bytes) -> None:
        """Keep a line of the log, among the last ones; they may be those before the end."""
        if not self._has_reader:
            return
        kept = line[-LOG_SIZE:]
        at = (self._logged + len(line) - len(kept)) % LOG_SIZE
        first, rest = kept[: LOG_SIZE - at], kept[LOG_SIZE - at :]
        self._logged += len(line)
        try:
            os.pwrite(self.descriptor, first, LOG_AT + COUNT_SIZE + at)
            os.pwrite(self.descriptor, rest, LOG_AT + COUNT_SIZE)
            os.pwrite(self.descriptor, self._logged.to_bytes(COUNT_SIZE, "little"), LOG_AT)
        except OSError:
            return  # As above.

    def say(self, text: str) -> None:
        """Append a text; if it cannot be written it is lost."""
        data = text.encode(errors="backslashreplace")
        try:
            if self._has_reader:
                os.write(self.descriptor, data)
            else:
                write_within(self.descriptor, data, WRITTEN_WITHIN)
        except OSError:
            return

    def switch_to_stderr(self) -> None:
        """Write to standard error from now on: the parent is gone."""
        if self._has_reader:
            self._has_reader = False
            self.descriptor = duplicate_stderr()


def report_calls_of_exit(report: Report) -> None:
    """Have `os._exit` report its caller before it ends the process.

    `os._exit` leaves nothing else behind, no traceback and no line of a log, and any library may
    call it.
    """
    leave = os._exit

    def report_and_leave(status: int) -> None:
        caller = inspect.currentframe()
        calls = list(traceback.walk_stack(caller and caller.f_back))[::-1]
        report.say(f"os._exit({status!r}) was called\n{places(calls)}")
        leave(status)

    os._exit = report_and_leave  # type: ignore[assignment]
