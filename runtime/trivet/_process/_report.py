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
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice

from .._faults._stacks import places
from . import _parent

WRITTEN_WITHIN = 0.1
"""Seconds in which standard error has to take what is written there."""
NOTED = 5
"""Of what is done at the same time, how much is noted; the latest."""


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


_kept: Report | None = None
_doing: dict[object, str] = {}


def keep_notes(report: Report) -> None:
    """Have `noted` write into this report, for the rest of the process."""
    global _kept  # noqa: PLW0603 - as many reports as processes
    _kept = report


@contextmanager
def noted(doing: str) -> Generator[None]:
    """Note in the report, if there is one, what is done in this block: `close() of 'x'`, say.

    A plugin's code may end the process where no code of this process runs any more.
    """
    if _kept is None:
        yield
        return
    key = object()
    _doing[key] = doing
    _note_all(_kept)
    try:
        yield
    finally:
        del _doing[key]
        _note_all(_kept)


def _note_all(report: Report) -> None:
    report.note(", ".join(islice(reversed(_doing.values()), NOTED)))


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
