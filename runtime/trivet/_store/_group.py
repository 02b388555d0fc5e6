"""The work of one visit of the store's thread to the file, and its results.

Owns the list of what is done together.
Never knows how it is done, nor who is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from ._commit import Commit
from ._inbox import StoredInbox
from ._records import Backlog, JournalError, Settlement

if TYPE_CHECKING:
    from ._journal import Journal

T = TypeVar("T")


@attrs.define
class Reading(Generic[T]):
    """Something that is to be read, a page for example, and the callback that gets it."""

    read: Callable[[Journal], T]
    then: Callable[[T], None]
    otherwise: Callable[[JournalError], None] | None = None
    """Called where it cannot be read. Without this callback it is tried again."""


@attrs.define
class Group:
    """The work of one visit to the thread, and its results."""

    settlements: list[Settlement]
    commit: Commit
    readings: list[Reading[Any]]
    looks: bool
    """Whether the file is due to be looked after."""
    today: float
    """The calendar's time; as the loop's clock has it, where the calendar was set forward."""
    known: dict[StoredInbox, int]
    """Events in the file by inbox, if nobody else has changed it; counted where that is due."""
    known_bytes: int
    """Their bytes together, those included that are to be written."""
    cursors: dict[str, int]
    """The numbers up to which everything has ended, by plugin."""
    vanished: list[str]
    """Plugins of which events have vanished from the file."""
    refused: JournalError | None = None
    """Why nothing was appended."""
    unsettled: bool = False
    """Whether the ends of events could not be written, either."""
    left: list[Settlement] = attrs.field(factory=list["Settlement"])
    """The ends that could not be written."""
    pages: list[Any] = attrs.field(factory=list[Any])
    """The pages and whatever else was read; None for one that could not be."""
    counts: Mapping[str, Backlog] | None = None
    """The backlogs in the file, where somebody else has changed it."""
    error: JournalError | None = None
    """The last thing that failed."""
    untidy: JournalError | None = None
    """Why the file could not be tidied."""
