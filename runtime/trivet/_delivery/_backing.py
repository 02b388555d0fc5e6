"""The backing of an inbox: where it has its events besides memory.

Owns the names that an inbox and its backing have for one another.
Never knows a backing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import structlog

from .._events._delivery import Delivery, Identity, Receipt
from .._events._delivery_settings import DeliveryPolicy
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import History
from .._events._outcome import Refusal
from .._faults._errors import TrivetError
from .._inbox._counts import Counts
from .._inbox._readers import Readers
from .._log._failures import Failures
from .._store._commit import Writing
from ._in_flight import InFlight
from ._memory import Memory
from ._queue import Queue
from ._repeats import Repeats

Accepted = Callable[[Sequence[Delivery[Event]], TrivetError | None], None]
"""Told that events are accepted, or why they cannot be."""


@attrs.define(eq=False)
class Parts:
    """The parts of an inbox in memory that its backing uses."""

    plugin: str
    """The subscriber's name."""
    policy: DeliveryPolicy
    """The present one; a reload may change it."""
    queue: Queue
    in_flight: InFlight
    counts: Counts
    memory: Memory
    repeats: Repeats
    readers: Readers
    log: structlog.typing.FilteringBoundLogger
    failures: Failures
    """The failures of the program, which are logged once a kind."""
    room_made: Callable[[], None]
    """Lets in the events that wait for room, as far as there is some now."""

    def put(self, delivery: Delivery[Event]) -> None:
        """Put an event that comes in behind the others."""
        self.counts.bytes += delivery.size
        self.memory.free -= delivery.size
        self.queue.ready.append(delivery)


class Backing(Protocol):
    """The place of accepted events besides memory. It belongs to one inbox, and is called by it.

    While the fast path is open none of its methods are called: then there is nothing to tell.
    """

    outlives: bool
    """Whether the events outlive the program: then a stop gives none of them up."""
    failed_as: Fate
    """The fate of an event that cannot be handled."""

    # Numbers, of which the inbox asks at any time.

    @property
    def beyond(self) -> int:
        """Queued events that are not in memory."""
        ...

    @property
    def taken(self) -> int:
        """Events that take room and are not in memory: queued ones, and those being accepted."""
        ...

    @property
    def bytes_taken(self) -> int:
        """Memory that leaves less room for another event."""
        ...

    @property
    def bytes_fixed(self) -> int:
        """Memory of it that would be taken although nothing were queued."""
        ...

    @property
    def room_bytes(self) -> float:
        """Bytes of the program's memory that are left for its events from outside."""
        ...

    @property
    def is_near_limit(self) -> bool:
        """Whether nobody should fetch more events from elsewhere."""
        ...

    @property
    def is_paused(self) -> bool:
        """Whether nothing may be handed out now; readers are woken when that is over."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether a closed inbox that has nothing ready will have something."""
        ...

    # The way of an event.

    def refusal(self, delivery: Delivery[Event]) -> Refusal | None:
        """Why the event can never be accepted; None if it can be."""

    def has_room(self, delivery: Delivery[Event], free: float, buffer_bytes: float) -> bool:
        """Whether there is room for the event.

        Args:
            delivery: the event.
            free: how many events there would be room for, if those in memory were all there are.
            buffer_bytes: the inbox's limit of memory.
        """
        ...

    def begins_to_wait(self, delivery: Delivery[Event]) -> None:
        """Note that the event waits for room."""

    def waits_no_more(self, delivery: Delivery[Event]) -> None:
        """Note that the event does not wait any longer, whatever becomes of it."""

    def drop_oldest(self) -> bool:
        """Drop the oldest event that is not in memory, soon; says whether there is one."""
        ...

    def accept(self, delivery: Delivery[Event], then: Accepted) -> Writing | None:
        """Accept an event, for which there is room.

        The backings of several inboxes may be given the same delivery, one after the other; what
        they write for it before the event loop goes on may be one record.

        Returns:
            None where it is accepted and put into the queue already; otherwise the record that is
            written. Then `then` is called when it is, or cannot be.
        """
        ...

    def refill(self) -> None:
        """Put more events into the queue, if there are more and memory has room."""

    def handed_out(self, delivery: Delivery[Event]) -> None:
        """Note that the event is in flight."""

    def handed_out_together(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """Note that events are in flight."""

    def returned(self, delivery: Delivery[Event]) -> None:
        """Note that the event is queued again, and not to blame for that."""

    def retried(
        self, old: Delivery[Event], new: Delivery[Event], history: History, wait: float
    ) -> None:
        """Note that one more attempt follows, `wait` seconds from now."""

    def ended(self, delivery: Delivery[Event], fate: Fate, history: History) -> None:
        """Note the end of an event; the inbox has counted it."""

    def handled_together(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """Note that events have been handled; see `ended`."""

    def forget(self, event: Identity) -> None:
        """Note that the event may come again, though it is known."""

    # The stop.

    def plugin_given_up(self) -> bool:
        """Note that the plugin is not started again; says whether events go on coming in for it."""
        ...

    def plugin_restarted(self) -> None:
        """Note that an operator has the plugin started again."""

    def read_no_more(self) -> None:
        """Bring no more events into memory, where they outlive the plugin's end."""

    def leave(self) -> bool:
        """Take back what is in memory, at a stop; says whether it is there at the next start."""
        ...

    def excuse(self, receipt: Receipt) -> None:
        """Let the publisher not wait for the end of its event, if none comes in this program."""


MakeBacking = Callable[[Parts], Backing]
"""Makes an inbox's backing of the inbox's parts."""
