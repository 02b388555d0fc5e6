"""What ends this process when its event loop cannot: a thread, and behind it the kernel.

Owns the pipe from the parent process, the deadlines of both watchers, and the report file.
Never knows the loop's own way to stop; it is told when that begins, and ends what overruns it.

Everything here is made before the first plugin is imported, so that an import may hang too. What
kills never writes to a pipe first: the report goes to a descriptor of its own that does not block.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from .._ladder import DUMP_AFTER, KERNEL, THREAD

_exit = os._exit  # As it is before a plugin can replace it.


class KernelTimer:
    """A timer of the kernel that kills this process: no code of it runs then, nor is needed.

    On Linux; elsewhere it does nothing, and the parent process is the next to act.
    """

    class _Event(ctypes.Structure):
        _fields_ = (
            ("value", ctypes.c_void_p),
            ("signal", ctypes.c_int),
            ("notify", ctypes.c_int),
            ("padding", ctypes.c_byte * 48),
        )

    class _Spec(ctypes.Structure):
        _fields_ = tuple(
            (name, ctypes.c_long) for name in ("every_s", "every_ns", "after_s", "after_ns")
        )

    def __init__(self) -> None:
        self._id = ctypes.c_void_p()
        self._libc: ctypes.CDLL | None = None
        if sys.platform == "linux":
            libc = ctypes.CDLL(None)
            event = self._Event(signal=signal.SIGKILL)
            clock = ctypes.c_int(time.CLOCK_MONOTONIC)
            if libc.timer_create(clock, ctypes.byref(event), ctypes.byref(self._id)) == 0:
                self._libc = libc

    def arm(self, seconds: float) -> None:
        """Kill this process in so many seconds, unless armed anew before."""
        if self._libc is not None:
            whole, part = divmod(seconds, 1.0)
            spec = self._Spec(0, 0, int(whole), int(part * 1e9))
            self._libc.timer_settime(self._id, 0, ctypes.byref(spec), None)


class Watchdog:
    """Hears the parent, watches the loop, and ends the process when its time is over.

    Args:
        budget: seconds of a whole stop, before the graces above.
        hang_limit: seconds without a beat of the loop, or without its start, after which the
            process is ended; 0 for never.
        lifeline: the descriptor on which the parent asks for the stop.
        report: the file in which whoever ends the process says why.
    """

    def __init__(
        self, *, budget: float, hang_limit: float, lifeline: int | None, report: Path
    ) -> None:
        self._budget = budget
        self._hang_limit = hang_limit
        self._lifeline = lifeline
        self._requests = 0
        self._on_request: Callable[[], None] | None = None
        self._describe: Callable[[], str] | None = None
        self._stopping = False
        self._since = time.monotonic()
        self._deadline = self._next_deadline()
        self._timer = KernelTimer()
        self._report = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
        # What holds the interpreter cannot keep faulthandler from answering the parent's question.
        faulthandler.register(signal.SIGQUIT, file=self._report)
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, name="trivet watchdog", daemon=True).start()
        self.beat()

    def attach(self, on_request: Callable[[], None], describe: Callable[[], str]) -> None:
        """From now on the loop runs.

        Args:
            on_request: called from the watchdog's thread for each request to stop.
            describe: says what has not ended yet; called from that thread too.
        """
        with self._lock:
            self._on_request, self._describe = on_request, describe
            requests = self._requests
        for _ in range(requests):
            on_request()

    def beat(self) -> None:
        """The loop is alive; to be called every second, or so."""
        if not self._stopping:
            self._since = time.monotonic()
            self._deadline = self._next_deadline()
            self._rearm(self._deadline)

    def stop_begins(self) -> None:
        """The budget of the stop runs from now; a second call changes nothing."""
        if not self._stopping:
            self._stopping = True
            self._since = time.monotonic()
            self._deadline = self._since + self._budget + THREAD.after
            self._rearm(self._deadline)

    @property
    def reason(self) -> str:
        """Why the process is to be ended now, and after how long."""
        lasted = time.monotonic() - self._since
        what = "the stop is over after" if self._stopping else "the event loop is held for"
        return f"{what} {lasted:.1f} s"

    def say(self, text: str) -> None:
        """Add to the report; what does not fit there is lost, and nobody waits for it."""
        try:
            os.write(self._report, text.encode(errors="backslashreplace"))
        except OSError:
            return

    def _next_deadline(self) -> float:
        return time.monotonic() + self._hang_limit if self._hang_limit else float("inf")

    def _rearm(self, deadline: float) -> None:
        if deadline == float("inf"):
            return
        left = deadline - time.monotonic()
        self._timer.arm(left + KERNEL.after - THREAD.after)
        faulthandler.dump_traceback_later(
            left + DUMP_AFTER - THREAD.after, exit=False, file=self._report
        )

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            # A beat may put the deadline off meanwhile, so it is looked at again.
            pause = min(left, 1.0)
            if self._lifeline is None:
                time.sleep(pause)
            else:
                self._listen(self._lifeline, pause)
        self._end()

    def _listen(self, lifeline: int, seconds: float) -> None:
        try:
            if not select.select([lifeline], [], [], seconds)[0]:
                return
            asked = os.read(lifeline, 1) != b""
        except OSError:
            asked = False  # A plugin has closed what is not its own.
        if not asked:
            self._lifeline = None  # The parent is gone, or out of reach: stop too.
        self._hear()

    def _hear(self) -> None:
        self.stop_begins()
        with self._lock:
            self._requests += 1
            on_request = self._on_request
        if on_request is not None:
            on_request()

    def _end(self) -> None:
        self.say(f"{self.reason}, and the watchdog's thread ends the process\n")
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - documented
        for ident, frame in frames.items():
            if ident != threading.get_ident():
                stack = "".join(traceback.format_stack(frame))
                self.say(f"\nthread {names.get(ident, 'that is ending')!r}:\n{stack}")
        if self._describe is not None:
            self.say(f"\n{self._describe()}\n")
        _exit(THREAD.exit_code)
