"""The parent's own work: the child's watch, its restarts, its end.

Owns the order of these, the signals, and the kill when the stop's budget is over.
Never knows what the child serves.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from ._child import Child
from ._config import ParentConfig
from ._deaths import Deaths
from ._last_words import LastWords, named, read_facts, say
from ._manager import ServiceManager
from ._orphans import kill_orphans, reap
from ._succession import Succession
from ._suspects import SafeMode, Suspect, suspects_of
from ._wire import (
    FINAL_CODES,
    GO,
    OVERRUN,
    PARENT_SIGNALS,
    RECHECK_AFTER,
    RESTART_SIGNAL,
    STOP,
    STOP_SIGNALS,
)

MAKE_ROOM_WITHIN = 13.0
"""Seconds, besides the stop's budget, in which a program ends that makes room: it first answers the
requests that are on their way, and lets the connections end that are kept."""


class Parent:
    """Runs the child, again and again, until its exit code is final or a stop is over."""

    def __init__(self, config: ParentConfig, manager: ServiceManager) -> None:
        self._config = config
        self._manager = manager
        self._deaths = Deaths()
        self._succession = Succession(config, self._deaths)
        self._requests = 0
        """The number of signals that asked for the stop."""
        self._takes_over = False
        """Whether an old program has made room, and no new one has served yet."""
        self._safe_mode = SafeMode()
        self._failures: deque[float] = deque()
        self._ended: dict[int, int] = {}
        """The wait statuses of children that have ended, by their ids."""

    def run(self) -> int:
        """Run until the program ends; returns its exit code."""
        child = Child(*self._config.first)
        while True:
            child.signal_bytes()
            self._deaths.life_begins()
            code = self._watch(child)
            if self._requests or not self._succession.is_decided:
                self._succession.end()
            words, facts = self._clean_up(child, code)
            if (new := self._successor(code)) is not None:
                child = new
                continue
            final = self._final_code(child, code)
            if final is not None:
                return final
            suspects = suspects_of(words, facts.get("files", {}))
            ended = self._deaths.note(child, code, words, [name for _, name in suspects])
            self._suspect(child, suspects)
            wait = self._after_failure()
            if wait is None:
                say(f"the program ended with {ended}, too often: giving up")
                return code
            say(f"the program ended with {ended}; starting again in {wait:.1f} s")
            if self._stopped_within(wait):
                return 0
            child = Child.spawn(
                self._config, disabled=self._safe_mode.disabled, deaths=self._deaths.told
            )

    def _watch(self, child: Child) -> int:
        """Watch the child until it ends; returns its exit code."""
        until = self._beat_due()
        is_rechecked = is_killed = False
        while (status := self._status_of(child)) is None:
            if self._succession.advance(child, self._ended):
                self._manager.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
                until = time.monotonic() + self._config.budget + MAKE_ROOM_WITHIN
            number = self._next_signal(min(until, self._succession.until))
            if number == signal.SIGHUP:
                child.request_reload()
            elif number in STOP_SIGNALS:
                until = self._request_stop(child, until)
            has_sent = child.read_beats()
            if child.take_news():
                self._config.adopt(read_facts(child.report))
            if number == RESTART_SIGNAL or child.take_wish():
                self._restart()
            is_ending = self._requests > 0 or self._succession.is_decided
            is_third = number in STOP_SIGNALS and self._requests > 2
            if has_sent and not is_ending:
                until, is_rechecked = self._beat_due(), False
            elif is_killed or not (is_third or time.monotonic() >= until):
                continue
            elif not is_ending and not is_rechecked:
                until, is_rechecked = time.monotonic() + RECHECK_AFTER, True
            else:
                self._kill(child)
                is_killed, until = True, float("inf")
        code = child.exit_code(status)
        return OVERRUN if is_killed else code

    def _status_of(self, child: Child) -> int | None:
        """The wait status of the child; None while it runs."""
        self._ended |= reap()
        status = self._ended.pop(child.pid, None)
        if self._succession.pid not in self._ended:
            self._ended.clear()  # Processes that a child has left behind.
        return status

    def _clean_up(self, child: Child, code: int) -> tuple[LastWords, dict[str, Any]]:
        """End whatever the child has left behind; returns its last words, printed, and facts."""
        child.kill()  # The rest of its group.
        self._ended |= kill_orphans(spared=self._succession.pid)
        words, facts = LastWords(child.report), read_facts(child.report)
        words.say(whole=code not in FINAL_CODES)
        child.close()
        return words, facts

    def _restart(self) -> None:
        """Begin to put a new program in the old one's place."""
        if self._requests:
            say("no new program is started: the stop was asked for")
        else:
            self._succession.begin()

    def _successor(self, code: int) -> Child | None:
        """The program that goes on where the old one has made room for it; None without one.

        Args:
            code: the old program's exit code.
        """
        new = self._succession.take()
        if new is None:
            return None
        if code:
            say(f"the old program ended with {named(code)}")
        self._config.adopt(read_facts(new.report))
        self._forget_failures()
        self._takes_over = True
        new.send(GO)
        return new

    def _final_code(self, child: Child, code: int) -> int | None:
        """The program's exit code, if the end of this child is the program's.

        Where an old program has made room for a child, its start is tried again, as often as that
        of a program that died: the service was well a moment ago.
        """
        self._takes_over = self._takes_over and child.serving_since is None
        if self._takes_over and code and not self._requests:
            return None
        if child.verdict is not None:
            return child.verdict
        return code if self._requests or code in FINAL_CODES else None

    def _suspect(self, child: Child, suspects: Sequence[Suspect]) -> None:
        """Put a death down to a plugin; one that starts disabled lets others start again."""
        since = child.serving_since
        if since is not None and time.monotonic() - since > self._config.restart_window:
            self._safe_mode.was_well()
        for line in self._safe_mode.died(suspects, self._config.disable_after):
            say(line)
            self._failures.clear()

    def _request_stop(self, child: Child, until: float) -> float:
        """Pass a request to stop on; returns the moment of the kill."""
        self._requests += 1
        if self._requests <= 2:
            child.send(STOP)
        if self._requests == 1:
            self._manager.tell("STOPPING=1")
            for listener in self._config.listeners:  # Or clients would wait in their backlogs.
                os.close(listener)
            return time.monotonic() + self._config.budget
        return until

    def _kill(self, child: Child) -> None:
        is_over = self._requests or self._succession.is_decided
        why = "the stop is over" if is_over else "its event loop is held"
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
        """Wait for that long; says whether a signal to stop has come.

        An operator who asks for a new program gets it at once.
        """
        until = time.monotonic() + seconds
        while (number := self._next_signal(until)) is not None:
            if number in STOP_SIGNALS:
                return True
            if number == RESTART_SIGNAL:
                say("a new program is asked for: not waiting any longer")
                self._forget_failures()
                return False
            if number == signal.SIGHUP:
                what = "the program reads its settings when it is started again"
                say(what)
                self._manager.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
                self._manager.tell(f"READY=1\nSTATUS={what}")  # It may wait for an answer.
        return False

    def _forget_failures(self) -> None:
        """Begin anew, since an operator has a new program started; deaths of plugins count on."""
        self._failures.clear()
        self._safe_mode.reset()

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


def main() -> int:
    """Run as the parent; returns the program's exit code."""
    for number in PARENT_SIGNALS:  # A signal that was inherited as ignored would not be heard.
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # Or a line for the terminal would stop it.
    return Parent(ParentConfig(sys.argv[1]), ServiceManager(os.environ)).run()
