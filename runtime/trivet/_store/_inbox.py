"""The part of a durable inbox that the store knows.

Owns the names by which the store tells an inbox what has been written, or was found.
Never knows an inbox.
"""

from __future__ import annotations

from typing import Protocol

from ._commit import Writing
from ._records import Backlog, JournalError, Seen


class StoredInbox(Protocol):
    """An inbox, as the store knows it."""

    @property
    def on_file(self) -> int:
        """Events of the inbox that are in the file, as far as it knows."""
        ...

    @property
    def cursor(self) -> int:
        """The number up to which all events of the inbox in the file have ended."""
        ...

    @property
    def has_left(self) -> bool:
        """Whether the inbox has ended, so that what waits is for another one of its name."""
        ...

    def recover(self, subscriber: int, backlog: Backlog, seen: list[Seen]) -> None:
        """Take over the events that are there from before, and the ids that are known.

        Args:
            subscriber: the number by which the inbox is known in the register.
            backlog: the events that are there, in numbers.
            seen: the ids.
        """

    def written(self, writings: list[Writing], error: JournalError | None) -> None:
        """Note that events have been written, in one transaction, or cannot be."""

    def ends_written(self, numbers: list[int]) -> None:
        """Note that the ends of these events have been written."""

    def found(self, count: int) -> None:
        """Note that the file was counted, and has `count` events more than were known."""

    def room_made(self) -> None:
        """Note that there may be room now for publishers that wait for it."""

    def resume(self) -> None:
        """Note that events may be handed out again."""
