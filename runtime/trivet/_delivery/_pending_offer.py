"""An offer to one inbox that cannot be decided about yet, and the publisher that waits for that.

Owns the wait.
Never knows who decides, nor how.
"""

from __future__ import annotations

import attrs
import trio

from .._events._delivery import Delivery
from .._events._event import Event
from .._events._fates import Fate


@attrs.define(eq=False)
class PendingOffer:
    """An offer that waits: for room, or for the event of which it has a duplicate to be stored."""

    delivery: Delivery[Event]
    has_room: bool = False
    """Whether there is room, so that the offer waits only for the event to be stored."""
    fate: Fate | None = None
    """The decision; None while there is none."""
    _task: trio.lowlevel.Task | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the offer waits for room."""
        return self.fate is None and not self.has_room

    @trio.lowlevel.enable_ki_protection
    def decide(self, fate: Fate) -> None:
        """Tell the publisher."""
        self.fate = fate
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> None:
        """Wait for the decision; no checkpoint where it is there. One task at a time may."""
        if self.fate is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
