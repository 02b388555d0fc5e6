"""The backing of an inbox whose events are in memory only: nothing is kept besides.

Owns the answers of an inbox that ends with its program.
Never knows a store.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._events._delivery import Delivery, Identity, Receipt
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import History
from .._events._outcome import Refusal
from .._store._commit import Writing
from ._backing import Accepted, Parts


class InMemory:
    """See `Backing`: what is in the inbox's parts is all there is."""

    outlives = False
    failed_as = Fate.FAILED
    beyond = 0
    taken: int = 0
    is_near_limit = False
    is_paused = False
    has_more = False

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def bytes_taken(self) -> int:
        """See `Backing`: all that is inside."""
        return self._parts.counts.bytes

    @property
    def bytes_fixed(self) -> int:
        """See `Backing`: all that is in flight."""
        return self._parts.in_flight.bytes

    @property
    def room_bytes(self) -> float:
        """See `Backing`."""
        return self._parts.memory.room(self._parts.counts.bytes)

    def refusal(self, delivery: Delivery[Event]) -> Refusal | None:
        """See `Backing`."""
        return None

    def has_room(self, delivery: Delivery[Event], free: float, buffer_bytes: float) -> bool:
        """See `Backing`."""
        size = delivery.size
        has_bytes = self._parts.counts.bytes + size <= buffer_bytes
        return free > 0 and has_bytes and (not size or size <= self.room_bytes)

    def begins_to_wait(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""

    def waits_no_more(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""

    def drop_oldest(self) -> bool:
        """See `Backing`."""
        return False

    def accept(self, delivery: Delivery[Event], then: Accepted) -> Writing | None:
        """See `Backing`."""
        self._parts.put(delivery)
        return None

    def refill(self) -> None:
        """See `Backing`."""

    def handed_out(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""

    def handed_out_together(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """See `Backing`."""

    def returned(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""

    def retried(
        self, old: Delivery[Event], new: Delivery[Event], history: History, wait: float
    ) -> None:
        """See `Backing`."""

    def ended(self, delivery: Delivery[Event], fate: Fate, history: History) -> None:
        """See `Backing`."""

    def handled_together(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """See `Backing`."""

    def forget(self, event: Identity) -> None:
        """See `Backing`."""

    def plugin_given_up(self) -> bool:
        """See `Backing`."""
        return False

    def plugin_restarted(self) -> None:
        """See `Backing`."""

    def read_no_more(self) -> None:
        """See `Backing`."""

    def leave(self) -> bool:
        """See `Backing`."""
        return False

    def excuse(self, receipt: Receipt) -> None:
        """See `Backing`."""
