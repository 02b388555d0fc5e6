"""A transaction in the making: its events, and the publishers that wait until they are on disk.

Owns the wait of a publisher for the disk, and which inbox is told of which event.
Never knows SQL, nor what an inbox or a publisher does with the answer.

Each event on disk passes here, so that the records are msgspec structs, which are made several
times as fast as attrs classes, and a publisher that waits is a task in a list, and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from .._events._fates import Fate

if TYPE_CHECKING:
    from .._events._delivery import Delivery
    from .._events._event import Event
    from ._inbox import StoredInbox
    from ._records import Seen


class Append(msgspec.Struct):
    """Put an event into the log."""

    number: int
    envelope: bytes
    payload: bytes
    plugins: list[str]
    """The subscribers that it is for."""
    seen: list[tuple[str, Seen]] | None = None
    """The subscribers that are to remember that they have had it, and how."""

    @property
    def size(self) -> int:
        """Bytes of its envelope and its payload."""
        return len(self.envelope) + len(self.payload)


class Writing(Append, kw_only=True, eq=False):
    """An event that is being stored, for one or several inboxes."""

    delivery: Delivery[Event]
    commit: Commit
    """The transaction that it is a part of."""
    fates: dict[str, Fate] | None = None
    """The publisher's account of the subscribers, who count as if the event were stored; corrected
    where it cannot be. None where nobody waits for it."""


class Commit:
    """The work of one transaction."""

    __slots__ = ("_waiting", "arrivals", "is_over", "writings")

    def __init__(self) -> None:
        self.writings: list[Writing] = []
        """The events, in the order of their numbers."""
        self.arrivals: defaultdict[StoredInbox, list[Writing]] = defaultdict(list)
        """The same, by the inboxes that are told."""
        self.is_over: bool = False
        """Whether the events are on disk, or cannot be."""
        self._waiting: list[trio.lowlevel.Task] = []
        """The tasks that wait for that, and some that were cancelled since."""

    @trio.lowlevel.enable_ki_protection
    def over(self) -> Awaitable[object]:
        """Wait until the events are on disk, or cannot be; to be awaited at once, and before that.

        A publisher that is cancelled waits no more, and its events are stored all the same.
        """
        # A coroutine here would be one more that each step of a publisher goes through.
        task = trio.lowlevel.current_task()
        task.custom_sleep_data = self
        self._waiting.append(task)
        return trio.lowlevel.wait_task_rescheduled(_give_up)  # noqa: ASYNC105 - the caller does

    @trio.lowlevel.enable_ki_protection
    def end(self, *, is_stored: bool) -> None:
        """Tell the publishers."""
        self.is_over = True
        if not is_stored:
            for writing in self.writings:
                if writing.fates is not None:
                    writing.fates.update(dict.fromkeys(writing.plugins, Fate.REJECTED))
        waiting, self._waiting = self._waiting, []
        reschedule = trio.lowlevel.reschedule
        for task in waiting:
            if task.custom_sleep_data is self:  # Trio forgets it when a task goes on for any cause.
                reschedule(task)


def _give_up(_: Any) -> trio.lowlevel.Abort:
    """Let a publisher that is cancelled go."""
    return trio.lowlevel.Abort.SUCCEEDED
