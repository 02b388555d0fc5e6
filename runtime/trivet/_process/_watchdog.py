"""The watchdog ends this process when its event loop cannot: a thread, and after it the kernel.

Owns the pipe from the parent process, the deadlines of both watchers, and the process's end.
Never knows the loop's own way to stop; callers say when a stop begins, and the watchdog ends what
overruns it.

The watchdog exists before the first plugin is imported, since an import may hang too. A step of the
escalation keeps its time whatever the description costs: another thread describes, the step waits
for it no longer than it can, and a fault in there changes nothing.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import queue
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from .._log._writer import flush
from .._loop._tasks import describe_threads
from ._escalation import DUMP_AFTER, KERNEL, THREAD, EscalationStep
from ._parent._wire import RECHECK_AFTER, STOP
from ._report import WRITTEN_WITHIN, Report

_exit = os._exit  # As it is before a plugin can replace it.

DESCRIBED_WITHIN = 0.25
"""Seconds after a step's time for which it waits for the description of what is left: half of the
time to the next."""
DESCRIBED_AT_LEAST = 0.05
"""Seconds that it waits where it acts late itself, on a busy machine."""
RECHECKS = 4
"""The waits into which the second look at a loop that seems held is parted."""
MEMORY_RESERVE = 8 * 1024 * 1024
"""Bytes that are freed when the stop begins, since plugins may have used up all others."""


class KernelTimer:
    """A timer of the kernel that sends this process a signal, even if none of its code can run.

    On Linux; elsewhere it does nothing, and the parent process is the next to act.

    Args:
        number: the signal.
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

    def __init__(self, number: signal.Signals) -> None:
        self._id = ctypes.c_void_p()
        self._libc: ctypes.CDLL | None = None
        if sys.platform == "linux":
            libc = ctypes.CDLL(None)
            event = self._Event(signal=number)
            clock = ctypes.c_int(time.CLOCK_MONOTONIC)
            if libc.timer_create(clock, ctypes.byref(event), ctypes.byref(self._id)) == 0:
                self._libc = libc

    def arm(self, seconds: float) -> None:
        """Send the signal in `seconds` seconds, unless the timer is armed anew; 0 for never."""
        if self._libc is not None:
            whole, part = divmod(seconds, 1.0)
            spec = self._Spec(0, 0, int(whole), int(part * 1e9))
            self._libc.timer_settime(self._id, 0, ctypes.byref(spec), None)


class Watchdog:
    """Hears the parent, watches the loop, and ends the process when its time is over.

    Args:
        budget: seconds of a whole stop, before the escalation begins.
        hang_limit: seconds without a heartbeat of the loop, or without its start, after which the
            process is ended; 0 for never.
        stop_read: the descriptor on which the parent asks for the stop; None without a parent.
        report: takes the reason of the process's end.
    """

    def __init__(
        self, *, budget: float, hang_limit: float, stop_read: int | None, report: Report
    ) -> None:
        self.report = report
        self.verdict: int | None = None
        """The program's exit code, once it is known; a step of the escalation then keeps to it."""
        self._budget = budget
        self._hang_limit = hang_limit
        self._stop_read = stop_read
        self._requests = 0
        self._passed_on = 0
        self._on_request: Callable[[int], None] | None = None
        self._on_word: Callable[[bytes], None] | None = None
        self._words: deque[bytes] = deque()
        self._describe: Callable[[], Iterable[str]] = tuple
        self._stopping = False
        self._since = time.monotonic()
        self._deadline = self._next_deadline()
        self._dump = KernelTimer(signal.SIGQUIT)
        self._kill = KernelTimer(signal.SIGKILL)
        # Faulthandler dumps the stacks even while other code holds the interpreter.
        faulthandler.register(signal.SIGQUIT, file=report.descriptor)
        faulthandler.enable(file=report.descriptor)
        self._reserve = mmap.mmap(-1, MEMORY_RESERVE)
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._described: list[str] = []
        for work, name in (
            (self._describe_when_asked, "trivet describer"),
            (self._watch, "trivet watchdog"),
        ):
            threading.Thread(target=work, name=name, daemon=True).start()
        self.beat()

    def attach(
        self,
        on_request: Callable[[int], None],
        describe: Callable[[], Iterable[str]],
        on_word: Callable[[bytes], None] | None = None,
    ) -> None:
        """Take note that the loop runs, and call these functions from now on.

        Args:
            on_request: called from the watchdog's thread when the parent asks for the stop, with
                the number of its requests; called again if it raises.
            describe: describes what has not ended yet, part by part, the most important first;
                called from a thread of its own.
            on_word: called as `on_request` is, with each other word of the parent's.
        """
        self._on_request, self._on_word, self._describe = on_request, on_word, describe

    @property
    def requests(self) -> int:
        """The number of the parent's requests to stop."""
        return self._requests

    def beat(self) -> None:
        """Take a heartbeat of the loop, which comes about every second."""
        with self._lock:
            if not self._stopping:
                self._since = time.monotonic()
                self._deadline = self._next_deadline()

    def heed(self, *, budget: float, hang_limit: float) -> None:
        """Go by other limits from now on, unless the stop has begun.

        Args:
            budget: see `Watchdog`.
            hang_limit: see `Watchdog`.
        """
        with self._lock:
            if not self._stopping:
                self._budget, self._hang_limit = budget, hang_limit
                self._deadline = self._next_deadline()

    def begin_stop(self) -> None:
        """Start the budget of the stop; a second call changes nothing."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._since = time.monotonic()
            self._deadline = self._since + self._budget + THREAD.after
        self._dump.arm(self._budget + DUMP_AFTER)
        self._kill.arm(self._budget + KERNEL.after)
        self._reserve.close()

    def end_process(self, step: EscalationStep) -> None:
        """End the process, with a report that says why, who is left, and where each stands.

        Args:
            step: the step of the escalation that ends it.
        """
        try:
            if step is THREAD:
                self._dump.arm(0)  # The report follows; a dump of a thread that runs may crash.
            lasted = time.monotonic() - self._since
            self.report.say(f"{self._reason} {lasted:.1f} s, and {step.name} ends the process\n")
            self.report.say(self._description(DESCRIBED_WITHIN - self._late_by(step)))
            flush(WRITTEN_WITHIN)
        finally:
            _exit(step.exit_code if self.verdict is None else self.verdict)

    def _late_by(self, step: EscalationStep) -> float:
        """Seconds since the step's time in a stop; 0 without a stop, which no other step ends."""
        if not self._stopping:
            return 0.0
        return max(0.0, time.monotonic() - self._since - self._budget - step.after)

    @property
    def _reason(self) -> str:
        return "the stop is over after" if self._stopping else "the event loop is held for"

    def _next_deadline(self) -> float:
        return time.monotonic() + self._hang_limit if self._hang_limit else float("inf")

    # The thread that watches.

    def _watch(self) -> None:
        try:
            self._until_over()
        finally:
            self.end_process(THREAD)

    def _until_over(self) -> None:
        while True:
            deadline = self._deadline
            if (left := deadline - time.monotonic()) > 0:
                self._listen(min(left, 1.0))
            elif self._stopping:
                return
            else:
                # The machine may have stood still, in one of these waits at most.
                for _ in range(RECHECKS):
                    self._listen(RECHECK_AFTER / RECHECKS)
                if self._deadline == deadline:
                    return

    def _listen(self, seconds: float) -> None:
        """Hear the parent for `seconds` seconds; an error in here must not end the watch."""
        try:
            if self._requests > self._passed_on or self._words:
                self._pass_on()
            if self._stop_read is None:
                time.sleep(seconds)
            elif self._is_readable(self._stop_read, seconds):
                self._hear(self._stop_read)
        except BaseException:  # noqa: ASYNC103 - no memory may be left, or no loop any more
            time.sleep(0.05)

    def _is_readable(self, stop_read: int, seconds: float) -> bool:
        pipe = select.poll()
        pipe.register(stop_read, select.POLLIN)
        return bool(pipe.poll(seconds * 1000))

    def _hear(self, stop_read: int) -> None:
        try:
            word = os.read(stop_read, 1)
        except OSError:
            word = b""  # A plugin has closed a descriptor that is not its own.
        if word == STOP:
            self._requests += 1
            self.begin_stop()
        elif word:
            self._words.append(word)
        else:
            self._requests = max(self._requests, 1)
            self._stop_read = None  # The parent is gone, or out of reach: stop too.
            self.report.switch_to_stderr()
            self.begin_stop()
        self._pass_on()

    def _pass_on(self) -> None:
        requests = self._requests
        if self._on_request is not None:
            self._on_request(requests)
            self._passed_on = requests
        while self._words and self._on_word is not None:
            self._on_word(self._words[0])
            self._words.popleft()

    # The thread that describes.

    def _description(self, within: float) -> str:
        """The part of the description that is ready in time."""
        self._asked.put(None)
        try:
            self._answered.get(timeout=max(within, DESCRIBED_AT_LEAST))
        except queue.Empty:
            self._described.append("\nthe rest takes too long to tell\n")
        return "".join(self._described)

    def _describe_when_asked(self) -> None:
        while True:
            self._asked.get()
            for parts in (self._describe, describe_threads):
                try:
                    for part in parts():
                        self._described.append(part)  # Read while it grows.
                except BaseException as fault:  # noqa: ASYNC103 - a plugin's, in what is described
                    self._described.append(f"\nthe rest cannot be told: {type(fault).__name__}\n")
            self._answered.put(None)
