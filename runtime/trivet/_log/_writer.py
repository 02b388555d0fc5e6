"""The writer of the log: no write to standard error waits or raises, whatever its reader does.

Owns a descriptor of standard error, the lines that wait to be written, and the count of lost lines.
Never knows what is written.

A line that needs no wait is written at once: the process may end, or be held, in the next moment. A
line that the reader does not take at once waits here, bounded in bytes, for a thread that writes
it. A line without room is lost, and counted.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import queue
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

LIMIT = 1024 * 1024
"""Bytes that may wait for the reader."""
FLUSHED_WITHIN = 0.5
"""Seconds that the end of the process waits for the reader."""
PATIENCE = 1.0
"""Seconds that the reader may take before it counts as gone."""
NOBODY_READS = "nobody reads standard error"


class Writer:
    """Standard error, for a process whose event loop must not wait for it.

    Args:
        descriptor: the file to write to; the writer keeps a copy, which nobody else closes.
        on_loss_told: called from the writer's thread with the number of lost lines, once a line
            can be written again.
    """

    def __init__(self, descriptor: int, on_loss_told: Callable[[int], None]) -> None:
        self.lost = 0
        """Lines that were lost so far."""
        self.also: Callable[[bytes], object] | None = None
        """Called with each line, too, if it is there; it must neither wait nor raise."""
        self._trouble: str | None = None
        self._told = 0
        self._on_loss_told = on_loss_told
        self._outlet = Outlet(descriptor)
        self._began = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin with no waiting lines; again in a forked process, which has no threads."""
        self._lock = threading.RLock()  # A finaliser in this thread may write a line.
        self._is_writing = False
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._more: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._drain, name="trivet log", daemon=True).start()

    def write(self, line: bytes) -> None:
        """Write a line, which has its line feed, now or as soon as the reader takes it."""
        with self._lock:
            if self.also is not None:
                self.also(line)
            if self._is_writing or self._waiting:
                self._keep(line)
                return
            self._is_writing = True
            try:
                rest = self._outlet.write(line)
            except OSError as error:
                self._lose(error)
                return
            finally:
                self._is_writing = False
            if rest:
                self._keep(rest)
            elif self.lost > self._told or self._trouble is not None:
                self._more.put(None)

    @property
    def trouble(self) -> str | None:
        """The reason why nothing can be written now; None while all is well."""
        waits = bool(self._waiting) and time.monotonic() - self._began > PATIENCE
        return NOBODY_READS if waits else self._trouble

    def flush(self, seconds: float) -> None:
        """Wait for the reader, at most `seconds` seconds."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            time.sleep(0.005)

    def _keep(self, data: bytes) -> None:
        if self._size + len(data) > LIMIT:
            self.lost += 1
            self._trouble = NOBODY_READS
            return
        self._size += len(data)
        self._waiting.append(data)
        self._more.put(None)

    def _lose(self, error: OSError) -> None:
        self.lost += 1
        self._trouble = f"standard error cannot be written: {error.strerror}"

    def _drain(self) -> None:
        while True:
            self._more.get()
            while self._waiting:
                self._began = time.monotonic()
                data = self._waiting[0]  # It stays there, so that other lines wait behind it.
                try:
                    self._outlet.write_all(data)
                except OSError as error:
                    self._lose(error)
                else:
                    self._trouble = None
                with self._lock:
                    self._size -= len(data)
                    self._waiting.popleft()
            self._tell()

    def _tell(self) -> None:
        """Report the lost lines, now that a line could be written again."""
        lost = self.lost - self._told
        if lost and self._trouble is None:
            self._told += lost
            self._on_loss_told(lost)


class Outlet:
    """A descriptor that is written to with or without a wait.

    Args:
        descriptor: the file to write to.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket: socket.socket | None = None
        self._descriptor, self._never_waits = _own(descriptor)
        self._is = os.fstat(self._descriptor)
        if stat.S_ISSOCK(self._is.st_mode):
            self._socket = socket.socket(fileno=self._descriptor)
            self._never_waits = True

    def write(self, data: bytes) -> bytes:
        """Write as much as the reader takes at once; returns the rest.

        Raises:
            OSError: the file cannot be written at all.
        """
        self._check()
        try:
            while data and self._never_waits:
                data = data[self._send(data) :]
        except BlockingIOError:
            pass
        return data

    def write_all(self, data: bytes) -> None:
        """Write everything, and wait for the reader as long as it takes.

        Raises:
            OSError: the file cannot be written.
        """
        self._check()
        while data := data[self._try(data) :]:
            ready = select.poll()
            ready.register(self._descriptor, select.POLLOUT)
            ready.poll()

    def _try(self, data: bytes) -> int:
        try:
            return self._send(data)
        except BlockingIOError:  # Another process may have set the file to non-blocking.
            return 0

    def _send(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._descriptor, data)

    def _check(self) -> None:
        """Raise if the descriptor is another file by now: a plugin has closed ours."""
        now = os.fstat(self._descriptor)
        if (now.st_dev, now.st_ino) != (self._is.st_dev, self._is.st_ino):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _own(descriptor: int) -> tuple[int, bool]:
    """A descriptor of our own for the same file, and whether writes to it never wait.

    A pipe and a terminal are opened anew, so that only our writes never wait. With a copy of the
    descriptor, everyone else who has the file open would be affected.
    """
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return os.open(os.devnull, os.O_WRONLY), True
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            if sys.platform == "linux":
                return os.open(f"/proc/self/fd/{descriptor}", flags), True
        except OSError:
            pass  # The file is another user's, or has no reader any more.
        return os.dup(descriptor), False
    return os.dup(descriptor), True


class Stream(io.RawIOBase):
    """A stream over the writer, in place of standard error's own.

    Args:
        writer: the writer.
        edit: called with the data of each write; its result is written.
    """

    def __init__(self, writer: Writer, edit: Callable[[bytes], bytes] = bytes) -> None:
        self._writer, self._edit = writer, edit

    def writable(self) -> bool:
        """Whether the stream can be written to: always."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Write without a wait."""
        line = bytes(data)
        self._writer.write(self._edit(line))
        return len(line)

    def close(self) -> None:
        """Do nothing, because a plugin would close standard error for everybody."""

    def fileno(self) -> int:
        """The descriptor of standard error."""
        return 2

    def isatty(self) -> bool:
        """Whether standard error is a terminal."""
        return os.isatty(2)


_writer: Writer | None = None


def open_stderr(
    on_loss_told: Callable[[int], None], edit: Callable[[bytes], bytes] = bytes
) -> TextIO:
    """Standard error as a stream that neither waits nor raises; the process has one writer.

    Args:
        on_loss_told: see `Writer`.
        edit: see `Stream`.
    """
    global _writer  # noqa: PLW0603 - as many writers as standard errors
    if _writer is None:
        _writer = Writer(2, on_loss_told)
        atexit.register(flush)
        os.register_at_fork(after_in_child=_writer.begin)
    stream = cast("BinaryIO", Stream(_writer, edit))
    return io.TextIOWrapper(stream, "utf-8", "backslashreplace", line_buffering=True)


def also_to(keep: Callable[[bytes], object]) -> None:
    """Give each line to a function, too, which must neither wait nor raise."""
    if _writer is not None:
        _writer.also = keep


def flush(seconds: float = FLUSHED_WITHIN) -> None:
    """Wait until the reader has taken the waiting lines, at most `seconds` seconds."""
    if _writer is not None:
        _writer.flush(seconds)


def lost_lines() -> int:
    """The number of lines of the log that could not be written."""
    return 0 if _writer is None else _writer.lost


def trouble() -> str | None:
    """The reason why the log cannot be written now; None if it can, or is not Trivet's."""
    return None if _writer is None else _writer.trouble
