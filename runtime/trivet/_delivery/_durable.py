"""The durable inbox: what it has accepted is in the store until it has ended.

Owns what of the store is in memory, and what is written when.
Never knows how the store writes; its rules about room, order and ends are the memory inbox's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable
from functools import partial
from typing import Any

import attrs
import trio

from .._events._delivery import Delivery, Receipt
from .._events._delivery_settings import DeliveryPolicy
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import FIRST, History
from .._events._outcome import Refusal
from .._events._types import EventTypes
from .._faults._containment import printable
from .._faults._errors import EventDecodeError, EventEncodeError
from .._inbox._inbox import InboxStatistics
from .._store._packing import Packed, name_and_id, pack, pack_history, unpack, unpack_history
from .._store._pages import Content, Page
from .._store._records import (
    Backlog,
    Bury,
    DeadLetterFacts,
    Delete,
    Forget,
    JournalError,
    Row,
    Seen,
    Update,
)
from .._store._store import Store
from ._memory import Admission, MemoryInbox
from ._repeats import Identity, identity

WINDOW = 256
"""Events that are read from the store at a time, and that are in memory before any is read."""
BACKING_OFF_AT_MOST = 1000
"""Events that wait in memory to be tried again; at so many, no others are begun."""


@attrs.define
class _Place:
    """Where an event that is in memory is in the store."""

    number: int
    size: int


class DurableInbox(MemoryInbox):
    """See `Inbox`. Its events outlive the plugin's end, and the process.

    What was accepted is stored before its publisher is told. In memory is what is in flight, what
    waits to be tried again, and the next page of what is queued.

    Args:
        plugin: the subscriber's name.
        policy: what was decided for it.
        store: where events are stored.
        types: the event types, to read events back.
        in_batches: whether it takes events in batches.
    """

    def __init__(
        self,
        plugin: str,
        policy: DeliveryPolicy,
        store: Store,
        types: EventTypes,
        *,
        in_batches: bool = False,
    ) -> None:
        super().__init__(plugin, policy, in_batches=in_batches)
        self.is_plain = self._may_be_plain = False  # There is the store to mind.
        self._store = store
        self._types = types
        self._places: dict[Delivery[Event], _Place] = {}
        self._on_disk = 0
        """Events that are in the store only, and follow those in memory."""
        self._last_loaded = 0
        """The highest number that is, or has been, in memory."""
        self._is_reading = False
        self._being_stored = 0
        self._bytes_being_stored = 0
        """What the events from outside take that are being stored."""
        self._twins: dict[Identity, list[Admission]] = {}
        """By what is being stored, the publishers of its repetitions."""
        self._receipts: dict[int, Receipt] = {}
        """Of publishers that wait for events that are not in memory."""
        self._packed: tuple[Delivery[Event], Packed] | None = None
        self._packed_waiting: dict[Delivery[Event], Packed] = {}
        """Of those that wait for room."""
        self._is_out = False
        """Whether the plugin was given up: what comes waits for an operator."""
        self._is_left = False
        """Whether what is there is for the next start."""
        store.add(plugin, self)

    # The publisher's side.

    @property
    def room(self) -> float:
        """See `MemoryInbox`; none where the store is about to be full."""
        return 0 if self._store.is_near_limit else super().room

    @property
    def room_bytes(self) -> float:
        """See `MemoryInbox`; what has been stored may wait on disk."""
        return 0 if self._waiting else self.buffer_bytes - self._bytes_being_stored

    @property
    def _taken(self) -> int:
        return super()._taken + self._on_disk + self._being_stored

    def _can_make_room(self, delivery: Delivery[Event]) -> bool:
        return self._bytes_being_stored + delivery.size <= self.buffer_bytes

    def _has_room(self, delivery: Delivery[Event]) -> bool:
        if self._taken >= self.buffer or not self._can_make_room(delivery):
            return False
        return self._store.has_room(self._pack(delivery).size)

    def _pack(self, delivery: Delivery[Event]) -> Packed:
        """The event's bytes, which are asked for more than once."""
        if self._packed is None or self._packed[0] is not delivery:
            self._packed = delivery, self._packed_waiting.get(delivery) or pack(delivery)
        return self._packed[1]

    @trio.lowlevel.disable_ki_protection
    def _unstorable(self, delivery: Delivery[Event]) -> Refusal | None:
        """Why the event can never be stored so that it comes back as it is."""
        try:
            packed = self._pack(delivery)
            if packed.size <= self._store.largest:
                if delivery.written is None:  # Else it has been read back.
                    self._types.decode(type(delivery.event), packed.payload)
                return None
        except (EventEncodeError, EventDecodeError) as error:
            return Refusal(error.reason, error.path)
        reason = f"{packed.size} bytes, and the store takes none above {self._store.largest}"
        return Refusal(reason, is_too_large=True)

    @trio.lowlevel.enable_ki_protection
    def offer(self, delivery: Delivery[Event]) -> Fate | Refusal | Admission | None:
        """See `MemoryInbox`."""
        # First of all: whoever lets it in later is not the one whose fault it is.
        if (why := self._unstorable(delivery)) is not None:
            return self._turn_away(delivery, why)
        return super().offer(delivery)

    @trio.lowlevel.enable_ki_protection
    def queue_up(self, delivery: Delivery[Event]) -> Admission:
        """See `MemoryInbox`."""
        self._packed_waiting[delivery] = self._pack(delivery)
        return super().queue_up(delivery)

    @trio.lowlevel.enable_ki_protection
    def withdraw(self, admission: Admission) -> None:
        """See `MemoryInbox`."""
        self._packed_waiting.pop(admission.delivery, None)
        super().withdraw(admission)

    def _known(
        self, delivery: Delivery[Event], admission: Admission | None = None
    ) -> Fate | Admission | None:
        event = identity(delivery)
        if event not in self._twins:
            known = super()._known(delivery, admission)
            self._keep_receipt(delivery)
            return known
        admission = admission or Admission(delivery)
        admission.has_room = True
        self._twins[event].append(admission)
        return admission

    def _take_in(
        self, delivery: Delivery[Event], admission: Admission | None = None
    ) -> Fate | Admission:
        admission = admission or Admission(delivery)
        admission.has_room = True
        packed, number = self._pack(delivery), self._store.next_number()
        seen, event = None, identity(delivery)
        if event is not None and self._repeats.window:
            self._twins[event] = []
            seen = Seen(*event, time.time() + self._repeats.window)
        row = Row(self._plugin, number, packed.envelope, packed.payload)
        self._being_stored += 1
        self._bytes_being_stored += delivery.size
        self._packed = None
        self._packed_waiting.pop(delivery, None)
        self._store.append(row, seen, partial(self._stored, admission, _Place(number, row.size)))
        return admission

    def _stored(self, admission: Admission, place: _Place, error: JournalError | None) -> None:
        """An event has been written, or cannot be."""
        delivery, event = admission.delivery, identity(admission.delivery)
        self._being_stored -= 1
        self._bytes_being_stored -= delivery.size
        if delivery.size and self._waiting:
            self._admit()
        twins = [] if event is None else self._twins.pop(event, [])
        if error is not None:
            for refused in (admission, *twins):
                refused.decide(self._refuse(refused.delivery))
            return
        if event is not None and self._repeats.window:
            self._repeats.take_in(event)
        self.accepted += 1
        delivery.settle(self._plugin, Fate.QUEUED)
        fits = self._queue.waiting < WINDOW and self._bytes + delivery.size <= self.buffer_bytes
        is_next = fits and not self._on_disk
        if not self._is_left and (is_next or place.number < self._last_loaded):
            self._put(delivery, place)
        else:
            self._on_disk += 1
            if delivery.receipt is not None:
                self._receipts[place.number] = delivery.receipt
        self.wake()
        admission.decide(Fate.QUEUED)
        self._keep_receipt(delivery)
        for twin in twins:
            self._known(twin.delivery, twin)

    # The plugin's side.

    @trio.lowlevel.enable_ki_protection
    def take(self) -> Delivery[Event] | None:
        """See `Inbox`."""
        if self._store.is_clogged:
            self.is_read = True
            return None
        try:
            return super().take()
        finally:
            if self._queue.has_missing:
                self._refill()

    @property
    def _next_return(self) -> float:
        return math.inf if self._store.is_clogged else super()._next_return

    def _refill(self) -> None:
        page = Page(self._types, self.buffer_bytes - self._bytes)  # One, for all have one room.
        for lane, numbers in self._queue.missing().items():
            then = partial(self._load_lane, page, lane, numbers)
            self._store.read_numbers(self._plugin, numbers, page.take, then)
        has_room = self._bytes < self.buffer_bytes and not self._is_held_up
        if self._on_disk and has_room and not self._is_reading:
            self._is_reading = True
            then = partial(self._load, page)
            self._store.read(self._plugin, self._last_loaded, WINDOW, page.take, then)

    @property
    def _is_held_up(self) -> bool:
        """Whether what is on disk has to wait for what is to be tried again."""
        return self._queue.is_blocked or self._queue.backing_off >= BACKING_OFF_AT_MOST

    def _load(self, page: Page, rows: list[Row]) -> None:
        """The next page is here."""
        self._is_reading = False
        if len(rows) > self._on_disk:  # Replayed, and not noticed yet.
            self.accepted += len(rows) - self._on_disk
            self._on_disk = len(rows)
        self._on_disk -= len(rows)
        if not rows and self._on_disk:  # Who took them does not know Trivet.
            self._log.error("events have vanished from the store", count=self._on_disk)
            self.accepted -= self._on_disk
            self._on_disk = 0
        self._queue.sort_out()
        for row in rows:
            self._last_loaded = max(self._last_loaded, row.number)
            if (found := self._unpack(row, page.content(row))) is None:
                continue
            delivery, history = found
            if row.retry_at is None and self._queue.hold(self._queue.lane_of(delivery), row.number):
                if delivery.receipt is not None:
                    self._receipts[row.number] = delivery.receipt
                continue
            self._put(delivery, _Place(row.number, row.size), history, row.retry_at)
        self._wake_all()

    def _load_lane(self, page: Page, lane: Hashable, numbers: list[int], rows: list[Row]) -> None:
        """The events of a lane that were missing have been read, or the first of them."""
        if rows and page.is_full:  # The rest is missed again when these are done.
            numbers = [number for number in numbers if number <= rows[-1].number]
        found: list[Delivery[Any]] = []
        for row in rows:
            if (unpacked := self._unpack(row, page.content(row))) is not None:
                delivery, history = unpacked
                self._remember(delivery, _Place(row.number, row.size), history)
                found.append(delivery)
        self._queue.load(lane, numbers, found)
        self.wake()

    def _put(
        self,
        delivery: Delivery[Event],
        place: _Place,
        history: History | None = None,
        retry_at: float | None = None,
    ) -> None:
        """Have an event in memory, behind the others; one that was loaded has a history."""
        self._last_loaded = max(self._last_loaded, place.number)
        self._remember(delivery, place, history)
        now = trio.current_time()
        if history is None or retry_at is None:
            self._queue.ready.append(delivery)
            return
        # A wall clock that was set back must not make it wait longer than was decided.
        wait = min(retry_at - time.time(), history.last_wait)
        self._queue.wait_again(delivery, now, now + wait)

    def _remember(self, delivery: Delivery[Event], place: _Place, history: History | None) -> None:
        self._places[delivery] = place
        self._bytes += delivery.size
        if history is None:
            return
        if (event := identity(delivery)) is not None:
            self._repeats.revive(event)
        if history != FIRST:
            self._histories[delivery] = history

    def _unpack(self, row: Row, content: Content) -> tuple[Delivery[Any], History] | None:
        """The event and its attempts; what cannot be read, or kills its reader, is buried."""
        receipt, history, reason = self._receipts.pop(row.number, None), FIRST, row.damage
        try:
            if reason is None:
                history = unpack_history(row.history, row.crashes)
                if history.crashes < self.policy.delivery_limit:
                    attempt = history.attempts + history.crashes + 1
                    if isinstance(content.event, EventDecodeError):
                        raise content.event
                    delivery = unpack(
                        row.envelope,
                        row.payload,
                        self._types,
                        attempt=attempt,
                        receipt=receipt,
                        size=content.size,
                        event=content.event,
                    )
                    return delivery, history
                reason = f"the process died {history.crashes} times with it in flight"
        except EventDecodeError as error:
            reason = printable(str(error))
        self._bury(row, history, reason, receipt)
        return None

    def _bury(self, row: Row, history: History, reason: str, receipt: Receipt | None) -> None:
        """Put an event of which there is no more than its row to the dead letters."""
        name, event_id, source = name_and_id(row.envelope)
        self._log.error("event failed", event_type=name, event_id=event_id, error=reason)
        packed = pack_history(history)
        facts = DeadLetterFacts(name, event_id, source, time.time(), reason, packed)
        self._counts[Fate.DEAD_LETTERED] += 1
        self._store.settle(Bury(self._plugin, row.number, facts), size=row.size)
        self._repeats.ended((source, event_id), Fate.DEAD_LETTERED, self._plugin)
        if receipt is not None:
            receipt.settle(self._plugin, Fate.DEAD_LETTERED)

    @property
    def _is_drained(self) -> bool:
        if self._store.is_clogged:
            return False
        if self._queue.is_blocked:
            return True
        # Who is full of what backs off does not wait for that; what is in flight ends.
        is_full = self._bytes >= self.buffer_bytes and not self._in_flight
        is_more = self._is_reading or (self._on_disk and not self._is_held_up and not is_full)
        return super()._is_drained and not is_more

    def statistics(self) -> InboxStatistics:
        """See `Inbox`."""
        statistics = super().statistics()
        return attrs.evolve(statistics, queued=statistics.queued + self._on_disk)

    def _hand_out(self, delivery: Delivery[Event]) -> None:
        self._store.register.take(self._places[delivery].number)
        super()._hand_out(delivery)

    def _again(
        self, delivery: Delivery[Event], history: History, *, wait: float = 0.0
    ) -> Delivery[Event]:
        again = super()._again(delivery, history, wait=wait)
        place = self._places[again] = self._places.pop(delivery)
        retry_at = time.time() + wait if wait else None
        update = Update(self._plugin, place.number, pack_history(history), retry_at)
        self._store.settle(update)
        self._store.register.release([place.number])
        return again

    def _returned(self, delivery: Delivery[Event], *, crashed: bool) -> Delivery[Event] | None:
        if not crashed:
            self._store.register.release([self._places[delivery].number])
        return super()._returned(delivery, crashed=crashed)

    def _spares(self, history: History) -> bool:
        return self._closed  # A stop sends nothing to the dead letters.

    def _give_up(self, delivery: Delivery[Event], history: History) -> Fate:
        if history.crashes >= self.policy.delivery_limit:
            reason = f"run() crashed {history.crashes} times with it in flight"
        else:
            reason = history.failures[-1].error
        facts = DeadLetterFacts(
            delivery.event.__event_name__,
            delivery.id,
            delivery.source,
            time.time(),
            reason,
            pack_history(history),
        )
        self._store.settle(Bury(self._plugin, self._places[delivery].number, facts))
        return Fate.DEAD_LETTERED

    def _end(self, delivery: Delivery[Event], fate: Fate) -> None:
        place = self._places.pop(delivery)
        if fate is Fate.HANDLED:
            self._store.register.done(place.number)
        else:  # If that is not written, it comes again, and ends again.
            self._store.register.release([place.number])
        if fate is not Fate.DEAD_LETTERED:
            self._store.settle(Delete(self._plugin, place.number))
        super()._end(delivery, fate)
        self._store.release(place.size)

    def _bytes_freed(self) -> None:
        if self._on_disk and not self._is_left:
            self._refill()

    def _forget(self, event: Identity) -> None:
        self._store.settle(Forget(self._plugin, *event))

    # The supervisor's side.

    @trio.lowlevel.enable_ki_protection
    def abandon(self) -> None:
        """At a stop: leave what is there to the next start, unblamed.

        Where the plugin was given up, the inbox goes on taking events in, for when an operator
        restarts it; nobody is to wait for that.
        """
        if not self._closed:
            self._is_out = True
            self._keep_receipts()
            return
        on_file, in_flight = self.on_file, list(self._in_flight)
        for delivery in in_flight:
            self._returned(delivery, crashed=False)
        self._is_left = True
        self._keep_receipts()
        for delivery in (*in_flight, *self._queue.clear()):
            delivery.settle(self._plugin, Fate.QUEUED)
        self._places.clear()
        self._bytes = 0
        self._on_disk = on_file
        if self._on_disk:
            self._log.info("events stay in the store", count=self._on_disk)

    def reopen(self) -> None:
        """See `MemoryInbox`."""
        super().reopen()
        self._is_out = False

    def _keep_receipt(self, delivery: Delivery[Event]) -> None:
        """Let nobody wait for what becomes of this event, if nothing will for now."""
        if (self._is_left or self._is_out) and delivery.receipt is not None:
            delivery.receipt.keep(self._plugin)

    def _keep_receipts(self) -> None:
        """Let nobody wait for what becomes of the events that are here."""
        in_memory = (delivery.receipt for delivery in self._places)
        for receipt in (*in_memory, *self._receipts.values()):
            if receipt is not None:
                receipt.keep(self._plugin)
        self._repeats.keep(self._plugin)

    # The store's side.

    @property
    def on_file(self) -> int:
        """See `StoredInbox`."""
        in_memory = self._queue.waiting + self._queue.backing_off + len(self._in_flight)
        return self._on_disk + in_memory

    def recover(self, backlog: Backlog, seen: list[Seen]) -> None:
        """See `StoredInbox`."""
        self._on_disk = self.accepted = backlog.count
        now, wall = trio.current_time(), time.time()
        for each in seen:
            left = min(each.until - wall, self._repeats.window)
            if left > 0:
                self._repeats.note((each.source, each.id), now + left)
        self._refill()

    def found(self, count: int) -> None:
        """See `StoredInbox`."""
        self._on_disk += count
        self.accepted += count
        self._refill()

    def room_made(self) -> None:
        """See `StoredInbox`."""
        if self._waiting and not self._is_making_room:
            self._admit()

    def resume(self) -> None:
        """See `StoredInbox`."""
        self._wake_all()
