"""The events that are with a plugin, and have not been acknowledged.

Owns since when each is, which of them are kept, and the failed attempts of every event inside.
Never knows why an event is taken back, nor what becomes of it then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .._events._delivery import Delivery
from .._events._event import Event
from .._events._history import FIRST, History
from .._inbox._fast_path import FastPath, Slot

KEPT = "an event is kept"


class InFlight:
    """The unacknowledged events of one inbox.

    An event is among them, or in the slot of a worker on the fast path.

    Args:
        path: the inbox's; an event that is kept closes it.
    """

    def __init__(self, path: FastPath) -> None:
        self._path = path
        self._since: dict[Delivery[Event], float] = {}
        self._kept: set[Delivery[Event]] = set()
        self.histories: dict[Delivery[Event], History] = {}
        """The failed attempts of the events that are inside and have any."""

    def __len__(self) -> int:
        return len(self._since) + sum(slot.delivery is not None for slot in self._path.slots)

    def __iter__(self) -> Iterator[Delivery[Event]]:
        yield from self._since
        for slot in self._path.slots:
            if slot.delivery is not None:
                yield slot.delivery

    def __contains__(self, delivery: object) -> bool:
        return delivery in self._since or self._slot_of(delivery) is not None

    @property
    def bytes(self) -> int:
        """Memory of the events from outside that are in flight."""
        return sum(delivery.size for delivery in self)

    def since(self, delivery: Delivery[Event]) -> float | None:
        """The time at which the event was handed out, 0 if unknown; None if it is not in flight."""
        since = self._since.get(delivery)
        if since is None and (slot := self._slot_of(delivery)) is not None:
            return slot.since
        return since

    def add(self, delivery: Delivery[Event], since: float = 0.0) -> None:
        """Note that an event was handed out."""
        self._since[delivery] = since

    def add_all(self, deliveries: Iterable[Delivery[Event]], since: float) -> None:
        """Note that events were handed out together."""
        self._since.update(dict.fromkeys(deliveries, since))

    def release(self, delivery: Delivery[Event]) -> bool:
        """Take an event out; says whether it was in flight."""
        if self._since.pop(delivery, None) is None:
            slot = self._slot_of(delivery)
            if slot is None:
                return False
            slot.take()
        if self._kept:
            self._kept.discard(delivery)
            self._path.mind(KEPT, bool(self._kept))
        return True

    def release_all(self, deliveries: Iterable[Delivery[Event]]) -> list[Delivery[Event]]:
        """Take those of the events out that are not kept; returns those that were in flight."""
        since, kept = self._since, self._kept
        return [
            each
            for each in deliveries
            if not (kept and each in kept)
            and (since.pop(each, None) is not None or self.release(each))
        ]

    def clear(self) -> list[Delivery[Event]]:
        """Take everything out."""
        everything = list(self)
        for delivery in everything:
            self.release(delivery)
        return everything

    def keep(self, delivery: Delivery[Event]) -> None:
        """Keep an event, if it is in flight, until it is released."""
        slot = self._slot_of(delivery)
        if slot is not None:
            slot.take()
            self._since[delivery] = slot.since
        if delivery in self._since:
            self._kept.add(delivery)
            self._path.mind(KEPT, True)

    def is_kept(self, delivery: Delivery[Event]) -> bool:
        """Whether an event is in flight, and kept."""
        return delivery in self._kept

    def _slot_of(self, delivery: object) -> Slot | None:
        for slot in self._path.slots:
            if slot.delivery is delivery:
                return slot
        return None

    # The failed attempts.

    def history(self, delivery: Delivery[Event]) -> History:
        """The failed attempts of an event that is inside, in flight or not."""
        return self.histories.get(delivery, FIRST)

    def remember(self, delivery: Delivery[Event], history: History) -> None:
        """Keep the failed attempts of an event that is inside."""
        self.histories[delivery] = history
