"""The events of a durable inbox that are in memory, each with its row in the store.

Owns that list, the numbers of all that has not ended, and what publishers wait for besides.
Never knows how events come into memory, nor where they go.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .._events._delivery import Delivery, Receipt
from .._events._event import Event
from .._events._successors import renewed
from .._events._types import EventTypes
from ._backing import Parts
from ._progress import Progress


class Stored(msgspec.Struct, gc=False):
    """The row of an event that is in memory."""

    number: int
    size: int


class Held:
    """The events of one inbox that are in memory.

    Args:
        parts: the inbox's.
        types: the event types, which a reload may change.
    """

    def __init__(self, parts: Parts, types: EventTypes) -> None:
        self._parts = parts
        self._types = types
        self.rows: dict[Delivery[Event], Stored] = {}
        self.progress: Progress = Progress()
        """The numbers that are, or have been, in memory."""
        self.receipts: dict[int, Receipt] = {}
        """The receipts of publishers that wait for events that are not in memory, by the row."""

    def put_all(self, loaded: Mapping[Delivery[Event], Stored]) -> None:
        """Have events in memory, behind the others."""
        self.remember(loaded)
        self._parts.queue.ready.extend(loaded)

    def remember(self, loaded: Mapping[Delivery[Event], Stored]) -> None:
        """Note that events are in memory, which are put into the queue elsewhere."""
        for delivery in loaded:  # One may have been on its way at a reload.
            delivery.event = renewed(delivery.event, self._types)
        self.rows.update(loaded)
        self.progress.begin_all([row.number for row in loaded.values()])
        size = sum([delivery.size for delivery in loaded])
        self._parts.counts.bytes += size
        self._parts.memory.free -= size
        given = [delivery.given for delivery in loaded if delivery.given is not None]
        self._parts.repeats.take_in_all(given)

    def leave_on_disk(self, number: int, receipt: Receipt | None) -> None:
        """Note the publisher that waits for an event which is not in memory."""
        if receipt is not None:
            self.receipts[number] = receipt

    def excuse_all(self) -> None:
        """Let publishers not wait for the ends of events, as none comes in this program."""
        in_memory = (delivery.receipt for delivery in self.rows)
        for receipt in (*in_memory, *self.receipts.values()):
            if receipt is not None:
                receipt.keep(self._parts.plugin)
        self._parts.repeats.keep(self._parts.plugin)
