"""The last words of a child, and the parent's own, on standard error.

Owns the report, a file without a name, and the writing that never waits for long.
Never knows who ends the child, nor why.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from typing import Any, cast

from ._wire import COUNT_SIZE, FACTS_SIZE, LOG_AT, LOG_SIZE, NOTE_SIZE, TEXT_AT

REPORT_LIMIT = 64 * 1024
"""Bytes of a report that are read."""
SAY_WITHIN = 0.2
"""Seconds in which standard error has to take a message."""


def named(code: int) -> str:
    """An exit code in words, with the signal that it stands for.

    >>> named(1), named(139)
    ('code 1', 'code 139 (SIGSEGV)')
    """
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(code - 128)
    return f"code {code} ({name})" if name else f"code {code}"


def create_report() -> int:
    """Create an empty report: a file without a name, which needs no directory."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("trivet-report")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.lseek(descriptor, TEXT_AT, os.SEEK_SET)
    return descriptor


def read_facts(descriptor: int) -> dict[str, Any]:
    """The facts that a child has written into its report; empty if it has not, or not all."""
    try:
        facts: Any = json.loads(os.pread(descriptor, FACTS_SIZE, NOTE_SIZE).rstrip(b"\0"))
    except ValueError:
        return {}
    return cast("dict[str, Any]", facts) if isinstance(facts, dict) else {}


def _last_lines(descriptor: int) -> list[str]:
    """The last lines of the log of a child; one that is not whole is left out."""
    count = int.from_bytes(os.pread(descriptor, COUNT_SIZE, LOG_AT), "little")
    ring = os.pread(descriptor, LOG_SIZE, LOG_AT + COUNT_SIZE)
    at = count % LOG_SIZE
    kept = ring[:count] if count < LOG_SIZE else (ring[at:] + ring[:at]).partition(b"\n")[2]
    return kept.decode(errors="replace").splitlines()


class LastWords:
    """All that a child has left in its report.

    Args:
        descriptor: the report, which stays open.
    """

    def __init__(self, descriptor: int) -> None:
        self.note: str = os.pread(descriptor, NOTE_SIZE, 0).rstrip(b"\0").decode(errors="replace")
        """The acts during which it ended, with commas between them."""
        text = os.pread(descriptor, REPORT_LIMIT, TEXT_AT)
        self.text: str = text.decode(errors="backslashreplace")
        """The reason of its end, and the stacks of its threads."""
        self.log: list[str] = _last_lines(descriptor)
        """The last lines of its log, as far as they are kept."""

    def say(self, *, whole: bool) -> None:
        """Print them.

        Args:
            whole: whether to print the child's last acts, too: it did not end as it meant to.
        """
        lines = [printable(line) for line in self.text.splitlines()]
        if whole and self.note:
            lines.append(f"when it ended it was at {printable(self.note)}")
        if lines:
            say("\ntrivet: ".join(lines))


def printable(text: str) -> str:
    r"""The text without characters that begin a line of the log, or command a terminal.

    >>> printable("a\tb\x1b[31m")
    'a\\tb\\x1b[31m'
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def say(text: str) -> None:
    """Write a line to standard error; it is dropped if nobody reads."""
    try:
        write_within(2, f"trivet: {text}\n".encode(errors="backslashreplace"), SAY_WITHIN)
    except OSError:
        return


def write_within(descriptor: int, data: bytes, seconds: float) -> None:
    """Write as much as a reader takes within `seconds`.

    The descriptor stays blocking: other processes may have the same open file, and would find it
    changed.

    Raises:
        OSError: there is no reader any more, or no room.
    """
    until = time.monotonic() + seconds
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    while data and (left := until - time.monotonic()) > 0:
        if ready.poll(left * 1000):
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]


def duplicate_stderr() -> int:
    """Duplicate standard error; if it is closed, the copy leads nowhere."""
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
