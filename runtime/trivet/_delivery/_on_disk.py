"""The backing of a durable inbox: what was accepted is in the store until it has ended.

Owns which of the events are in memory, where these are in the store, and what is written when.
Never knows how the store writes; room, order and ends are the inbox's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import trio

from .._events._delivery import Delivery, Identity, Receipt
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import History
from .._events._outcome import Refusal
from .._events._types import EventTypes
from .._faults._errors import EventDecodeError, EventEncodeError
from .._store._commit import Writing
from .._store._inbox import StoredInbox
from .._store._packing import Packed, pack_history
from .._store._records import (
    Backlog,
    Bury,
    DeadLetterFacts,
    Forget,
    JournalError,
    Seen,
    Update,
)
from .._store._store import Store
from ._backing import Accepted, Backing, Parts
from ._beyond import Beyond
from ._held import Held, Stored

# To look an enum's member up by its name takes longer than to compare it.
HANDLED = Fate.HANDLED


class OnDisk(Backing, StoredInbox):
    """See `Backing`. The events outlive the plugin's end, and the process.

    An event is stored before its publisher is told that it is accepted. In memory are the events in
    flight, those that back off, and the next page of the queued ones.

    Args:
        parts: the inbox's.
        store: where events are stored.
        types: the event types, to read events back.
    """

    outlives = True
    failed_as = Fate.DEAD_LETTERED

    def __init__(self, parts: Parts, store: Store, types: EventTypes) -> None:
        self._parts = parts
        self._plugin = parts.plugin
        self._queue = parts.queue
        self._counts = parts.counts
        self._store = store
        self._held = held = Held(parts, types)
        self._beyond = Beyond(parts, held, store, types)
        self._rows = held.rows
        self._progress = held.progress
        self._subscriber = 0
        """The number by which the register knows the plugin."""
        self._arriving = 0
        self._bytes_arriving = 0
        """Memory of the events from outside that are being stored."""
        self._packed_waiting: dict[Delivery[Event], Packed] = {}
        """The bytes of the events that wait for room."""
        self._has_left = False
        self._stands_by = False
        """Whether the plugin was given up: events that come wait for an operator."""
        self._then: Accepted | None = None
        store.add(parts.plugin, self)

    # Numbers.

    @property
    def beyond(self) -> int:
        """See `Backing`."""
        return self._beyond.count

    @property
    def taken(self) -> int:
        """See `Backing`."""
        return self._beyond.count - self._beyond.to_drop + self._arriving

    @property
    def bytes_taken(self) -> int:
        """See `Backing`: an event that has been stored may wait on disk."""
        return self._bytes_arriving

    @property
    def bytes_fixed(self) -> int:
        """See `Backing`."""
        return self._bytes_arriving

    @property
    def room_bytes(self) -> float:
        """See `Backing`: its events wait on disk."""
        return math.inf

    @property
    def is_near_limit(self) -> bool:
        """See `Backing`."""
        return self._store.is_near_limit

    @property
    def is_paused(self) -> bool:
        """See `Backing`."""
        return self._store.is_clogged

    @property
    def has_more(self) -> bool:
        """See `Backing`."""
        return self._store.is_clogged or self._beyond.has_more

    # The way in.

    def has_room(self, delivery: Delivery[Event], free: float, buffer_bytes: float) -> bool:
        """See `Backing`."""
        if self.taken >= free or self._bytes_arriving + delivery.size > buffer_bytes:
            return False
        store = self._store
        packer = store.packer
        packed = packer.packed if packer.last is delivery else self._pack(delivery)
        return store.bytes + packed.size <= store.max_bytes

    def _pack(self, delivery: Delivery[Event]) -> Packed:
        return self._packed_waiting.get(delivery) or self._store.packer.pack(delivery)

    @trio.lowlevel.disable_ki_protection
    def refusal(self, delivery: Delivery[Event]) -> Refusal | None:
        """Why the event can never be stored so that it comes back as it is."""
        try:
            packed = self._store.packer.pack(delivery)
        except (EventEncodeError, EventDecodeError) as error:
            return Refusal(error.reason, error.path)
        if packed.size <= self._store.largest:
            return None
        reason = f"{packed.size} bytes, and the store takes none above {self._store.largest}"
        return Refusal(reason, is_too_large=True)

    def begins_to_wait(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""
        self._packed_waiting[delivery] = self._pack(delivery)
        self._store.await_room(self, waits=True)

    def waits_no_more(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""
        self._packed_waiting.pop(delivery, None)
        self._store.await_room(self, waits=bool(self._packed_waiting))

    def drop_oldest(self) -> bool:
        """See `Backing`."""
        return self._beyond.drop_oldest()

    def accept(self, delivery: Delivery[Event], then: Accepted) -> Writing | None:
        """See `Backing`."""
        self._then = then
        seen = None
        if delivery.given is not None and (window := self._parts.repeats.window):
            seen = Seen(*delivery.given, time.time() + window)
        self._arriving += 1
        self._bytes_arriving += delivery.size
        packer = self._store.packer
        packed = packer.packed if packer.last is delivery else self._pack(delivery)
        return self._store.append(delivery, packed, self._plugin, seen)

    def written(self, writings: list[Writing], error: JournalError | None) -> None:
        """See `StoredInbox`."""
        deliveries = [writing.delivery for writing in writings]
        self._arriving -= len(deliveries)
        if self._bytes_arriving:
            self._bytes_arriving -= sum(delivery.size for delivery in deliveries)
        if error is None:
            self._take_in(writings)
        assert self._then is not None
        self._then(deliveries, error)

    def _take_in(self, writings: list[Writing]) -> None:
        """Have events that were just written in memory, as far as they are the next, and fit."""
        beyond, held = self._beyond, self._held
        window, last = beyond.window, self._progress.last
        room = self._parts.policy.buffer_bytes - self._counts.bytes
        taken: dict[Delivery[Event], Stored] = {}
        for writing in writings:
            delivery, number = writing.delivery, writing.number
            is_next = not beyond.is_behind and window > 0 and delivery.size <= room
            if not beyond.has_left and (is_next or number < last):
                taken[delivery] = Stored(number, writing.size)
                window, room = window - 1, room - delivery.size
            else:
                beyond.count += 1
                held.leave_on_disk(number, delivery.receipt)
        if taken:
            held.put_all(taken)

    def refill(self) -> None:
        """See `Backing`."""
        self._beyond.refill()

    def ends_written(self, numbers: list[int]) -> None:
        """See `StoredInbox`."""
        self._store.register.release(numbers, self._subscriber)

    # The way out.

    def handed_out(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""
        self._store.register.take(self._rows[delivery].number, self._subscriber)

    def handed_out_together(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """See `Backing`."""
        take, rows, subscriber = self._store.register.take, self._rows, self._subscriber
        for delivery in deliveries:
            take(rows[delivery].number, subscriber)

    def returned(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""
        self._store.register.release([self._rows[delivery].number], self._subscriber)

    def retried(
        self, old: Delivery[Event], new: Delivery[Event], history: History, wait: float
    ) -> None:
        """See `Backing`."""
        row = self._rows[new] = self._rows.pop(old)
        retry_at = time.time() + wait if wait else None
        self._store.settle(Update(self._plugin, row.number, pack_history(history), retry_at))
        self._store.register.release([row.number], self._subscriber)

    def ended(self, delivery: Delivery[Event], fate: Fate, history: History) -> None:
        """See `Backing`. If the deletion is lost, the event is delivered again, and ends again."""
        row = self._rows.pop(delivery)
        self._progress.end(row.number)
        if fate is HANDLED:
            self._store.register.done(row.number, self._subscriber)
        else:
            self._store.register.release([row.number], self._subscriber)
        if delivery.size and self._beyond.is_behind:
            self._beyond.refill()
        if fate is Fate.DEAD_LETTERED:
            facts = _facts(delivery, history, self._parts.policy.delivery_limit)
            self._store.settle(Bury(self._plugin, row.number, facts, row.size), size=row.size)
        else:
            self._store.end(self._plugin, row.number, row.size)

    def handled_together(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """See `Backing`."""
        done, subscriber = self._store.register.done, self._subscriber
        rows = list(map(self._rows.pop, deliveries))
        numbers = [row.number for row in rows]
        self._progress.end_all(numbers)
        for number in numbers:
            done(number, subscriber)
        if self._beyond.is_behind and any(delivery.size for delivery in deliveries):
            self._beyond.refill()
        self._store.end_all(self._plugin, numbers, [row.size for row in rows])

    def forget(self, event: Identity) -> None:
        """See `Backing`."""
        self._store.settle(Forget(self._plugin, *event))

    # The stop.

    def plugin_given_up(self) -> bool:
        """See `Backing`."""
        self._stands_by = True
        self._held.excuse_all()
        return True

    def plugin_restarted(self) -> None:
        """See `Backing`."""
        self._stands_by = False

    def read_no_more(self) -> None:
        """See `Backing`."""
        self._beyond.leave()

    def leave(self) -> bool:
        """See `Backing`: nothing is blamed, and nothing goes to the dead letters."""
        self._has_left = True
        self._beyond.count = self.on_file
        self._beyond.leave()
        self._held.excuse_all()
        in_flight = [self._rows[each].number for each in self._parts.in_flight]
        self._store.register.release(in_flight, self._subscriber)
        self._rows.clear()
        self._parts.memory.give_back(self._counts.bytes)
        self._counts.bytes = 0
        if self._beyond.count:
            self._parts.log.info("events stay in the store", count=self._beyond.count)
        return True

    def excuse(self, receipt: Receipt) -> None:
        """See `Backing`."""
        if self._beyond.has_left or self._stands_by:
            receipt.keep(self._plugin)

    # The store's side.

    @property
    def on_file(self) -> int:
        """See `StoredInbox`."""
        queue = self._queue
        in_memory = queue.waiting + queue.backing_off + len(self._parts.in_flight)
        return self._beyond.on_file + in_memory

    @property
    def cursor(self) -> int:
        """See `StoredInbox`."""
        return self._progress.cursor

    @property
    def has_left(self) -> bool:
        """See `StoredInbox`."""
        return self._has_left

    def recover(self, subscriber: int, backlog: Backlog, seen: list[Seen]) -> None:
        """See `StoredInbox`."""
        self._subscriber = subscriber
        self._beyond.count = self._counts.accepted = backlog.count
        now, wall, repeats = trio.current_time(), time.time(), self._parts.repeats
        for each in seen:
            left = min(each.until - wall, repeats.window)
            if left > 0:
                repeats.note((each.source, each.id), now + left)
        self._beyond.refill()

    def found(self, count: int) -> None:
        """See `StoredInbox`."""
        self._beyond.found(count)

    def room_made(self) -> None:
        """See `StoredInbox`."""
        self._parts.room_made()

    def resume(self) -> None:
        """See `StoredInbox`."""
        self._parts.readers.wake_all()


def _facts(delivery: Delivery[Event], history: History, delivery_limit: float) -> DeadLetterFacts:
    """The account of an event that was given up."""
    if history.crashes >= delivery_limit:
        reason = f"run() crashed {history.crashes} times with it in flight"
    else:
        reason = history.failures[-1].error
    return DeadLetterFacts(
        delivery.event.__event_name__,
        delivery.id,
        delivery.source,
        time.time(),
        reason,
        pack_history(history),
    )
