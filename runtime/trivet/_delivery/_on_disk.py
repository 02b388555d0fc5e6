"""The backing of a durable inbox: what was accepted is in the store until it has ended.

Owns which of the events are in memory, where these are in the store, and what is written when.
Never knows how the store writes; room, order and ends are the inbox's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import trio

from .._events._delivery import Delivery, Identity, Receipt
from .._events._delivery_settings import DeliveryPolicy
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import FIRST, History
from .._events._outcome import Refusal
from .._events._types import EventTypes
from .._faults._containment import printable
from .._faults._errors import EventDecodeError, EventEncodeError
from .._store._commit import Writing
from .._store._inbox import StoredInbox
from .._store._packing import Packed, name_and_id, pack_history, unpack, unpack_history
from .._store._pages import Page
from .._store._records import (
    Backlog,
    Bury,
    DeadLetterFacts,
    Forget,
    JournalError,
    Row,
    Seen,
    Update,
)
from .._store._store import Store
from ._backing import Accepted, Backing, Parts
from ._progress import Progress

WINDOW = 256
"""Events that are read from the store at a time, and that are in memory before any is read."""
BACKING_OFF_AT_MOST = 1000
"""Events that wait in memory to be tried again; at so many, no others are begun."""

# To look an enum's member up by its name takes longer than to compare it.
HANDLED = Fate.HANDLED


class _Stored(msgspec.Struct, gc=False):
    """The row of an event that is in memory."""

    number: int
    size: int


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
        self._policy = parts.policy
        self._queue = parts.queue
        self._counts = parts.counts
        self._store = store
        self._types = types
        self._rows: dict[Delivery[Event], _Stored] = {}
        self._on_disk = 0
        """Events that are in the store only, and follow those in memory, as far as is known."""
        self._may_be_more = True
        """Whether the store has not been read to its end since the start."""
        self._missed = 0
        """Events that should have been there, and were not, since the file was counted."""
        self._out_of_reach = 0
        """Events that are in the file, but were not shown when they should have been read."""
        self._to_drop = 0
        """The first of these, which are dropped when they are read."""
        self._progress = Progress()
        """The numbers that are, or have been, in memory."""
        self._subscriber = 0
        """The number by which the register knows the plugin."""
        self._is_reading = False
        self._arriving = 0
        self._bytes_arriving = 0
        """Memory of the events from outside that are being stored."""
        self._receipts: dict[int, Receipt] = {}
        """The receipts of publishers that wait for events that are not in memory, by the row."""
        self._packed_waiting: dict[Delivery[Event], Packed] = {}
        """The bytes of the events that wait for room."""
        self._stands_by = False
        """Whether the plugin was given up: events that come wait for an operator."""
        self._then: Accepted | None = None
        self._has_left = False
        """Whether the events that are there are for the next start."""
        store.add(parts.plugin, self)

    # Numbers.

    @property
    def beyond(self) -> int:
        """See `Backing`."""
        return self._on_disk

    @property
    def taken(self) -> int:
        """See `Backing`."""
        return self._on_disk - self._to_drop + self._arriving

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
        if self._store.is_clogged:
            return True
        if self._queue.is_blocked:
            return False
        # An inbox that is full of events that back off does not wait for them; those in flight end.
        is_full = self._counts.bytes >= self._policy.buffer_bytes and not len(self._parts.in_flight)
        return self._is_reading or (self._is_behind and not self._is_held_up and not is_full)

    @property
    def _is_behind(self) -> bool:
        """Whether there are, or may be, events that follow those in memory."""
        return self._on_disk > 0 or self._may_be_more

    @property
    def _is_held_up(self) -> bool:
        """Whether the events on disk have to wait for others that back off."""
        return self._queue.is_blocked or self._queue.backing_off >= BACKING_OFF_AT_MOST

    # The way in.

    def has_room(self, delivery: Delivery[Event], free: float, buffer_bytes: float) -> bool:
        """See `Backing`."""
        if (
            self._on_disk - self._to_drop + self._arriving >= free
            or self._bytes_arriving + delivery.size > buffer_bytes
        ):
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
        if self._to_drop >= self._on_disk:
            return False
        self._to_drop += 1
        self.refill()
        return True

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
        window, last = WINDOW - self._queue.waiting, self._progress.last
        room = self._policy.buffer_bytes - self._counts.bytes
        taken: dict[Delivery[Event], _Stored] = {}
        for writing in writings:
            delivery, number = writing.delivery, writing.number
            is_next = not self._is_behind and window > 0 and delivery.size <= room
            if not self._has_left and (is_next or number < last):
                taken[delivery] = _Stored(number, writing.size)
                window, room = window - 1, room - delivery.size
            else:
                self._on_disk += 1
                if delivery.receipt is not None:
                    self._receipts[number] = delivery.receipt
        if taken:
            self._put_all(taken)

    def ends_written(self, numbers: list[int]) -> None:
        """See `StoredInbox`."""
        self._store.register.release(numbers, self._subscriber)

    # From the disk into memory.

    def refill(self) -> None:
        """See `Backing`."""
        if self._has_left or not (self._queue.has_missing or self._may_read):
            return
        room = self._policy.buffer_bytes - self._counts.bytes
        page = Page(self._types, room)  # One, for all have one room.
        for lane, numbers in self._queue.missing().items():
            then = partial(self._load_lane, page, lane, numbers)
            self._store.read_numbers(self._plugin, numbers, page.take, then)
        limit = self._to_drop if room <= 0 or self._is_held_up else WINDOW
        if self._may_read and limit:
            self._is_reading = True
            then = partial(self._load, page, limit)
            self._store.read(self._plugin, self._progress.last, limit, page.take, then)

    @property
    def _may_read(self) -> bool:
        """Whether the next page may be asked for."""
        return self._is_behind and not self._is_reading

    def _load(self, page: Page, limit: int, rows: list[Row]) -> None:
        """Take in the next page."""
        self._is_reading = False
        if len(rows) > self._on_disk:  # Replayed, and not noticed yet; or the record was wrong.
            self._counts.accepted += len(rows) - self._on_disk
            self._on_disk = len(rows)
            self._store.recount(self._plugin)
        self._on_disk -= len(rows)
        if len(rows) < limit and not page.is_full:
            self._may_be_more = False
        if not rows:
            self._miss(self._on_disk)
            self._on_disk = self._to_drop = 0
        else:
            self._progress.passed(rows[-1].number)
        self._queue.sort_out()
        loaded: dict[Delivery[Event], _Stored] = {}
        has_lanes = self._queue.has_lanes
        for row in rows:
            has_to_go, self._to_drop = self._to_drop > 0, max(self._to_drop - 1, 0)
            if (found := self._unpack(row, page)) is None:
                continue
            delivery, history = found
            if has_to_go:
                self._drop(delivery, row)
            elif has_lanes or history is not FIRST:
                self._put_all(loaded)
                loaded = {}
                self._put_with_care(delivery, row, history)
                has_lanes = self._queue.has_lanes
            else:
                loaded[delivery] = _Stored(row.number, len(row.envelope) + len(row.payload))
        self._put_all(loaded)
        if self._to_drop:
            self.refill()
        self._parts.readers.wake_all()

    def _load_lane(self, page: Page, lane: Hashable, numbers: list[int], rows: list[Row]) -> None:
        """Take in the events that a lane was waiting for, or the first of them."""
        if rows and page.is_full:  # The rest is missed again when these are done.
            numbers = [number for number in numbers if number <= rows[-1].number]
        self._miss(len(numbers) - len(rows))
        for number in {*numbers} - {row.number for row in rows}:
            self._progress.end(number)
        found: list[Delivery[Any]] = []
        for row in rows:
            if (unpacked := self._unpack(row, page)) is None:
                self._progress.end(row.number)
            else:
                delivery, history = unpacked
                self._remember({delivery: _Stored(row.number, row.size)})
                self._note_history(delivery, history)
                found.append(delivery)
        self._queue.load(lane, numbers, found)
        self._parts.readers.wake()

    def _waits_on_disk(self, delivery: Delivery[Event], number: int) -> bool:
        queue = self._queue
        return queue.has_lanes and queue.hold(queue.lane_of(delivery), number)

    def _miss(self, count: int) -> None:
        """Count events no longer that are gone from the store: nobody who took them is Trivet."""
        if count:
            self._parts.log.error("events have vanished from the store", count=count)
            self._counts.accepted -= count
            self._missed += count
            self._store.recount(self._plugin)

    def _put_with_care(self, delivery: Delivery[Event], row: Row, history: History) -> None:
        """Have an event in memory that was loaded, in its lane, and with its failed attempts."""
        if row.retry_at is None:
            if self._waits_on_disk(delivery, row.number):
                self._progress.begin(row.number)
                if delivery.receipt is not None:
                    self._receipts[row.number] = delivery.receipt
                return
            self._put_all({delivery: _Stored(row.number, row.size)})
            self._note_history(delivery, history)
            return
        self._remember({delivery: _Stored(row.number, row.size)})
        self._note_history(delivery, history)
        now = trio.current_time()
        # A wall clock that was set back must not make it wait longer than was decided.
        wait = min(row.retry_at - time.time(), history.last_wait)
        self._queue.wait_again(delivery, now, now + wait)

    def _put_all(self, loaded: dict[Delivery[Event], _Stored]) -> None:
        """Have events in memory that were loaded, behind the others."""
        self._remember(loaded)
        self._queue.ready.extend(loaded)

    def _remember(self, loaded: Mapping[Delivery[Event], _Stored]) -> None:
        """Note that events are in memory."""
        self._rows.update(loaded)
        self._progress.begin_all([row.number for row in loaded.values()])
        size = sum([delivery.size for delivery in loaded])
        self._counts.bytes += size
        self._parts.memory.free -= size
        given = [delivery.given for delivery in loaded if delivery.given is not None]
        self._parts.repeats.take_in_all(given)

    def _note_history(self, delivery: Delivery[Event], history: History) -> None:
        if history is not FIRST:
            self._parts.in_flight.remember(delivery, history)

    def _unpack(self, row: Row, page: Page) -> tuple[Delivery[Any], History] | None:
        """The event and its attempts; None if it is buried: unreadable, or its readers' death."""
        receipt = self._receipts.pop(row.number, None) if self._receipts else None
        history, reason = FIRST, row.damage
        try:
            if reason is None:
                if row.history is not None or row.crashes:
                    history = unpack_history(row.history, row.crashes)
                if history.crashes < self._policy.delivery_limit:
                    attempt = history.attempts + history.crashes + 1
                    event = page.large.get(row.number) if page.large else None
                    if isinstance(event, EventDecodeError):
                        raise event
                    delivery = unpack(
                        row.envelope,
                        row.payload,
                        self._types,
                        attempt=attempt,
                        receipt=receipt,
                        size=page.sizes[row.number],
                        event=event,
                    )
                    return delivery, history
                reason = f"the process died {history.crashes} times with it in flight"
        except EventDecodeError as error:
            reason = printable(str(error))
        self._bury(row, history, reason, receipt)
        return None

    def _drop(self, delivery: Delivery[Event], row: Row) -> None:
        """End an event that was just read, to make room for another."""
        self._counts.dropped += 1
        event = delivery.given
        if event is not None and self._parts.repeats.ended(event, Fate.DROPPED, self._plugin):
            self.forget(event)
        self._store.end(self._plugin, row.number, row.size)
        delivery.settle(self._plugin, Fate.DROPPED)

    def _bury(self, row: Row, history: History, reason: str, receipt: Receipt | None) -> None:
        """Put an event of which there is no more than its row to the dead letters."""
        name, event_id, source = name_and_id(row.envelope)
        self._parts.log.error("event failed", event_type=name, event_id=event_id, error=reason)
        packed = pack_history(history)
        facts = DeadLetterFacts(name, event_id, source, time.time(), reason, packed)
        self._counts.dead_lettered += 1
        self._store.settle(Bury(self._plugin, row.number, facts, row.size), size=row.size)
        self._parts.repeats.ended((source, event_id), Fate.DEAD_LETTERED, self._plugin)
        if receipt is not None:
            receipt.settle(self._plugin, Fate.DEAD_LETTERED)

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
        if delivery.size and self._is_behind:
            self.refill()
        if fate is Fate.DEAD_LETTERED:
            facts = _facts(delivery, history, self._policy.delivery_limit)
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
        if self._is_behind and any(delivery.size for delivery in deliveries):
            self.refill()
        self._store.end_all(self._plugin, numbers, [row.size for row in rows])

    def forget(self, event: Identity) -> None:
        """See `Backing`."""
        self._store.settle(Forget(self._plugin, *event))

    # The stop.

    def plugin_given_up(self) -> bool:
        """See `Backing`."""
        self._stands_by = True
        self._excuse_all()
        return True

    def plugin_restarted(self) -> None:
        """See `Backing`."""
        self._stands_by = False

    def leave(self) -> bool:
        """See `Backing`: nothing is blamed, and nothing goes to the dead letters."""
        self._on_disk, self._to_drop = self.on_file, 0
        self._has_left = True
        self._excuse_all()
        in_flight = [self._rows[each].number for each in self._parts.in_flight]
        self._store.register.release(in_flight, self._subscriber)
        self._rows.clear()
        self._parts.memory.give_back(self._counts.bytes)
        self._counts.bytes = 0
        if self._on_disk:
            self._parts.log.info("events stay in the store", count=self._on_disk)
        return True

    def excuse(self, receipt: Receipt) -> None:
        """See `Backing`."""
        if self._has_left or self._stands_by:
            receipt.keep(self._plugin)

    def _excuse_all(self) -> None:
        in_memory = (delivery.receipt for delivery in self._rows)
        for receipt in (*in_memory, *self._receipts.values()):
            if receipt is not None:
                receipt.keep(self._plugin)
        self._parts.repeats.keep(self._plugin)

    def heed(self, policy: DeliveryPolicy) -> None:
        """See `Backing`."""
        self._policy = policy

    # The store's side.

    @property
    def on_file(self) -> int:
        """See `StoredInbox`."""
        queue = self._queue
        in_memory = queue.waiting + queue.backing_off + len(self._parts.in_flight)
        return self._on_disk + self._out_of_reach + in_memory

    @property
    def cursor(self) -> int:
        """See `StoredInbox`."""
        return self._progress.cursor

    def recover(self, subscriber: int, backlog: Backlog, seen: list[Seen]) -> None:
        """See `StoredInbox`."""
        self._subscriber = subscriber
        self._on_disk = self._counts.accepted = backlog.count
        now, wall, repeats = trio.current_time(), time.time(), self._parts.repeats
        for each in seen:
            left = min(each.until - wall, repeats.window)
            if left > 0:
                repeats.note((each.source, each.id), now + left)
        self.refill()

    def found(self, count: int) -> None:
        """See `StoredInbox`."""
        there, self._missed = min(count, self._missed), 0
        if there:  # An index has hidden them, and others behind them were read.
            self._out_of_reach += there
            self._parts.log.error("events were passed over, and come after a restart", count=there)
        if count > there:
            self._on_disk += count - there
            self._counts.accepted += count - there
            self.refill()

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
