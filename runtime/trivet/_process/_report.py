"""What a process leaves behind that ends before its time: who it was, and what it was about to do.

Owns the report's descriptor, and the writing there, which neither waits for long nor raises.
Never knows who ends the process, nor why.

Under a parent process the report is a file without a name, which the parent reads and prints when
the process is gone. Without one it is standard error.
"""

from __future__ import annotations

import inspect
import os
import traceback

from .._faults._stacks import places
from . import _parent

WRITTEN_WITHIN = 0.1
"""Seconds in which standard error has to take what is written there."""


class Report:
    """Written by the process that it is about.

    Args:
        descriptor: the file that the parent reads; None where there is no parent.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._has_reader = descriptor is not None
        self.descriptor = _parent.copy_of_stderr() if descriptor is None else descriptor
        """Where faulthandler is to write, too."""

    def note(self, doing: str) -> None:
        """Note what is being done, in place of what was noted before, in case it is the last."""
        if self._has_reader:
            note = doing.encode(errors="backslashreplace")[: _parent.NOTE]
            try:
                os.pwrite(self.descriptor, note.ljust(_parent.NOTE, b"\0"), 0)
            except OSError:
                return  # A plugin has closed what is not its own.

    def say(self, text: str) -> None:
        """Add a text; what cannot be written is lost."""
        data = text.encode(errors="backslashreplace")
        try:
            if self._has_reader:
                os.write(self.descriptor, data)
            else:
                _parent.write_within(self.descriptor, data, WRITTEN_WITHIN)
        except OSError:
            return

    def nobody_reads(self) -> None:
        """The parent is gone: what follows goes to standard error."""
        if self._has_reader:
            self._has_reader = False
            self.descriptor = _parent.copy_of_stderr()


def name_who_exits(report: Report) -> None:
    """Have `os._exit` say who has called it, before it does what it does.

    It leaves nothing else behind, no traceback and no line of a log, and may end the process out
    of any library.
    """
    leave = os._exit

    def leave_with_a_name(status: int) -> None:
        caller = inspect.currentframe()
        calls = list(traceback.walk_stack(caller and caller.f_back))[::-1]
        report.say(f"os._exit({status!r}) was called\n{places(calls)}")
        leave(status)

    os._exit = leave_with_a_name  # type: ignore[assignment]
