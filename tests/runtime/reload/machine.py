"""The storm as a state machine of Hypothesis: a rule is a step, taken and checked at once.

Owns the rules, and the lock-step of the machine with the program's event loop.
Never knows what a step does.

The program runs in a thread. Its loop stands still while the machine chooses the next step, so that
its clock, which jumps, sees nothing but the steps.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from trio.testing import MockClock

from .programs import Files
from .storm import CODE, DELIVERIES, Step, weather

WITHIN = 60.0
"""Seconds in which a step ends, which takes milliseconds, on a busy machine too."""


class StuckError(AssertionError):
    """A step does not end: the program hangs, where no clock of its own sees it."""


class StormMachine(RuleBasedStateMachine):
    """Settings, code, crashes, orders, publishing, reloads and stops in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._directory = tempfile.TemporaryDirectory()
        self._thread: threading.Thread | None = None
        self._has_changed = False

    @initialize(durable=st.booleans())
    def start(self, durable: bool) -> None:
        """Start the program."""
        work = partial(self._run, durable)
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _run(self, durable: bool) -> None:
        files = Files(Path(self._directory.name))
        storm = partial(weather, files, self._each_step(), durable=durable)
        try:
            trio.run(storm, clock=MockClock(autojump_threshold=0))
        except BaseException as fault:  # noqa: ASYNC103 - the test gets it
            self._outcomes.put(fault)
        else:
            self._outcomes.put(None)

    def _each_step(self) -> Iterator[Step]:
        while (step := self._steps.get()) is not None:
            yield step
            self._outcomes.put(None)  # The next one is asked for, so this one is done.

    def _take(self, name: str, amount: int = 0) -> None:
        self._steps.put((name, amount))
        self._await()

    def _await(self) -> None:
        try:
            fault = self._outcomes.get(timeout=WITHIN)
        except queue.Empty:
            self._thread = None  # It stays behind.
            raise StuckError(f"a step has not ended within {WITHIN:.0f} s") from None
        if fault is not None:
            self._thread = None
            raise fault

    @rule(amount=st.integers(1, 20))
    def publish(self, amount: int) -> None:
        """See `Storm.publish`."""
        self._take("publish", amount)

    @rule(amount=st.integers(1, 20))
    def publish_to_keep(self, amount: int) -> None:
        """See `Storm.publish_to_keep`."""
        self._take("publish_to_keep", amount)

    @rule()
    def crash(self) -> None:
        """See `Storm.crash`."""
        self._take("crash")

    @rule(amount=st.integers(0, 20))
    def sleep(self, amount: int) -> None:
        """See `Storm.sleep`."""
        self._take("sleep", amount)

    @rule(amount=st.integers(0, 20))
    def set_pause(self, amount: int) -> None:
        """See `Storm.set_pause`."""
        self._has_changed = True
        self._take("set_pause", amount)

    @rule(choice=st.integers(0, len(DELIVERIES) - 1))
    def set_delivery(self, choice: int) -> None:
        """See `Storm.set_delivery`."""
        self._has_changed = True
        self._take("set_delivery", choice)

    @rule(choice=st.integers(0, len(CODE) - 1))
    def write_code(self, choice: int) -> None:
        """See `Storm.write_code`."""
        self._has_changed = True
        self._take("write_code", choice)

    @rule(what=st.sampled_from(["toggle_extra", "toggle_keeping", "toggle_durable"]))
    def toggle(self, what: str) -> None:
        """See `Storm.toggle_extra`, `Storm.toggle_keeping` and `Storm.toggle_durable`."""
        self._has_changed = True
        self._take(what)

    @rule(choice=st.integers(0, 9))
    def order(self, choice: int) -> None:
        """See `Storm.order`."""
        self._take("order", choice)

    @precondition(lambda self: self._has_changed)
    @rule(how=st.sampled_from(["reload", "reload_beside", "reload_under_load"]))
    def reload(self, how: str) -> None:
        """See `Storm.reload`, `Storm.reload_beside` and `Storm.reload_under_load`."""
        self._has_changed = False
        self._take(how)

    @rule()
    def stop(self) -> None:
        """Stop the program, and start it anew."""
        self._take("stop")

    def teardown(self) -> None:
        """Let the program end in fair weather."""
        try:
            if self._thread is not None:
                self._steps.put(None)
                self._await()
        finally:
            self._directory.cleanup()
