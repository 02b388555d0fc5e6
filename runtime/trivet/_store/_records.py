"""The records of the durable inboxes' file: plain data, and its errors.

Owns the rows, the parts of a transaction, the dead letters, and the faults of the file.
Never knows SQLite, nor what is inside an envelope, a payload or a history: all three are bytes.

Times are POSIX seconds of the wall clock; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

import attrs
import msgspec

from .._faults._errors import TrivetError


class Row(msgspec.Struct, gc=False):
    """One event that waits for one plugin."""

    plugin: str
    number: int
    """The event's, never used twice; its order is the order of delivery."""
    envelope: bytes
    payload: bytes
    history: bytes | None = None
    """Its failed attempts."""
    retry_at: float | None = None
    """The time at which its back-off ends."""
    crashes: int = 0
    """How often the process died with it in flight."""
    damage: str | None = None
    """The damage that was found in the file; None if there is none."""

    @property
    def size(self) -> int:
        """Bytes that it counts for in a `Backlog`: its envelope and its payload."""
        return len(self.envelope) + len(self.payload)


Takes: TypeAlias = Callable[[Row], bool]
"""Takes a row that was read, and says whether another may follow."""


@attrs.define
class Seen:
    """An event that a plugin has had, and the time until which it is remembered."""

    source: str
    id: str
    until: float


class Delete(msgspec.Struct, gc=False):
    """Events have ended for a subscriber: handled, expired, dropped."""

    plugin: str
    numbers: list[int]
    sizes: list[int]
    """Bytes that each of them counted for in the subscriber's `Backlog`."""


@attrs.frozen
class Update:
    """The event has failed, and is to be tried again. The history tells of its crashes, too."""

    plugin: str
    number: int
    history: bytes
    retry_at: float | None


@attrs.frozen
class DeadLetterFacts:
    """Why an event was given up."""

    event: str
    """The name of its type."""
    id: str
    source: str
    died_at: float
    reason: str
    """One line."""
    history: bytes
    """All its failed attempts."""


@attrs.frozen
class Bury:
    """The event is given up: it has ended, and is among the dead letters."""

    plugin: str
    number: int
    letter: DeadLetterFacts
    size: int = 0
    """Bytes, as in `Delete`."""


@attrs.frozen
class Forget:
    """Take a `Seen` back, so that the event may come again."""

    plugin: str
    source: str
    id: str


Settlement: TypeAlias = Delete | Update | Bury | Forget
"""A change of an event that is in the file; it needs next to no room there."""


@attrs.frozen
class Backlog:
    """The events that wait for one plugin, in numbers."""

    count: int
    bytes: int
    """Bytes of the envelopes and the payloads."""


@attrs.frozen
class Found:
    """A subscriber, as it is found in the file."""

    subscriber: int
    """The number by which the file, and the register, know it."""
    backlog: Backlog
    """The events that wait for it."""
    seen: list[Seen]
    """The ids of the events that it has had."""


@attrs.frozen
class DeadLetter:
    """An event that was given up, and can be replayed."""

    number: int
    """The number by which an operator names it: 1, 2, 3, and never used twice."""
    plugin: str
    event: str
    id: str
    source: str
    died_at: float
    reason: str
    history: bytes
    envelope: bytes
    payload: bytes


@attrs.frozen
class Retention:
    """The limits of the dead letters that are kept; the oldest go first."""

    max_age: float
    """Seconds."""
    max_count: int
    max_bytes: int
    """Bytes of the envelopes, the payloads and the histories."""


@attrs.define(eq=False)
class JournalError(TrivetError):
    """The file of the durable inboxes does not do what it should.

    >>> str(JournalError(Path("state/journal.db"), "it is not a SQLite database"))
    'state/journal.db: it is not a SQLite database'
    """

    exit_code: ClassVar[int] = 3

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@attrs.define(eq=False)
class JournalFullError(JournalError):
    """The file has no room; its events are safe, and it takes more when there is room."""


@attrs.define(eq=False)
class JournalUnavailableError(JournalError):
    """The file cannot be read or written: I/O errors, permissions, damage, another's file."""


@attrs.define(eq=False)
class JournalInUseError(JournalError):
    """Another process owns the file.

    >>> str(JournalInUseError(Path("journal.db"), "one process owns it", pid=17))
    'journal.db is in use by process 17: one process owns it'
    """

    pid: int | None = None
    """The owner's id; None if it has not written that yet."""

    def __str__(self) -> str:
        who = "another process" if self.pid is None else f"process {self.pid}"
        return f"{self.path} is in use by {who}: {self.reason}"
