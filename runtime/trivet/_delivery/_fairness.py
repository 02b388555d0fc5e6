"""The turns that publishers leave to everybody else.

A publisher that never waits must not starve readers; a slow one must see a cancellation at its next
event.

Owns that balance, which all publishers of a program share.
Never knows what is published, nor to whom.
"""

from __future__ import annotations

import math
from time import time

import trio

from .._inbox._quantum import QUANTUM, QUIET


class Fairness:
    """The account of what publishers owe to other tasks.

    Whoever publishes adds each event to `streak`, calls `before_publish` where that has come to
    `QUANTUM`, and `after_publish` where `owes_turn` says so. A checkpoint for each event would cost
    more than all the rest of publishing it.
    """

    def __init__(self) -> None:
        self.streak: int = 0
        """Events that were published since other tasks had their turn."""
        self.owes_turn: bool = False
        """Whether a reader that was just woken has its turn before its publisher goes on."""
        self._before = 0
        self._only_looks = False
        """Whether the next event is only to look for a cancellation; then `streak` goes on with
        `_before`."""
        self._last = -math.inf
        """The time of the last event that was noted, by the calendar, since an event bears that."""

    async def before_publish(self) -> None:
        """Let every other task have its turn, and learn of a cancellation, before an event."""
        self.streak, self._before = self._before, 0
        if self._only_looks:
            self._only_looks = False
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
            self._last = time()

    def note(self, now: float) -> bool:
        """Note an event that needed more than to be put in; says whether the last one is long ago.

        A publisher that takes its time has to look for a cancellation at its next event, and not
        after many.
        """
        was_quiet = now - self._last > QUIET
        self._last = now
        if was_quiet and self.streak < QUANTUM:
            self._before, self.streak, self._only_looks = self.streak, QUANTUM, True
        return was_quiet

    def woke_reader(self, now: float) -> None:
        """Note that a reader was woken; after a quiet time it has its turn before the publisher."""
        if self.note(now):
            self.owes_turn = True

    async def after_publish(self) -> None:
        """Let the readers that were woken have their turn."""
        self.owes_turn = False
        # Twice: of what is due at once Trio draws the order, and this task may be the first.
        await trio.lowlevel.cancel_shielded_checkpoint()
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._before = 0
        # The readers' turn is no quiet time of the publisher: many readers take longer than that.
        self._last = time()

    def has_waited(self) -> None:
        """Note that a publisher had to wait, so that everybody has had a turn."""
        self.owes_turn = False
        self.streak = self._before = 0
        self._only_looks = False
