"""The parent process of `trivet serve`: it hears the signals, and outlives whatever the child does.

Owns the child's process group, its restarts, the kill when the stop's budget is over, the orphans.
Never knows Trivet, nor anything beside the standard library: it runs as a script, in a few MB.

The parent asks the child to stop by a byte on a pipe (by a second byte: to stop without waiting for
anything), and by the pipe's end when the parent is gone. The child says by a byte on another pipe
that it meant to end: an exit code of 0 without that byte was some plugin's. The child's last words,
and the act during which it ended, are in a file without a name, which both processes have open.

Run as `python -I -S _parent.py CONFIG`, where CONFIG is a JSON object with the fields of
`ParentConfig`.
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
from collections.abc import Mapping
from pathlib import Path

HEARTBEAT, CLEAN_EXIT = b".", b"!"
"""Bytes from the child: its event loop turns; its exit code of 0 is meant. A digit is the verdict:
the program's exit code, in whatever way the child ends."""
LIFELINE = "_TRIVET_LIFELINE"
"""The environment variable of a restarted child: its descriptors, `STOP,BEAT,REPORT,LISTENER,…`."""
OVERRUN = 72
"""The exit code of a program whose stop this process had to end by a kill."""
UNCLEAN_EXIT = 1
"""The exit code that replaces a 0 without `CLEAN_EXIT`."""
FINAL_CODES = frozenset({0, 2, 3, 4})
"""Codes of the child that become the program's; after any other the child is started again."""
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
BLOCKED_SIGNALS = STOP_SIGNALS | {signal.SIGHUP}
"""Signals that a child starts with blocked, until it can hear them."""
PARENT_SIGNALS = BLOCKED_SIGNALS | {signal.SIGCHLD, signal.SIGALRM}
"""Signals that this process waits for; blocked from before the first child exists."""
DUMP_WITHIN = 0.2
"""Seconds that a child has to write where it stands before it is killed."""
RECHECK_AFTER = 1.0
"""Seconds after which a loop that seems held is looked at again: if the whole machine stood still,
the loop's time is over although it had none. Longer than between two beats of a loop that turns."""
ORPHANS_WITHIN = 4.0
"""Seconds in which killed orphans have to be gone."""
NOTE_SIZE = 256
"""Bytes at the beginning of the report for the acts during which the child may end."""
REPORT_LIMIT = 64 * 1024
"""Bytes of a report that are printed."""
SAY_WITHIN = 0.2
"""Seconds in which standard error has to take a message."""


class ServiceManager:
    """systemd, where it has started this process by `Type=notify`; elsewhere it hears nothing.

    Args:
        environ: the environment, which says where and how often the manager listens.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        limit = environ.get("WATCHDOG_USEC", "") if watched else ""
        self.alive_every = int(limit) / 2e6 if limit.isdecimal() else float("inf")
        """Seconds between two signs of life, half of the manager's limit; infinite for none."""

    def tell_alive(self) -> None:
        """Send a sign of life, where the manager waits for them."""
        if self.alive_every < float("inf"):
            self.tell("WATCHDOG=1")

    def tell(self, state: str) -> None:
        """Send a state, such as `READY=1`, in one datagram; it is lost if it cannot be sent."""
        if not self._address:
            return
        import socket  # noqa: PLC0415 - which most programs do not need here

        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(state.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError:
            return


class ParentConfig:
    """The decisions of the command line; times are in seconds."""

    def __init__(self, text: str) -> None:
        config = json.loads(text)
        self.command: list[str] = config["command"]
        """The command for a restart; the first child exists already."""
        self.first: list[int] = config["first"]
        """The first child: its process id, and this process's ends of its pipes."""
        self.listeners: list[int] = config["listeners"]
        """The descriptors of the sockets that are handed down from child to child."""
        self.public: int = config["public"]
        """How many of them are not for management; they are the first ones."""
        self.report: int = config["report"]
        """The descriptor of the report: who ended the child, and why."""
        self.budget: float = config["budget"]
        """Seconds from the request to stop to the kill."""
        self.hang_limit: float = config["hang_limit"]
        """Seconds without a heartbeat of the child's loop until the kill; 0 for never."""
        self.max_restarts: int = config["max_restarts"]
        self.restart_window: float = config["restart_window"]
        self.backoff_initial: float = config["backoff_initial"]
        self.backoff_max: float = config["backoff_max"]


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


class Parent:
    """Runs the child, again and again, until its exit code is final or a stop is over."""

    def __init__(self, config: ParentConfig, manager: ServiceManager) -> None:
        self._config = config
        self._manager = manager
        self._requests = 0
        """The number of signals that asked for the stop."""
        self._failures: deque[float] = deque()

    def run(self) -> int:
        """Run until the program ends; returns its exit code."""
        config = self._config
        child = Child(*config.first)
        while True:
            code = self._watch(child)
            child.kill()  # The rest of its group.
            kill_orphans()
            print_report(config.report, whole=code not in FINAL_CODES)
            if child.verdict is not None:
                return child.verdict
            if self._requests or code in FINAL_CODES:
                return code
            wait = self._after_failure()
            if wait is None:
                say(f"the program ended with {named(code)}, too often: giving up")
                return code
            say(f"the program ended with {named(code)}; starting again in {wait:.1f} s")
            if self._stopped_within(wait):
                return 0
            child = Child.spawn(config)

    def _watch(self, child: Child) -> int:
        """Watch the child until it ends; returns its exit code."""
        until = self._beat_due()
        is_rechecked = is_killed = False
        while (status := reap(child.pid)) is None:
            number = self._next_signal(until)
            if number == signal.SIGHUP:
                say("SIGHUP is ignored: settings are not read again while the program runs")
            elif number in STOP_SIGNALS:
                until = self._request_stop(child, until)
            is_third = number in STOP_SIGNALS and self._requests > 2
            if is_killed or not (number is None or is_third):
                continue
            if not self._requests and child.read_beats():
                until, is_rechecked = self._beat_due(), False
            elif not self._requests and not is_rechecked:
                until, is_rechecked = time.monotonic() + RECHECK_AFTER, True
            else:
                self._kill(child)
                is_killed, until = True, float("inf")
        code = child.exit_code(status)
        return OVERRUN if is_killed else code

    def _request_stop(self, child: Child, until: float) -> float:
        """Pass a request to stop on; returns the moment of the kill."""
        self._requests += 1
        if self._requests <= 2:
            child.request_stop()
        if self._requests == 1:
            self._manager.tell("STOPPING=1")
            for listener in self._config.listeners:  # Or clients would wait in their backlogs.
                os.close(listener)
            return time.monotonic() + self._config.budget
        return until

    def _kill(self, child: Child) -> None:
        why = "the stop is over" if self._requests else "its event loop is held"
        if child.is_stopped:
            why += ", and a signal has stopped the process"
        say(f"{why}, and the program has not ended: killing it")
        child.request_dump()
        child.kill()

    def _beat_due(self) -> float:
        """The moment at which the child must have sent a heartbeat."""
        limit = self._config.hang_limit
        return time.monotonic() + limit if limit else float("inf")

    def _stopped_within(self, seconds: float) -> bool:
        """Wait for that long; says whether a signal to stop has come."""
        until = time.monotonic() + seconds
        while (number := self._next_signal(until)) is not None:
            if number in STOP_SIGNALS:
                return True
        return False

    def _next_signal(self, until: float) -> int | None:
        """Wait for a signal like `next_signal`, and tell the service manager meanwhile of life."""
        while True:
            self._manager.tell_alive()
            number = next_signal(min(until, time.monotonic() + self._manager.alive_every))
            if number is not None or time.monotonic() >= until:
                return number

    def _after_failure(self) -> float | None:
        """Seconds until the restart; None after too many failures."""
        config, now = self._config, time.monotonic()
        while self._failures and self._failures[0] <= now - config.restart_window:
            self._failures.popleft()
        self._failures.append(now)
        if len(self._failures) > config.max_restarts:
            return None
        return full_jitter(config.backoff_initial, config.backoff_max, len(self._failures))


def full_jitter(initial: float, most: float, attempt: int) -> float:
    """A copy of `trivet.full_jitter` with a factor of 2: this file imports nothing of Trivet."""
    try:
        growth = 2.0 ** (attempt - 1)
    except OverflowError:
        growth = sys.float_info.max
    return random.uniform(0.0, min(initial * growth, most))


def next_signal(until: float) -> int | None:
    """Wait for a signal, of a child's end too; None when the time is over."""
    while (left := until - time.monotonic()) > 0:
        if left < float("inf"):
            signal.setitimer(signal.ITIMER_REAL, left)  # macOS has no sigtimedwait.
        number = signal.sigwait(PARENT_SIGNALS)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if number != signal.SIGALRM:  # An alarm may be an earlier wait's.
            return number
    return None


def reap(pid: int) -> int | None:
    """Collect every process that has ended; returns the wait status of `pid` if it has."""
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
    """Become the parent of the processes that the child leaves behind, on Linux; no-op elsewhere.

    To be called before there is a child: it may leave one behind before this process has started.
    """
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def kill_orphans() -> None:
    """Kill the processes that the child left behind, and all their descendants.

    All at once: one generation after the other would take longer the more generations there are.
    """
    until = time.monotonic() + ORPHANS_WITHIN
    while time.monotonic() < until:
        reap(0)
        left = descendants()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # The process has ended meanwhile, or belongs to another user.
        if not left:
            return
        time.sleep(0.01)  # To wait for signals here would swallow a request to stop.


def descendants() -> list[int]:
    """The processes that descend from this one, on Linux; elsewhere none is known."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            # The name before may contain anything, parentheses too.
            fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # The process has ended.
        children[int(fields[1])].append(int(directory.name))
    found: list[int] = []
    ahead = [os.getpid()]
    while ahead:
        own = children.pop(ahead.pop(), [])
        found += own
        ahead += own
    return found


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
    os.lseek(descriptor, NOTE_SIZE, os.SEEK_SET)
    return descriptor


def print_report(descriptor: int, *, whole: bool) -> None:
    """Print the child's last words, and empty the report for the next child.

    Args:
        descriptor: the report.
        whole: whether to print the child's last acts, too: it did not end as it meant to.
    """
    note = os.pread(descriptor, NOTE_SIZE, 0).rstrip(b"\0")
    text = os.pread(descriptor, REPORT_LIMIT, NOTE_SIZE).decode(errors="backslashreplace")
    lines = [printable(line) for line in text.splitlines()]
    if whole and note:
        lines.append(f"when it ended it was at {printable(note.decode(errors='replace'))}")
    if lines:
        say("\ntrivet: ".join(lines))
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, NOTE_SIZE, os.SEEK_SET)


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


def main() -> int:
    """Run as the parent; returns the program's exit code."""
    for number in PARENT_SIGNALS:  # A signal that was inherited as ignored would not be heard.
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # Or a line for the terminal would stop it.
    return Parent(ParentConfig(sys.argv[1]), ServiceManager(os.environ)).run()


if __name__ == "__main__":
    sys.exit(main())
