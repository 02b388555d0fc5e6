"""The events of a durable inbox that are on disk only, and how they come into memory.

Owns how many these are, when the next page is read, and what becomes of a row that is read.
Never knows how events come in and end; an event that cannot be read has its end here.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from functools import partial
from typing import Any

import trio

from .._events._delivery import Delivery, Receipt
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import FIRST, History
from .._events._types import EventTypes
from .._faults._containment import printable
from .._faults._errors import EventDecodeError
from .._store._packing import name_and_id, pack_history, unpack, unpack_history
from .._store._pages import Page
from .._store._records import Bury, DeadLetterFacts, Forget, Row
from .._store._store import Store
from ._backing import Parts
from ._held import Held, Stored

WINDOW = 256
"""Events that are read from the store at a time, and that are in memory before any is read."""
BACKING_OFF_AT_MOST = 1000
"""Events that wait in memory to be tried again; at so many, no others are begun."""


class Beyond:
    """The events of one inbox that are on disk only.

    Args:
        parts: the inbox's.
        held: the events that are in memory.
        store: where events are stored.
        types: the event types, to read events back.
    """

    def __init__(self, parts: Parts, held: Held, store: Store, types: EventTypes) -> None:
        self._parts = parts
        self._plugin = parts.plugin
        self._queue = parts.queue
        self._counts = parts.counts
        self._held = held
        self._progress = held.progress
        self._store = store
        self._types = types
        self.count: int = 0
        """Events that follow those in memory, as far as is known."""
        self.to_drop: int = 0
        """The first of these, which are dropped when they are read."""
        self.has_left: bool = False
        """Whether the events that are there are for the next start."""
        self._may_be_more = True
        """Whether the store has not been read to its end since the start."""
        self._missed = 0
        """Events that should have been there, and were not, since the file was counted."""
        self._out_of_reach = 0
        """Events that are in the file, but were not shown when they should have been read."""
        self._is_reading = False

    @property
    def on_file(self) -> int:
        """The events that are in the file, and not in memory."""
        return self.count + self._out_of_reach

    @property
    def window(self) -> int:
        """How many events may come into memory unread, where no others are before them."""
        return WINDOW - self._queue.waiting

    @property
    def has_more(self) -> bool:
        """Whether events will come into memory without anybody's doing."""
        if self._queue.is_blocked:
            return False
        # An inbox that is full of events that back off does not wait for them; those in flight end.
        parts = self._parts
        is_full = self._counts.bytes >= parts.policy.buffer_bytes and not len(parts.in_flight)
        return self._is_reading or (self.is_behind and not self._is_held_up and not is_full)

    @property
    def is_behind(self) -> bool:
        """Whether there are, or may be, events that follow those in memory."""
        return self.count > 0 or self._may_be_more

    @property
    def _is_held_up(self) -> bool:
        """Whether the events on disk have to wait for others that back off."""
        return self._queue.is_blocked or self._queue.backing_off >= BACKING_OFF_AT_MOST

    def drop_oldest(self) -> bool:
        """Drop the oldest of them, soon; says whether there is one."""
        if self.to_drop >= self.count:
            return False
        self.to_drop += 1
        self.refill()
        return True

    def leave(self) -> None:
        """Read nothing any more."""
        self.to_drop = 0
        self.has_left = True

    def found(self, count: int) -> None:
        """Note that the file has so many events more than were known."""
        there, self._missed = min(count, self._missed), 0
        if there:  # An index has hidden them, and others behind them were read.
            self._out_of_reach += there
            self._parts.log.error("events were passed over, and come after a restart", count=there)
        if count > there:
            self.count += count - there
            self._counts.accepted += count - there
            self.refill()

    # From the disk into memory.

    def refill(self) -> None:
        """Read more, if there is more and memory has room."""
        if self.has_left or not (self._queue.has_missing or self._may_read):
            return
        room = self._parts.policy.buffer_bytes - self._counts.bytes
        page = Page(self._types, room)  # One, for all have one room.
        for lane, numbers in self._queue.missing().items():
            then = partial(self._load_lane, page, lane, numbers)
            self._store.read_numbers(self._plugin, numbers, page.take, then)
        limit = self.to_drop if room <= 0 or self._is_held_up else WINDOW
        if self._may_read and limit:
            self._is_reading = True
            then = partial(self._load, page, limit)
            self._store.read(self._plugin, self._progress.last, limit, page.take, then)

    @property
    def _may_read(self) -> bool:
        """Whether the next page may be asked for."""
        return self.is_behind and not self._is_reading

    def _load(self, page: Page, limit: int, rows: list[Row]) -> None:
        """Take in the next page."""
        self._is_reading = False
        if self.has_left:
            return
        if len(rows) > self.count:  # Replayed, and not noticed yet; or the record was wrong.
            self._counts.accepted += len(rows) - self.count
            self.count = len(rows)
            self._store.recount(self._plugin)
        self.count -= len(rows)
        if len(rows) < limit and not page.is_full:
            self._may_be_more = False
        if not rows:
            self._miss(self.count)
            self.count = self.to_drop = 0
        else:
            self._progress.passed(rows[-1].number)
        self._queue.sort_out()
        loaded: dict[Delivery[Event], Stored] = {}
        has_lanes = self._queue.has_lanes
        for row in rows:
            has_to_go, self.to_drop = self.to_drop > 0, max(self.to_drop - 1, 0)
            if (found := self._unpack(row, page)) is None:
                continue
            delivery, history = found
            if has_to_go:
                self._drop(delivery, row)
            elif has_lanes or history is not FIRST:
                self._held.put_all(loaded)
                loaded = {}
                self._put_with_care(delivery, row, history)
                has_lanes = self._queue.has_lanes
            else:
                loaded[delivery] = Stored(row.number, len(row.envelope) + len(row.payload))
        self._held.put_all(loaded)
        if self.to_drop:
            self.refill()
        self._parts.readers.wake_all()

    def _load_lane(self, page: Page, lane: Hashable, numbers: list[int], rows: list[Row]) -> None:
        """Take in the events that a lane was waiting for, or the first of them."""
        if self.has_left:
            return
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
                self._held.remember({delivery: Stored(row.number, row.size)})
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
                self._held.leave_on_disk(row.number, delivery.receipt)
                return
            self._held.put_all({delivery: Stored(row.number, row.size)})
            self._note_history(delivery, history)
            return
        self._held.remember({delivery: Stored(row.number, row.size)})
        self._note_history(delivery, history)
        now = trio.current_time()
        # A wall clock that was set back must not make it wait longer than was decided.
        wait = min(row.retry_at - time.time(), history.last_wait)
        self._queue.wait_again(delivery, now, now + wait)

    def _note_history(self, delivery: Delivery[Event], history: History) -> None:
        if history is not FIRST:
            self._parts.in_flight.remember(delivery, history)

    def _unpack(self, row: Row, page: Page) -> tuple[Delivery[Any], History] | None:
        """The event and its attempts; None if it is buried: unreadable, or its readers' death."""
        receipt = self._held.receipts.pop(row.number, None) if self._held.receipts else None
        history, reason = FIRST, row.damage
        try:
            if reason is None:
                if row.history is not None or row.crashes:
                    history = unpack_history(row.history, row.crashes)
                if history.crashes < self._parts.policy.delivery_limit:
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
            self._store.settle(Forget(self._plugin, *event))
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
