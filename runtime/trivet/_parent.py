"""The parent process of `trivet serve`: it hears the signals, and outlives whatever the child does.

Owns the child's process group, its restarts, the kill when the stop's budget is over, the orphans.
Never knows Trivet, nor anything beside the standard library: it runs as a script, in a few MB.

The child is told to stop by a byte on a pipe (by a second one: without waiting for anything), and
by the pipe's end when this process is gone. It says that it ended as it meant to by a byte on
another pipe: an exit code of 0 without it was some plugin's.

Run as `python -I -S _parent.py ORDERS`, where ORDERS is a JSON object with the fields of `Orders`.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import time
from collections import deque
from pathlib import Path

BEAT, MEANT = b".", b"!"
"""What the child writes to its token: that its event loop turns, and that its end was meant."""
LIFELINE = "_TRIVET_LIFELINE"
"""The variable of a restarted child: its descriptors and its file, `STOP,TOKEN,LISTENER,REPORT`."""
OVERRUN = 72
"""The exit code where this process had to kill the child at a stop."""
NO_TOKEN = 1
"""What stands for an exit code of 0 that was not the program's own."""
FINAL = frozenset({0, 2, 3, 4})
"""Codes of the child that become the program's; with any other it is started again."""
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
ANSWER_WITHIN = 0.2
"""Seconds that a process which is to be killed has to say where it stands."""
AWAITED = STOP_SIGNALS | {signal.SIGCHLD, signal.SIGALRM}
"""What this process waits for; blocked from before the first child exists."""
SWEEP_FOR = 2.0
"""Seconds in which killed processes have to be gone."""


class Orders:
    """What the command line decided; times are in seconds."""

    def __init__(self, text: str) -> None:
        orders = json.loads(text)
        self.command: list[str] = orders["command"]
        """What is run for a restart; the first child is there already."""
        self.first: list[int] = orders["first"]
        """The first child: its process id, and this process's ends of its pipes."""
        self.listener: int = orders["listener"]
        """The descriptor of the socket that is handed down from child to child."""
        self.report: str = orders["report"]
        """The file in which whoever ends the child says why."""
        self.budget: float = orders["budget"]
        """From the request to stop to the kill."""
        self.hang_limit: float = orders["hang_limit"]
        """Seconds without a beat of the child's loop after which it is killed; 0 for never."""
        self.max_restarts: int = orders["max_restarts"]
        self.restart_window: float = orders["restart_window"]
        self.backoff_initial: float = orders["backoff_initial"]
        self.backoff_max: float = orders["backoff_max"]


class Child:
    """One run of the program, in a process group of its own."""

    def __init__(self, pid: int, tell: int, token: int) -> None:
        self.pid = pid
        self._tell = tell
        self._token = token
        os.set_inheritable(tell, False)
        os.set_inheritable(token, False)
        os.set_blocking(token, False)
        self._said = b""

    @classmethod
    def spawn(cls, command: list[str], listener: int, report: str) -> Child:
        """Start another one."""
        told, tell = os.pipe()
        token, give = os.pipe()
        for end in (told, give, listener):
            os.set_inheritable(end, True)
        environ = {**os.environ, LIFELINE: f"{told},{give},{listener},{report}"}
        pid = os.posix_spawn(
            command[0], command, environ, setpgroup=0, setsigmask=[], setsigdef=STOP_SIGNALS
        )
        os.close(told)
        os.close(give)
        return cls(pid, tell, token)

    def tell(self) -> None:
        """Ask it to stop; a second time: without waiting for anything."""
        try:
            os.write(self._tell, b"!")
        except BrokenPipeError:
            return  # It has ended already; its exit code says how.

    def ask(self) -> None:
        """Have it write into the report where it stands, which it can whatever it does."""
        try:
            os.kill(self.pid, signal.SIGQUIT)
        except ProcessLookupError:
            return
        time.sleep(ANSWER_WITHIN)

    def kill(self) -> None:
        """End it, and whatever is in its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def beats(self) -> bool:
        """Whether it has said anything since the last time."""
        heard = b""
        try:
            while more := os.read(self._token, 65536):
                heard = more
        except BlockingIOError:  # That was all; its end, or another process, is open still.
            pass
        self._said = heard[-1:] or self._said
        return heard != b""

    def exit_code(self, status: int) -> int:
        """The code that a wait status stands for, as a shell would say it."""
        code = os.waitstatus_to_exitcode(status)
        self.beats()
        os.close(self._token)
        os.close(self._tell)
        if code == 0 and self._said != MEANT:
            return NO_TOKEN
        return code if code >= 0 else 128 - code


class Parent:
    """Runs the child until a code of it is final, or a stop is over."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._requests = 0
        """How often a signal asked for the stop."""
        self._failures: deque[float] = deque()

    def run(self) -> int:
        """Returns the program's exit code."""
        orders = self._orders
        child = Child(*orders.first)
        while True:
            code = self._watch(child)
            child.kill()  # What is left of its group.
            sweep()
            tell_report(orders.report)
            if self._requests or code in FINAL:
                return code
            wait = self._after_failure()
            if wait is None:
                say(f"the program ended with code {code}, too often: giving up")
                return code
            say(f"the program ended with code {code}; starting again in {wait:.1f} s")
            if self._stopped_within(wait):
                return 0
            child = Child.spawn(orders.command, orders.listener, orders.report)

    def _watch(self, child: Child) -> int:
        """See the child to its end."""
        until = self._next_look()
        killed = False
        while True:
            number = next_signal(until)
            if number in STOP_SIGNALS:
                self._requests += 1
                if self._requests == 1:
                    until = time.monotonic() + self._orders.budget
                    os.close(self._orders.listener)  # Or clients would wait in its backlog.
                if self._requests <= 2:
                    child.tell()
                    continue
            elif number is None and not self._requests and child.beats():
                until = self._next_look()
                continue
            status = reap(child.pid)
            if status is not None:
                code = child.exit_code(status)
                return OVERRUN if killed else code
            if number != signal.SIGCHLD and not killed:
                why = "the stop is over" if self._requests else "its event loop is held"
                say(f"{why}, and the program has not ended: killing it")
                child.ask()
                child.kill()
                killed, until = True, float("inf")

    def _next_look(self) -> float:
        """When the child has to have given a sign of life."""
        limit = self._orders.hang_limit
        return time.monotonic() + limit if limit else float("inf")

    def _stopped_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (number := next_signal(until)) is not None:
            if number in STOP_SIGNALS:
                return True
        return False

    def _after_failure(self) -> float | None:
        """Seconds until the restart; None when there have been too many."""
        orders, now = self._orders, time.monotonic()
        while self._failures and self._failures[0] <= now - orders.restart_window:
            self._failures.popleft()
        self._failures.append(now)
        if len(self._failures) > orders.max_restarts:
            return None
        ceiling = orders.backoff_initial * 2.0 ** (len(self._failures) - 1)
        return random.uniform(0.0, min(ceiling, orders.backoff_max))


def next_signal(until: float) -> int | None:
    """Wait for a signal to stop, or for a child's end; None when the time is over."""
    while (left := until - time.monotonic()) > 0:
        if left < float("inf"):
            signal.setitimer(signal.ITIMER_REAL, left)  # macOS has no sigtimedwait.
        number = signal.sigwait(AWAITED)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if number != signal.SIGALRM:  # Which may be that of an earlier wait.
            return number
    return None


def reap(pid: int) -> int | None:
    """Collect every process that has ended; the wait status of this one, if it is among them."""
    found: int | None = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        if ended == pid:
            found = status


def adopt_orphans() -> None:
    """Become the parent of whatever the child leaves behind (on Linux; elsewhere nobody can).

    Before there is a child: this process has yet to start when that one may have left something.
    """
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def sweep() -> None:
    """End the processes that were left behind, and theirs, which come here when they end."""
    until = time.monotonic() + SWEEP_FOR
    while (orphans := children()) and time.monotonic() < until:
        for pid in orphans:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)  # Not a wait for signals, which would take a request to stop away.
        reap(0)


def children() -> list[int]:
    """The processes whose parent is this one (on Linux; elsewhere none is known)."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def tell_report(path: str) -> None:
    """Say where the report is; without one there is no file."""
    try:
        if Path(path).stat().st_size == 0:
            Path(path).unlink()
        else:
            say(f"why it was ended: {path}")
    except OSError:
        return


def say(text: str) -> None:
    """Write a line to standard error, unless nobody reads there."""
    try:
        os.set_blocking(2, False)
        os.write(2, f"trivet: {text}\n".encode())
    except OSError:
        return
    finally:
        os.set_blocking(2, True)


if __name__ == "__main__":
    sys.exit(Parent(Orders(sys.argv[1])).run())
