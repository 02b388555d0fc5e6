"""The parent process of `trivet serve`: it hears the signals, and outlives whatever the child does.

Owns the child's process group, its restarts, the kill when the stop's budget is over, the orphans.
Never knows Trivet, nor anything beside the standard library: it runs as a script, in a few MB.

The child is told to stop by a byte on a pipe (by a second one: without waiting for anything), and
by the pipe's end when this process is gone. It says that it ended as it meant to by a byte on
another pipe: an exit code of 0 without it was some plugin's. What it has to tell of its end, and
what it was about to do, is in a file without a name, which both have open.

Run as `python -I -S _parent.py ORDERS`, where ORDERS is a JSON object with the fields of `Orders`.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import defaultdict, deque
from pathlib import Path

BEAT, MEANT = b".", b"!"
"""What the child writes to its token: that its event loop turns, and that its end was meant. A
digit is its verdict: the exit code of the program, in whatever way the child ends."""
LIFELINE = "_TRIVET_LIFELINE"
"""The variable of a restarted child: its descriptors, `STOP,TOKEN,LISTENER,REPORT`."""
OVERRUN = 72
"""The exit code where this process had to kill the child at a stop."""
NO_TOKEN = 1
"""What stands for an exit code of 0 that was not the program's own."""
FINAL = frozenset({0, 2, 3, 4})
"""Codes of the child that become the program's; with any other it is started again."""
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
ANSWER_WITHIN = 0.2
"""Seconds that a process which is to be killed has to say where it stands."""
PUT_OFF = STOP_SIGNALS | {signal.SIGHUP}
"""What the child does not hear before it can."""
AWAITED = PUT_OFF | {signal.SIGCHLD, signal.SIGALRM}
"""What this process waits for; blocked from before the first child exists."""
SECOND_LOOK = 1.0
"""Seconds after which a loop that seems held is looked at again: where the whole machine stood
still, its time is over and it has had none. Longer than between two beats of a loop that turns."""
SWEEP_FOR = 4.0
"""Seconds in which killed processes have to be gone."""
NOTE = 256
"""Bytes at the beginning of the report for what the child was about to do."""
REPORT_LIMIT = 64 * 1024
"""Bytes of a report that are printed."""
SAID_WITHIN = 0.2
"""Seconds in which standard error has to take a message."""


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
        self.report: int = orders["report"]
        """The descriptor of the file in which the process that ends the child says why."""
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
        self.verdict: int | None = None
        """The exit code of the program, which this child has said to be final."""

    @classmethod
    def spawn(cls, command: list[str], listener: int, report: int) -> Child:
        """Start another one."""
        told, tell = os.pipe()
        token, give = os.pipe()
        for end in (told, give, listener, report):
            os.set_inheritable(end, True)
        environ = {**os.environ, LIFELINE: f"{told},{give},{listener},{report}"}
        pid = os.posix_spawn(
            command[0], command, environ, setpgroup=0, setsigmask=PUT_OFF, setsigdef=AWAITED
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
            os.kill(self.pid, signal.SIGCONT)  # A process that was stopped answers as it goes on.
        except ProcessLookupError:
            return
        time.sleep(ANSWER_WITHIN)

    def kill(self) -> None:
        """End it, and whatever is in its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it, so that it runs no code at all."""
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:
            return False

    def beats(self) -> bool:
        """Whether it has said anything since the last time."""
        heard = b""
        try:
            while more := os.read(self._token, 65536):
                heard += more
        except BlockingIOError:  # That was all; its end, or another process, is open still.
            pass
        self._said = heard[-1:] or self._said
        for said in heard:
            if said in b"0123456789":  # And not whatever else Unicode calls a digit.
                self.verdict = said - ord("0")
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
            tell_report(orders.report, whole=code not in FINAL)
            if child.verdict is not None:
                return child.verdict
            if self._requests or code in FINAL:
                return code
            wait = self._after_failure()
            if wait is None:
                say(f"the program ended with {named(code)}, too often: giving up")
                return code
            say(f"the program ended with {named(code)}; starting again in {wait:.1f} s")
            if self._stopped_within(wait):
                return 0
            child = Child.spawn(orders.command, orders.listener, orders.report)

    def _watch(self, child: Child) -> int:
        """See the child to its end."""
        until = self._next_look()
        looked_again = killed = False
        while (status := reap(child.pid)) is None:
            number = next_signal(until)
            if number == signal.SIGHUP:
                say("SIGHUP is ignored: settings are not read again while the program runs")
            elif number in STOP_SIGNALS:
                until = self._request_stop(child, until)
            is_third = number in STOP_SIGNALS and self._requests > 2
            if killed or not (number is None or is_third):
                continue
            if not self._requests and child.beats():
                until, looked_again = self._next_look(), False
            elif not self._requests and not looked_again:
                until, looked_again = time.monotonic() + SECOND_LOOK, True
            else:
                self._kill(child)
                killed, until = True, float("inf")
        code = child.exit_code(status)
        return OVERRUN if killed else code

    def _request_stop(self, child: Child, until: float) -> float:
        """Hand on a request to stop; returns until when the child may take."""
        self._requests += 1
        if self._requests <= 2:
            child.tell()
        if self._requests == 1:
            os.close(self._orders.listener)  # Or clients would wait in its backlog.
            return time.monotonic() + self._orders.budget
        return until

    def _kill(self, child: Child) -> None:
        why = "the stop is over" if self._requests else "its event loop is held"
        if child.is_stopped:
            why += ", and a signal has stopped the process"
        say(f"{why}, and the program has not ended: killing it")
        child.ask()
        child.kill()

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
        return full_jitter(orders.backoff_initial, orders.backoff_max, len(self._failures))


def full_jitter(initial: float, most: float, attempt: int) -> float:
    """A copy of `trivet.full_jitter` with a factor of 2: this file imports nothing of Trivet."""
    try:
        growth = 2.0 ** (attempt - 1)
    except OverflowError:
        growth = sys.float_info.max
    return random.uniform(0.0, min(initial * growth, most))


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
    """End the processes that were left behind, and all that descend from them.

    All at once, since one generation after the other would take as long as there are many.
    """
    until = time.monotonic() + SWEEP_FOR
    while time.monotonic() < until:
        reap(0)
        left = descendants()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # It has ended meanwhile, or belongs to another user.
        if not left:
            return
        time.sleep(0.01)  # Not a wait for signals, which would take a request to stop away.


def descendants() -> list[int]:
    """The processes that descend from this one (on Linux; elsewhere none is known)."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            # The name before it may hold anything, parentheses too.
            fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # It has ended.
        children[int(fields[1])].append(int(directory.name))
    found: list[int] = []
    ahead = [os.getpid()]
    while ahead:
        own = children.pop(ahead.pop(), [])
        found += own
        ahead += own
    return found


def named(code: int) -> str:
    """An exit code, with the signal that it stands for.

    >>> named(1), named(139)
    ('code 1', 'code 139 (SIGSEGV)')
    """
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(code - 128)
    return f"code {code} ({name})" if name else f"code {code}"


def new_report() -> int:
    """The descriptor of an empty file for the report, which has no name and needs no directory."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("trivet-report")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.lseek(descriptor, NOTE, os.SEEK_SET)
    return descriptor


def tell_report(descriptor: int, *, whole: bool) -> None:
    """Print what the child has left to be told of its end, and make room for the next.

    Args:
        descriptor: the report's.
        whole: whether the child did not end as it meant to: then what it did last is told, too.
    """
    note = os.pread(descriptor, NOTE, 0).rstrip(b"\0")
    text = os.pread(descriptor, REPORT_LIMIT, NOTE).decode(errors="backslashreplace")
    lines = [printable(line) for line in text.splitlines()]
    if whole and note:
        lines.append(f"when it ended it was at {printable(note.decode(errors='replace'))}")
    if lines:
        say("\ntrivet: ".join(lines))
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, NOTE, os.SEEK_SET)


def printable(text: str) -> str:
    r"""The text without what would begin a line of the log, or command a terminal.

    >>> printable("a\tb\x1b[31m")
    'a\\tb\\x1b[31m'
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def say(text: str) -> None:
    """Write a line to standard error, unless nobody reads there."""
    try:
        write_within(2, f"trivet: {text}\n".encode(errors="backslashreplace"), SAID_WITHIN)
    except OSError:
        return


def write_within(descriptor: int, data: bytes, seconds: float) -> None:
    """Write as much as can be written in this time, without a wait for who does not read.

    The descriptor is not made non-blocking: whatever has the same file open would find it so.

    Raises:
        OSError: there is no reader any more, or no room.
    """
    until = time.monotonic() + seconds
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    while data and (left := until - time.monotonic()) > 0:
        if ready.poll(left * 1000):
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]


def copy_of_stderr() -> int:
    """A descriptor of its own for standard error; where that is closed, for nothing."""
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def main() -> int:
    """Run as the parent; returns the program's exit code."""
    for number in AWAITED:  # What was inherited as ignored would not be told.
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # Or a line for the terminal would stop it.
    return Parent(Orders(sys.argv[1])).run()


if __name__ == "__main__":
    sys.exit(main())
