"""One run of the program, as its parent sees it.

Owns the child's process group, its report, and this process's ends of the pipes to it.
Never knows when a child is started, nor what follows from its end.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ._config import ParentConfig
from ._last_words import create_report
from ._wire import (
    BLOCKED_SIGNALS,
    CHECKED,
    CLEAN_EXIT,
    FACTS,
    LIFELINE,
    PARENT_SIGNALS,
    SERVING,
    UNCLEAN_EXIT,
    WANTS_RESTART,
)

DUMP_WITHIN = 0.2
"""Seconds that a child has to write where it stands before it is killed."""


class Child:
    """One run of the program, in a process group of its own.

    Args:
        pid: its process id.
        stop_write: this process's end of the pipe to it.
        beat_read: this process's end of the pipe from it.
        report: the file of its last words.
    """

    def __init__(self, pid: int, stop_write: int, beat_read: int, report: int) -> None:
        self.pid = pid
        self.report = report
        self._stop_write = stop_write
        self._beat_read = beat_read
        for descriptor in (stop_write, beat_read, report):
            os.set_inheritable(descriptor, False)
        os.set_blocking(beat_read, False)
        self._last_byte = b""
        self.verdict: int | None = None
        """The program's exit code, where this child has sent one."""
        self.is_checked = False
        """Whether the program was imported and checked; its facts are in the report."""
        self.serving_since: float | None = None
        """The moment at which the child said that it serves; None before."""
        self._wants_restart = False
        self._has_news = False

    @classmethod
    def spawn(
        cls,
        config: ParentConfig,
        *,
        disabled: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        deaths: Sequence[Mapping[str, Any]] = (),
        waits: bool = False,
    ) -> Child:
        """Start another child.

        Args:
            config: the command, and the sockets that are handed down.
            disabled: the names that start disabled; see `SafeMode`.
            deaths: the accounts of earlier deaths of the program.
            waits: whether it waits for `GO` once it is checked.
        """
        stop_read, stop_write = os.pipe()
        beat_read, beat_write = os.pipe()
        report = create_report()
        for descriptor in (stop_read, beat_write, report, *config.listeners):
            os.set_inheritable(descriptor, True)
        lifeline = {
            "stop_read": stop_read,
            "beat_write": beat_write,
            "report": report,
            "public": config.listeners[: config.public],
            "management": config.listeners[config.public :],
            "addresses": config.addresses,
            "waits": waits,
            "deaths": list(deaths),
            "disabled": {kind: dict(names) for kind, names in disabled.items()},
        }
        pid = os.posix_spawn(
            config.command[0],
            config.command,
            {**os.environ, LIFELINE: json.dumps(lifeline)},
            setpgroup=0,
            setsigmask=BLOCKED_SIGNALS,
            setsigdef=PARENT_SIGNALS,
        )
        os.close(stop_read)
        os.close(beat_write)
        return cls(pid, stop_write, beat_read, report)

    def signal_bytes(self) -> None:
        """Have the kernel send this process SIGIO when the child has sent something."""
        fcntl.fcntl(self._beat_read, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(self._beat_read, fcntl.F_GETFL)
        fcntl.fcntl(self._beat_read, fcntl.F_SETFL, flags | os.O_ASYNC)

    def send(self, word: bytes) -> None:
        """Send a word. A second `STOP` asks the child to stop without waiting for anything."""
        try:
            os.write(self._stop_write, word)
        except BrokenPipeError:
            return  # The child has ended already; its exit code says how.

    def request_reload(self) -> None:
        """Ask the child to read its settings anew."""
        try:
            os.kill(self.pid, signal.SIGHUP)
        except ProcessLookupError:
            return

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
        self.is_checked = self.is_checked or CHECKED in received
        self._wants_restart = self._wants_restart or WANTS_RESTART in received
        self._has_news = self._has_news or FACTS in received
        if self.serving_since is None and SERVING in received:
            self.serving_since = time.monotonic()
        for byte in received:
            if byte in b"0123456789":  # And not whatever else Unicode calls a digit.
                self.verdict = byte - ord("0")
        return received != b""

    def take_wish(self) -> bool:
        """Whether the child has asked for a new program since the last call."""
        wish, self._wants_restart = self._wants_restart, False
        return wish

    def take_news(self) -> bool:
        """Whether the child has put other facts into the report since the last call."""
        news, self._has_news = self._has_news, False
        return news

    def exit_code(self, status: int) -> int:
        """The exit code that a wait status stands for, in a shell's convention."""
        code = os.waitstatus_to_exitcode(status)
        self.read_beats()
        if code == 0 and self._last_byte != CLEAN_EXIT:
            return UNCLEAN_EXIT
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Close the pipes and the report."""
        for descriptor in (self._stop_write, self._beat_read, self.report):
            os.close(descriptor)
