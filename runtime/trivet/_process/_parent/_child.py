"""One run of the program, as its parent sees it.

Owns the child's process group, and this process's ends of the pipes to it.
Never knows when a child is started, nor what follows from its end.
"""

from __future__ import annotations

import os
import signal
import time

from ._config import ParentConfig
from ._wire import BLOCKED_SIGNALS, CLEAN_EXIT, LIFELINE, PARENT_SIGNALS, UNCLEAN_EXIT

DUMP_WITHIN = 0.2
"""Seconds that a child has to write where it stands before it is killed."""


class Child:
    """One run of the program, in a process group of its own."""

    def __init__(self, pid: int, stop_write: int, beat_read: int) -> None:
        self.pid = pid
        self._stop_write = stop_write
        self._beat_read = beat_read
        os.set_inheritable(stop_write, False)
        os.set_inheritable(beat_read, False)
        os.set_blocking(beat_read, False)
        self._last_byte = b""
        self.verdict: int | None = None
        """The program's exit code, where this child has sent one."""

    @classmethod
    def spawn(cls, config: ParentConfig) -> Child:
        """Start another child."""
        command, listeners, report = config.command, config.listeners, config.report
        stop_read, stop_write = os.pipe()
        beat_read, beat_write = os.pipe()
        for descriptor in (stop_read, beat_write, report, *listeners):
            os.set_inheritable(descriptor, True)
        first = stop_read, beat_write, report, config.public
        descriptors = ",".join(map(str, (*first, *listeners)))
        environ = {**os.environ, LIFELINE: descriptors}
        pid = os.posix_spawn(
            command[0],
            command,
            environ,
            setpgroup=0,
            setsigmask=BLOCKED_SIGNALS,
            setsigdef=PARENT_SIGNALS,
        )
        os.close(stop_read)
        os.close(beat_write)
        return cls(pid, stop_write, beat_read)

    def request_stop(self) -> None:
        """Ask the child to stop; a second time: to stop without waiting for anything."""
        try:
            os.write(self._stop_write, b"!")
        except BrokenPipeError:
            return  # The child has ended already; its exit code says how.

    def request_dump(self) -> None:
        """Have the child write into the report where it stands, which it can whatever it does."""
        try:
            os.kill(self.pid, signal.SIGQUIT)
            os.kill(self.pid, signal.SIGCONT)  # A stopped process answers once it goes on.
        except ProcessLookupError:
            return
        time.sleep(DUMP_WITHIN)

    def kill(self) -> None:
        """End the child, and every process in its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped the child, so that it runs no code at all."""
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:
            return False

    def read_beats(self) -> bool:
        """Read the bytes that the child has sent since the last call; says whether it sent any."""
        received = b""
        try:
            while more := os.read(self._beat_read, 65536):
                received += more
        except BlockingIOError:  # The child, or another process, still has the other end open.
            pass
        self._last_byte = received[-1:] or self._last_byte
        for byte in received:
            if byte in b"0123456789":  # And not whatever else Unicode calls a digit.
                self.verdict = byte - ord("0")
        return received != b""

    def exit_code(self, status: int) -> int:
        """The exit code that a wait status stands for, in a shell's convention."""
        code = os.waitstatus_to_exitcode(status)
        self.read_beats()
        os.close(self._beat_read)
        os.close(self._stop_write)
        if code == 0 and self._last_byte != CLEAN_EXIT:
            return UNCLEAN_EXIT
        return code if code >= 0 else 128 - code
