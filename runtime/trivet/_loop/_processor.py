"""A thread's use of the processor, and its waits for one.

Owns the reading of the kernel's account of a thread.
Never knows what the thread does.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import attrs


@attrs.frozen
class Sample:
    """A thread's account at one moment."""

    at: float
    """The moment, by `perf_counter`."""
    used: float = 0.0
    """Seconds of processor time."""
    starved: float = 0.0
    """Seconds for which the thread was ready, and the machine had no processor for it."""


class Processor:
    """The account of the thread that makes this object.

    Only Linux counts waits for a processor, and macOS does not tell another thread's processor
    time.
    """

    def __init__(self) -> None:
        self._ident = threading.get_ident()
        self._files = Path(f"/proc/self/task/{threading.get_native_id()}")
        self._starved = 0.0

    def sample(self) -> Sample:
        """The account now; any thread may ask."""
        fields = self._read("schedstat").split()
        if len(fields) > 1:
            self._starved = int(fields[1]) / 1e9
        return Sample(time.perf_counter(), self.used(), self._starved)

    def is_runnable(self) -> bool:
        """Whether the thread runs, or is ready to run; for another thread to ask."""
        return self._read("stat").rpartition(")")[2].split()[:1] == ["R"]

    def _read(self, file: str) -> str:
        try:
            return (self._files / file).read_text("ascii", "replace")
        except OSError:  # The system has no such file, or no descriptor is left: nothing is known.
            return ""

    def used(self) -> float:
        """Seconds of processor time; 0 on macOS, which tells them to the thread alone."""
        if sys.platform == "darwin":
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._ident))
