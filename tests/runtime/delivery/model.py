"""The durable inboxes of several processes, one after the other, and books that must agree.

Owns random programs of publishers, readers, failures, crashes, kills, stops and an operator, and
what the books foresee of each. Never knows how an inbox keeps its events: it looks at outcomes,
receipts, statistics, and at the file as an operator could.

A process that is killed leaves what a copy of its files has at that instant, which is just what
the system keeps of a process that is gone. All processes of a program live on one clock, which is
moved by hand, and the calendar follows it.
"""

from __future__ import annotations

import logging
import math
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
import msgspec
import structlog
import trio
from hypothesis import strategies as st
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Delivery, Event, Fate, Outcome, PermanentError, RetryAfter, StoreSettings
from trivet._delivery import _beyond, _on_disk, _queue
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._bus import Bus, Subscription
from trivet._delivery._on_disk import OnDisk
from trivet._events._delivery import Receipt
from trivet._events._delivery_settings import PARTITION_KEY, DeliveryPolicy
from trivet._events._history import FIRST, History
from trivet._events._types import EventTypes
from trivet._store import _ballast, _dead_letters, _journal, _register, _store
from trivet._store import _packing as _stored
from trivet._store._dead_letters import Criteria, DeadLetters
from trivet._store._records import DeadLetter
from trivet._store._store import Store

from .driver import EXPIRED, HANDLED, WAITING, Driver, End, Numbered, Ping, Pong, Reader, number_of

TYPES: tuple[type[Numbered], ...] = (Ping, Pong)

ALIVE = (*WAITING, Fate.IN_FLIGHT)
FOLLOWS = {
    Fate.QUEUED: {Fate.IN_FLIGHT, Fate.QUEUED, Fate.DROPPED, Fate.EXPIRED},
    Fate.IN_FLIGHT: {Fate.QUEUED, Fate.BACKING_OFF, Fate.HANDLED, Fate.DEAD_LETTERED, Fate.EXPIRED},
    Fate.BACKING_OFF: {Fate.IN_FLIGHT, Fate.QUEUED, Fate.DROPPED, Fate.EXPIRED},
}
"""The fates that may follow one another. Queued is said again of events that a stop leaves."""
EPOCH = 1.75e9
"""The time of the calendar when the clock begins."""
NEARLY = 1e-3
"""Seconds that the calendar, with its large numbers, may be wrong by."""
FOUND_AFTER = 1.0
"""Seconds after which what an operator has replayed is known to its inbox."""


class Calendar:
    """The calendar, which modules have instead of `time`."""

    def time(self) -> float:
        return EPOCH + trio.current_time()

    def monotonic(self) -> float:
        return trio.current_time()


@attrs.define(eq=False)
class Entry:
    """The entry in the books for one event at one subscriber."""

    number: int
    lane: str
    """Its key; where it has none, its id, which repetitions have too."""
    identity: str
    deadline: float
    fate: Fate
    home: Process | None
    """The process that let it in; None where it was replayed."""
    place: int
    """Its place in the order of acceptance."""
    replayed_at: float = math.nan
    hidden: bool = False
    """Whether the inbox need not know the entry yet."""
    doomed: bool = False
    """Whether the entry has killed too often, and goes to the dead letters when it is read."""
    is_purged: bool = False
    failures: int = 0
    crashes: int = 0
    spent: float = 0.0
    taken_at: float = math.nan
    due: float = -math.inf

    @property
    def is_replayed(self) -> bool:
        return not math.isnan(self.replayed_at)

    def comes_after(self, other: Entry) -> bool:
        """Whether their order is promised, and this one is the later."""
        return self.is_replayed == other.is_replayed and self.place > other.place


@attrs.frozen(kw_only=True)
class Listener:
    """A subscriber, as the program describes it."""

    name: str
    types: tuple[type[Numbered], ...]
    policy: DeliveryPolicy
    filters: bool
    overlaps: bool
    """Whether readers may have several events at once, where those have one order."""


@attrs.define(eq=False)
class Subscriber:
    """The test's own knowledge of a subscriber, and its inbox in the present process."""

    like: Listener
    inbox: BoundedInbox = attrs.field(init=False)
    entries: dict[int, Entry] = attrs.field(factory=dict[int, Entry])
    latest: dict[str, Entry] = attrs.field(factory=dict[str, Entry])
    """The last one that was let in of each id."""
    readers: list[Reader] = attrs.field(factory=list[Reader])
    in_flight: list[Delivery[Event]] = attrs.field(factory=list[Delivery[Event]])
    pending: dict[int, Published] = attrs.field(factory=dict[int, "Published"])
    """Offered, and not decided about."""
    followers: dict[int, tuple[Entry, Fate, Process]] = attrs.field(
        factory=dict[int, "tuple[Entry, Fate, Process]"]
    )
    """Repetitions of what was alive, and what was said of them last."""
    told: Counter[Fate] = attrs.field(factory=Counter[Fate])
    """Ends that were said in this process."""
    expects: dict[int, Fate] = attrs.field(factory=dict[int, Fate])
    """The ends that are foreseen of events that are being ended."""
    stopped: bool = False

    @property
    def name(self) -> str:
        return self.like.name

    @property
    def policy(self) -> DeliveryPolicy:
        return self.like.policy

    @property
    def alive(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.fate in ALIVE]

    @property
    def waiting(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.fate in WAITING]

    @property
    def is_one_lane(self) -> bool:
        return self.policy.ordering_key is None and self.policy.concurrency == 1

    def before(self, entry: Entry) -> list[Entry]:
        """The events that have to end before this one can be handed out."""
        earlier = [it for it in self.alive if entry.comes_after(it) and not it.doomed]
        if self.is_one_lane and not self.like.overlaps:
            return earlier
        if self.policy.ordering_key is None:
            return []
        return [it for it in earlier if it.lane == entry.lane]

    def is_held(self, entry: Entry, now: float) -> bool:
        """Whether there is a reason that nobody has been handed this one."""
        if entry.hidden or entry.doomed or entry.due > now:
            return True
        if self.is_one_lane:
            return any(it.due > now for it in self.alive)
        if self.policy.ordering_key is None:
            return False
        return any(
            it is not entry
            and it.lane == entry.lane
            and (it.fate is Fate.IN_FLIGHT or it.due > now)
            for it in self.alive
        )


class Record(Receipt):
    """A receipt whose words go to the books, as long as its process lives."""

    def __init__(self, process: Process, number: int) -> None:
        super().__init__()
        self.first: dict[str, Fate] = {}
        self._process = process
        self._number = number

    def settle(self, subscriber: str, fate: Fate) -> None:
        if not self._process.is_dead:
            self.first.setdefault(subscriber, fate)
            self._process.hear(subscriber, self._number, fate)
        super().settle(subscriber, fate)


@attrs.define(eq=False)
class Published:
    """One event that is, or was, offered to its subscribers."""

    delivery: Delivery[Event]
    record: Record


@attrs.define(eq=False)
class Publisher:
    """One task that publishes one event, or several at once."""

    events: list[Published]
    waits: bool
    ended: bool = False
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class WatchedStore(Store):
    """A store of which the test knows when it has committed, and what it still has to write."""

    committed: Callable[[], None] | None = None

    def _do(self, group: Any) -> None:
        super()._do(group)
        if self.committed is not None:
            self.committed()

    @property
    def has_settled(self) -> bool:
        """Whether all ends are in the file."""
        return not self._unwritten


class Process:
    """One process: a store, the inboxes on it, and the tasks that use them."""

    def __init__(self, world: World, path: Path) -> None:
        self.world = world
        self.path = path
        self.is_dead = False
        self.has_stopped = False
        self.is_blameless = False
        self.is_exact = True
        """Whether all that is in the books was in the file at the end."""
        self.publishers: list[Publisher] = []
        settings = StoreSettings(path=path, synchronous="normal", max_bytes=world.max_bytes)
        event_types = EventTypes([*TYPES])
        self.store = WatchedStore(settings, event_types, in_loop=True)
        subscriptions: list[Subscription] = []
        for one in world.subscribers.values():
            on_disk = partial(OnDisk, store=self.store, types=event_types)
            one.inbox = BoundedInbox(one.name, one.policy, backing=on_disk)
            if one.like.filters:
                one.inbox.admission.wants = lambda event: (
                    isinstance(event, Numbered) and event.wanted
                )
            one.stopped = False
            subscriptions += [
                Subscription(one.name, event, one.inbox, one.policy) for event in one.like.types
            ]
        self.bus = Bus(subscriptions)
        self.nursery: trio.Nursery

    def hear(self, name: str, number: int, fate: Fate) -> None:
        """A subscriber says what has become of an event: possible, and as it had to be?"""
        one = self.world.subscribers[name]
        if number in one.followers:
            original, said, _ = one.followers[number]
            assert said is Fate.QUEUED
            assert not fate.alive
            one.followers[number] = original, fate, self
        elif number in one.entries:
            entry = one.entries[number]
            assert fate in FOLLOWS.get(entry.fate, ())
            assert one.expects.get(number, fate) is fate
            self._check_reason(one, entry, fate)
            entry.fate = fate
            if not fate.alive:
                one.told[fate] += 1
        else:
            self._hear_first(one, number, fate)

    def _hear_first(self, one: Subscriber, number: int, fate: Fate) -> None:
        assert number in one.pending  # Nothing becomes of an event that was refused.
        delivery, policy = one.pending.pop(number).delivery, one.policy
        said = policy.overflow, policy.on_full
        latest = one.latest.get(delivery.id) if policy.deduplicate_for else None
        follows = latest is not None and latest.fate in ALIVE
        assert isinstance(delivery.event, Numbered)
        unwanted = one.like.filters and not delivery.event.wanted
        assert (fate is Fate.FILTERED) == (unwanted and not one.stopped)
        if fate is Fate.QUEUED and follows:
            assert latest is not None
            one.followers[number] = latest, fate, self
            one.told[Fate.DUPLICATE] += 1
        elif fate is Fate.QUEUED:
            assert latest is None or latest.fate in (Fate.EXPIRED, Fate.DROPPED)
            one.entries[number] = one.latest[delivery.id] = Entry(
                number=number,
                lane=lane_of(delivery),
                identity=delivery.id,
                deadline=delivery.deadline,
                fate=fate,
                home=self,
                place=next(self.world.places),
            )
        elif fate is Fate.DUPLICATE:
            assert latest is not None
            assert latest.fate in (*ALIVE, Fate.HANDLED, Fate.DEAD_LETTERED)
            one.told[fate] += 1
        else:
            one.told[fate] += 1
            assert fate in (Fate.FILTERED, Fate.REJECTED, Fate.DROPPED)
            if fate is Fate.REJECTED:
                assert one.stopped or not {"reject", "drop_oldest"}.isdisjoint(said)
            if fate is Fate.DROPPED:
                assert "drop_newest" in said
            if fate is not Fate.FILTERED and not one.stopped:
                full = len(one.waiting) + len(one.pending) >= (policy.buffer or math.inf)
                assert full or self.world.max_bytes < 10_000

    def _check_reason(self, one: Subscriber, entry: Entry, fate: Fate) -> None:
        now = trio.current_time()
        if fate is Fate.DROPPED:
            assert "drop_oldest" in (one.policy.overflow, one.policy.on_full)
        elif fate is Fate.EXPIRED:
            assert entry.number in one.expects or entry.deadline <= now + NEARLY
        elif fate is Fate.IN_FLIGHT:
            assert entry.deadline > now - NEARLY
            assert not entry.doomed
            assert entry.due <= now + NEARLY
            assert one.before(entry) == []
            if one.is_one_lane:  # Nothing overtakes what backs off.
                backing_off = [it for it in one.alive if it.fate is Fate.BACKING_OFF]
                assert all(it.due <= now + NEARLY for it in backing_off)
            entry.hidden = False
            entry.taken_at, entry.due = now, -math.inf

    # What the tasks do

    async def publish(self, publisher: Publisher) -> None:
        with publisher.scope:
            outcomes = await self.bus.publish([event.delivery for event in publisher.events])
            for event, outcome in zip(publisher.events, outcomes, strict=True):
                self._check_outcome(event, outcome)
            if publisher.waits:
                for event in publisher.events:
                    await event.record.ended()
        publisher.ended = True

    def _check_outcome(self, event: Published, outcome: Outcome) -> None:
        if not self.is_dead:
            told = dict(event.record.first)
            for name in told:
                one = self.world.subscribers[name]
                if number_of(event.delivery) in one.followers:
                    told[name] = Fate.DUPLICATE
            assert outcome.fates == told
            assert told.keys() == {one.name for one in self.world.listening(event.delivery)}

    async def read(self, one: Subscriber, reader: Reader) -> None:
        try:
            with reader.scope:
                self.took(one, await one.inbox.receive())
        except trio.EndOfChannel:
            assert one.stopped
        finally:
            one.readers.remove(reader)
            reader.ended.set()

    def took(self, one: Subscriber, delivery: Delivery[Event]) -> None:
        if not self.is_dead:
            entry = one.entries[number_of(delivery)]
            assert entry.fate is Fate.IN_FLIGHT
            assert delivery.attempt == entry.failures + entry.crashes + 1
            one.in_flight.append(delivery)

    # What is checked

    def check_instant(self) -> None:
        """At every instant, between any two steps of the program."""
        for one in self.world.subscribers.values():
            statistics = one.inbox.statistics()
            counts = attrs.asdict(statistics)
            assert min(counts.values()) >= 0
            accepted, rejected = counts.pop("accepted"), counts.pop("rejected")
            assert counts.pop("unacceptable") == 0
            del counts["bytes"]
            del counts["retried"], counts["timed_out"]
            assert accepted == sum(counts.values())
            if self.has_stopped:
                continue
            assert rejected == one.told[Fate.REJECTED]
            waiting = one.waiting
            unsure = sum(entry.hidden or entry.doomed for entry in waiting)
            stats_waiting = statistics.queued + statistics.backing_off
            assert len(waiting) - unsure <= stats_waiting <= len(waiting)
            assert statistics.in_flight == len(one.alive) - len(waiting)
            for fate in (Fate.HANDLED, Fate.EXPIRED, Fate.DROPPED, Fate.FILTERED, Fate.DUPLICATE):
                assert counts[fate.value] == one.told[fate]
            doomed = sum(entry.doomed for entry in one.entries.values())
            buried = statistics.dead_lettered - one.told[Fate.DEAD_LETTERED]
            assert 0 <= buried <= doomed
            assert statistics.failed == statistics.abandoned == 0
            for original, said, where in one.followers.values():
                if where is self:
                    good = original.fate is Fate.HANDLED
                    end = Fate.DUPLICATE if good else original.fate
                    assert said is (Fate.QUEUED if original.fate in ALIVE else end)

    def check_quiet(self) -> None:
        """Check that every task waits for a reason, when all of them wait."""
        self.check_instant()
        now = trio.current_time()
        for one in self.world.subscribers.values():
            for entry in one.waiting:
                # The store looks for it when it is not about to write what has ended.
                if entry.replayed_at + FOUND_AFTER <= now and self.store.has_settled:
                    entry.hidden = False
            backing_off = sum(entry.due > now for entry in one.waiting)
            if one.readers and not one.stopped and backing_off < _beyond.BACKING_OFF_AT_MOST:
                # Events in flight or backing off may take all the memory: the others wait on disk.
                taken = one.inbox.statistics()
                is_full = (
                    taken.bytes >= one.policy.buffer_bytes and taken.in_flight + taken.backing_off
                )
                assert is_full or all(one.is_held(entry, now) for entry in one.waiting)
        self.check_instant()

    def die(self) -> None:
        """Be gone from here on; what follows happens to nobody."""
        self.is_dead = True
        self.is_exact = self.store.has_settled
        self.world.copy_of(self.path)


class World(Driver[Subscriber]):
    """Everybody who subscribes, in all the processes of a program."""

    def __init__(self, program: Program, directory: Path, clock: MockClock) -> None:
        self.subscribers = {like.name: Subscriber(like) for like in program.listeners}
        self.max_bytes = program.max_bytes
        self.clock = clock
        self.numbers = count()
        self.places = count()
        self._files = (directory / f"{number}.db" for number in count())
        self.path = next(self._files)
        self.is_over = False
        self.process: Process

    def listening(self, delivery: Delivery[Event]) -> list[Subscriber]:
        kind = type(delivery.event)
        return [one for one in self.subscribers.values() if kind in one.like.types]

    def copy_of(self, path: Path) -> None:
        """Copy the files, for the next process."""
        self.path = next(self._files)
        for suffix in ("", "-wal", ".inhand"):
            if Path(f"{path}{suffix}").exists():
                shutil.copyfile(f"{path}{suffix}", f"{self.path}{suffix}")

    async def live(self, steps: Iterator[Step]) -> None:
        """One process, up to its end."""
        last = getattr(self, "process", None)
        process = self.process = Process(self, self.path)
        async with process.store.opened():
            self.compare_with_file(last)
            async with trio.open_nursery() as process.nursery:
                process.check_instant()
                for happen, *details in steps:
                    await happen(self, *details)
                    if process.is_dead or process.has_stopped:
                        break
                    process.check_instant()
                else:
                    await self.drain()
                    await self.stop(drains=False, killed=False)
                    self.is_over = True
                process.nursery.cancel_scope.cancel()

    # What a process finds

    def compare_with_file(self, last: Process | None) -> None:
        """Check that acknowledged events are there, ended ones not, and none blamed wrongly."""
        with closing(sqlite3.connect(self.path)) as connection:
            queue = connection.execute(
                "SELECT subscriber, payload, history, retry_at, crashes FROM waiting "
                "ORDER BY number"
            ).fetchall()
        with DeadLetters(self.path) as dead:
            self.note_letters(dead.list())
            letters = {(it.plugin, in_payload(it.payload)) for it in dead.list()}
        rows = [(name, in_payload(payload), *rest) for name, payload, *rest in queue]
        queued = [row[:2] for row in rows]
        assert len(set(queued)) == len(queued)
        assert not letters & set(queued)
        is_exact = last is None or last.is_exact
        for one in self.subscribers.values():
            for entry in one.entries.values():
                where = (one.name, entry.number)
                self.check_place(entry, where in queued, where in letters, is_exact=is_exact)
        for name, number, history, retry_at, crashes in rows:
            one = self.subscribers[name]
            if number not in one.entries:
                self.adopt(one, number, last)
            self.check_row(one.entries[number], last, history, retry_at, crashes)
            one.entries[number].doomed = one.entries[number].crashes >= one.policy.delivery_limit
        for one in self.subscribers.values():
            one.pending.clear()
            one.in_flight.clear()
            one.told.clear()

    def check_place(self, entry: Entry, queued: bool, dead: bool, *, is_exact: bool) -> None:
        if entry.is_purged:
            assert not queued
            assert not dead
            return
        if entry.fate is Fate.DEAD_LETTERED or entry.doomed:
            assert queued or dead
            assert dead or entry.doomed or not is_exact
            if queued:
                entry.fate = Fate.QUEUED
        elif entry.fate in ALIVE:
            assert queued
        elif entry.fate in (Fate.EXPIRED, Fate.DROPPED) and not is_exact and queued:
            entry.fate = Fate.QUEUED
        else:
            assert not queued
        assert dead == (entry.fate is Fate.DEAD_LETTERED)

    def adopt(self, one: Subscriber, number: int, last: Process | None) -> None:
        """One that was stored although its publisher was not told so any more."""
        published = one.pending[number]
        delivery = published.delivery
        assert last is not None
        assert last.is_dead
        one.entries[number] = one.latest[delivery.id] = Entry(
            number=number,
            lane=lane_of(delivery),
            identity=delivery.id,
            deadline=delivery.deadline,
            fate=Fate.QUEUED,
            home=last,
            place=0,
        )

    def check_row(
        self,
        entry: Entry,
        last: Process | None,
        packed: bytes | None,
        retry_at: float | None,
        crashes: int,
    ) -> None:
        history = FIRST if packed is None else msgspec.json.decode(packed, type=History)
        crashes += history.crashes
        blamed = last is not None and last.is_dead and not last.is_blameless
        expected = entry.crashes + (blamed and entry.fate is Fate.IN_FLIGHT)
        due = -math.inf if retry_at is None else retry_at - EPOCH
        if last is None or last.is_exact:
            assert (crashes, history.attempts) == (expected, entry.failures)
            assert due <= entry.due + NEARLY or entry.due == -math.inf
        else:
            assert crashes <= expected
            assert history.attempts <= entry.failures
            assert crashes > 0 or expected == entry.crashes
        entry.fate, entry.place, entry.due = Fate.QUEUED, next(self.places), due
        entry.failures, entry.crashes, entry.spent = history.attempts, crashes, history.spent
        entry.hidden = False

    def note_letters(self, letters: list[DeadLetter]) -> None:
        """Check that each letter in the file was known, or to be expected."""
        for letter in letters:
            entry = self.subscribers[letter.plugin].entries[in_payload(letter.payload)]
            assert entry.doomed or entry.fate is Fate.DEAD_LETTERED
            assert not entry.is_purged
            if entry.doomed:
                entry.fate, entry.doomed = Fate.DEAD_LETTERED, False
                self.subscribers[letter.plugin].told[Fate.DEAD_LETTERED] += 1

    # What can happen

    async def let_all_run(self) -> None:
        """Let the tasks run until all of them wait."""
        await wait_all_tasks_blocked()
        if not self.process.is_dead:
            self.process.check_quiet()

    async def start_publisher(self, events: list[Any], waits: bool) -> None:
        process, now = self.process, trio.current_time()
        publisher = Publisher([], waits)
        for kind, wanted, event_id, key, lives in events:
            number = next(self.numbers)
            record = Record(process, number)
            delivery: Delivery[Event] = Delivery.of(
                kind(number=number, wanted=wanted),
                key=key,
                deadline=now + lives,
                receipt=record,
                id=event_id,
            )
            published = Published(delivery, record)
            publisher.events.append(published)
            for one in self.listening(delivery):
                one.pending[number] = published
        process.publishers.append(publisher)
        process.nursery.start_soon(process.publish, publisher)

    async def cancel_publisher(self, which: int) -> None:
        if busy := [publisher for publisher in self.process.publishers if not publisher.ended]:
            busy[which % len(busy)].scope.cancel()

    def may_read(self, one: Subscriber) -> bool:
        """Whether a subscriber does not hold too much for the order to be foreseen."""
        if not one.is_one_lane or one.like.overlaps:
            return True
        return not one.readers and all(entry.fate is not Fate.IN_FLIGHT for entry in one.alive)

    async def start_reader(self, of: int) -> None:
        one = self.subscriber(of)
        if self.may_read(one):
            one.readers.append(Reader())
            self.process.nursery.start_soon(self.process.read, one, one.readers[-1])

    async def read_now(self, of: int) -> bool:
        one = self.subscriber(of)
        if not self.may_read(one):
            return False
        try:
            self.process.took(one, one.inbox.receive_nowait())
        except trio.WouldBlock:
            return False
        except trio.EndOfChannel:
            assert one.stopped
            return False
        return True

    async def finish(self, of: int, which: int, end: End) -> None:
        one = self.subscriber(of)
        if not one.in_flight:
            return
        delivery = one.in_flight.pop(which % len(one.in_flight))
        number = number_of(delivery)
        one.expects[number] = self.foresee(one, delivery, end)
        for _ in range(2):  # To end it once more changes nothing.
            if isinstance(end, Exception):
                one.inbox.reject(delivery, end)
            elif end == EXPIRED:
                one.inbox.expire(delivery)
            else:
                one.inbox.accept(delivery)
        assert one.entries[number].fate is one.expects.pop(number)

    async def handle(self, of: int, ends: list[End]) -> None:
        """Take one event after the other, and end each in its way."""
        for end in ends:
            if not self.subscriber(of).in_flight:
                await self.take(of, 1)
            if self.process.is_dead:
                return
            await self.finish(of, -1, end)

    async def handle_together(self, of: int, at_most: int, end: End) -> None:
        """Take events at one go, as soon as they are in memory, and end all of them in one way."""
        one = self.subscriber(of)
        if one.is_one_lane and not one.like.overlaps:
            at_most = 1
        taken = one.inbox.take_some(at_most) if self.may_read(one) else []
        if not taken:
            await self.let_all_run()
            if self.process.is_dead or not self.may_read(one):
                return
            taken = one.inbox.take_some(at_most)
        for delivery in taken:
            self.process.took(one, delivery)
        del one.in_flight[len(one.in_flight) - len(taken) :]
        fates = {number_of(each): self.foresee(one, each, end) for each in taken}
        one.expects.update(fates)
        if isinstance(end, Exception):
            one.inbox.reject_all(taken, end)
        elif end == EXPIRED:
            for delivery in taken:
                one.inbox.expire(delivery)
        else:
            one.inbox.accept_all(taken)
            one.inbox.accept_all(taken)  # To end them once more changes nothing.
        one.expects.clear()
        assert {number: one.entries[number].fate for number in fates} == fates

    async def take(self, of: int, at_most: int) -> None:
        """Take events, as soon as they are in memory."""
        for _ in range(at_most):
            if not await self.read_now(of):
                await self.let_all_run()
                if self.process.is_dead or not await self.read_now(of):
                    return

    def foresee(self, one: Subscriber, delivery: Delivery[Event], end: End) -> Fate:
        """The fate that the policy makes of this end. Waits have no jitter here."""
        if not isinstance(end, Exception):
            return Fate.HANDLED if end == HANDLED else Fate.EXPIRED
        entry, now = one.entries[number_of(delivery)], trio.current_time()
        wait = end.seconds if isinstance(end, RetryAfter) else 0.0
        entry.failures += 1
        entry.spent += now - entry.taken_at
        allowed = one.policy.retry and not isinstance(end, PermanentError)
        allowed = allowed and entry.failures < (one.policy.max_attempts or math.inf)
        if not allowed or entry.spent + wait > (one.policy.retry_for or math.inf):
            entry.due = math.inf if one.stopped else -math.inf
            return Fate.BACKING_OFF if one.stopped else Fate.DEAD_LETTERED
        if now + wait >= entry.deadline:
            return Fate.EXPIRED
        entry.spent += wait
        entry.due = now + wait
        return Fate.BACKING_OFF

    async def end_lifetime(self, of: int, crashed: bool, given_up: bool) -> None:
        await self.end_readers(of)
        one = self.subscriber(of)
        if self.process.is_dead:
            return
        entries = [one.entries[number_of(it)] for it in one.in_flight]
        for entry in entries:
            entry.crashes += crashed
        one.in_flight.clear()
        one.inbox.lifetime_ended(crashed=crashed)
        for entry in entries:
            is_last = crashed and entry.crashes >= one.policy.delivery_limit
            assert entry.fate is (Fate.DEAD_LETTERED if is_last else Fate.QUEUED)
        if given_up:  # Its inbox goes on taking events in, for which nobody waits.
            one.inbox.abandon()
            await self.let_all_run()
            one.inbox.reopen()

    async def kill(self) -> None:
        self.process.die()

    async def kill_in_commit(self) -> None:
        """Kill the process when the next commit has been made, and nobody has been told."""
        process = self.process

        def die() -> None:
            if not process.is_dead:
                process.die()
                process.is_exact = True

        process.store.committed = die
        process.nursery.start_soon(wait_all_tasks_blocked)
        self.clock.jump(0.25)
        await wait_all_tasks_blocked()
        if not process.is_dead:
            process.store.committed = None

    async def stop(self, drains: bool, killed: bool) -> None:
        """Stop as a program does; perhaps it is killed before it has done so."""
        process, everyone = self.process, range(len(self.subscribers))
        process.store.stop_begins()
        process.is_blameless = True
        for one in self.subscribers.values():
            one.stopped = True
            one.inbox.close()
        for number in everyone:
            if drains:
                await self.drain_closed(number)
            await self.end_readers(number)
        if process.is_dead:
            return
        process.check_instant()
        if killed:
            process.die()
            return
        for one in self.subscribers.values():
            one.in_flight.clear()
            one.inbox.abandon()
            assert all(entry.fate is Fate.QUEUED for entry in one.alive)
        await wait_all_tasks_blocked()
        process.has_stopped = True
        process.check_instant()
        assert all(publisher.ended for publisher in process.publishers)
        cancelled = [it for it in process.publishers if it.scope.cancelled_caught]
        numbers = {number_of(it.delivery) for it in chain(*(one.events for one in cancelled))}
        assert all(one.pending.keys() <= numbers for one in self.subscribers.values())

    async def drain_closed(self, of: int) -> None:
        """Finish what is there, as far as nothing has to be waited for."""
        one = self.subscriber(of)
        await self.end_readers(of)
        rounds = 0
        # After a start the store is read once more than there are events, and some may still come.
        while rounds < 2 + 3 * len(one.entries):
            rounds += 1
            while one.in_flight:
                await self.finish(of, 0, HANDLED)
            try:
                delivery = one.inbox.receive_nowait()
            except trio.WouldBlock:  # It is on disk.
                await wait_all_tasks_blocked()
                if self.process.is_dead:
                    return
            except trio.EndOfChannel:
                return
            else:
                self.process.took(one, delivery)
        raise AssertionError("it neither ends nor goes on")

    async def operate(self, action: Callable[..., int], numbers: set[int]) -> None:
        """Replay some letters, or purge them, in the file of the running program."""
        self.clock.jump(0.125)
        await self.let_all_run()
        if self.process.is_dead:
            return
        with DeadLetters(self.process.path) as dead:
            letters = dead.list()
            self.note_letters(letters)
            chosen = [letter for at, letter in enumerate(letters) if at % 4 in numbers]
            meant = Criteria(numbers=[letter.number for letter in chosen])
            assert action(dead, meant) == len(chosen)
        for letter in reversed(chosen):
            one = self.subscribers[letter.plugin]
            entry = one.entries[in_payload(letter.payload)]
            if action is DeadLetters.purge:
                entry.is_purged = True
                continue
            one.entries[entry.number] = again = attrs.evolve(
                entry,
                fate=Fate.QUEUED,
                home=None,
                place=next(self.places),
                replayed_at=trio.current_time(),
                hidden=True,
                failures=0,
                crashes=0,
                spent=0.0,
                due=-math.inf,
            )
            if one.latest.get(entry.identity) is entry:
                one.latest[entry.identity] = again

    async def drain(self) -> None:
        """Handle everything, and let time pass: then nothing is left, and nobody waits."""
        everyone = range(len(self.subscribers))
        for number in everyone:
            await self.end_readers(number)
        # Where memory has room for one event only, a round handles one.
        rounds = 60 + max(len(one.alive) + len(one.pending) for one in self.subscribers.values())
        for _ in range(rounds):
            for number in everyone:
                is_more = True
                while is_more:
                    while self.subscriber(number).in_flight:
                        await self.finish(number, 0, HANDLED)
                    is_more = await self.read_now(number)
            await self.let_all_run()
            self.clock.jump(1.5)
            if any(entry.doomed for one in self.subscribers.values() for entry in one.waiting):
                with DeadLetters(self.process.path) as dead:
                    self.note_letters(dead.list())
            if not any(one.alive or one.pending for one in self.subscribers.values()):
                break
        await self.let_all_run()
        for one in self.subscribers.values():
            assert one.alive == []
        assert all(publisher.ended for publisher in self.process.publishers)
        with closing(sqlite3.connect(self.process.path)) as connection:
            assert connection.execute("SELECT count(*) FROM event").fetchone() == (0,)
        assert self.process.store.bytes == 0


def lane_of(delivery: Delivery[Event]) -> str:
    """The name of an event's lane, where there is an ordering key."""
    return f"id {delivery.id}" if delivery.key is None else f"key {delivery.key}"


def in_payload(payload: bytes) -> int:
    """The number of an event that is in the file."""
    number: int = msgspec.json.decode(payload)["number"]
    return number


Step = tuple[Callable[..., Awaitable[object]], *tuple[Any, ...]]


@attrs.frozen
class Program:
    """The listeners, the size of the store, and the steps."""

    listeners: list[Listener]
    max_bytes: int
    steps: list[Step]


async def run(program: Program, directory: Path, clock: MockClock) -> None:
    """Run a program, process by process, and in the end see everything drain."""
    world, steps = World(program, directory, clock), iter(program.steps)
    real = _stored.unpack

    def unpack(*args: Any, receipt: Receipt | None, **more: Any) -> Delivery[Any]:
        delivery = real(*args, receipt=receipt, **more)
        if receipt is None:  # Its publisher is of a former process.
            receipt = Record(world.process, number_of(delivery))
        return replace(delivery, receipt=receipt)

    def this_run() -> str:
        return world.process.path.name

    with patch.object(_beyond, "unpack", unpack), patch.object(_stored, "this_run", this_run):
        while not world.is_over:
            await world.live(steps)


order: st.SearchStrategy[tuple[int, str | None]] = st.sampled_from(
    [(1, None), (1, None), (2, None), (2, PARTITION_KEY), (2, PARTITION_KEY)]
)


@st.composite
def listeners(draw: st.DrawFn, name: str, types: tuple[type[Numbered], ...]) -> Listener:
    """Waits are what a handler asks for, without jitter, so that the books can foresee them.

    Ids are remembered for ever, or not at all: what is on disk for longer than its id is
    remembered may be there twice.
    """
    concurrency, ordering_key = draw(order)
    policy = DeliveryPolicy(
        durable=True,
        buffer=draw(st.sampled_from([None, None, 2, 5])),
        # Published here they count as nothing; read back, as about six hundred bytes each.
        buffer_bytes=draw(st.sampled_from([1, 1500, 1 << 26])),
        overflow=draw(st.sampled_from(["block", "drop_oldest", "drop_newest", "reject"])),
        block_for=draw(st.sampled_from([0.0, 1.0])),
        on_full=draw(st.sampled_from(["reject", "drop_newest", "drop_oldest"])),
        concurrency=concurrency,
        ordering_key=ordering_key,
        delivery_limit=draw(st.integers(1, 3)),
        retry=draw(st.sampled_from([True, True, False])),
        retry_initial=0.0,
        retry_for=draw(st.sampled_from([0.0, 8.0])),
        max_attempts=draw(st.sampled_from([None, None, 3])),
        deduplicate_for=draw(st.sampled_from([3000.0, 3000.0, 0.0])),
    )
    filters, overlaps = draw(st.booleans()), draw(st.booleans())
    return Listener(name=name, types=types, policy=policy, filters=filters, overlaps=overlaps)


which = st.integers(0, 3)
event = st.tuples(
    st.sampled_from(TYPES),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([None, None, None, None, "a", "b"]),
    st.sampled_from(["x", "x", "x", "y", None]),
    st.sampled_from([math.inf, math.inf, math.inf, math.inf, 0.0, 2.3]),
)
ends: st.SearchStrategy[End] = st.sampled_from(
    [RetryAfter(1), HANDLED, PermanentError(), RetryAfter(3), HANDLED, ValueError(), EXPIRED]
)
Steps = st.SearchStrategy[Step]
publish: Steps = st.tuples(
    st.just(World.start_publisher), st.lists(event, min_size=1, max_size=8), st.booleans()
)
take: Steps = st.tuples(st.just(World.take), which, st.integers(1, 5))
start: Steps = st.tuples(st.just(World.start_reader), which)
handle: Steps = st.tuples(st.just(World.handle), which, st.lists(ends, min_size=1, max_size=4))
fail: Steps = st.tuples(st.just(World.handle), which, st.just([ValueError()] * 3))
together: Steps = st.tuples(
    st.just(World.handle_together), which, st.integers(1, 4), st.just(HANDLED) | ends
)
finish: Steps = st.tuples(st.just(World.finish), which, which, ends)
run_all: Steps = st.just((World.let_all_run,))
let_run: Steps = st.just((World.let_run,))
pause: Steps = st.tuples(st.just(World.let_time_pass), st.sampled_from([0.125, 1.0, 2.0]))
operate: Steps = st.tuples(
    st.just(World.operate),
    st.sampled_from([DeadLetters.replay, DeadLetters.replay, DeadLetters.purge]),
    st.sets(which, min_size=1),
)
crash: Steps = st.tuples(st.just(World.end_lifetime), which, st.booleans(), st.booleans())
cancel: Steps = st.tuples(st.just(World.cancel_publisher), which) | st.tuples(
    st.just(World.cancel_reader), which, which
)
ending: Steps = st.one_of(
    st.just((World.kill,)),
    st.just((World.kill_in_commit,)),
    st.tuples(st.just(World.stop), st.booleans(), st.sampled_from([False, False, True])),
)
step: st.SearchStrategy[Step] = st.sampled_from(
    [publish] * 3
    + [take, start, handle, handle, handle, finish, run_all, pause] * 2
    + [together, together, fail, let_run, operate, crash, crash, cancel, ending, ending]
).flatmap(lambda kind: kind)
programs = st.builds(
    Program,
    listeners=st.tuples(listeners("s0", TYPES), listeners("s1", TYPES[:1])).map(list)
    | st.tuples(listeners("s0", TYPES)).map(list),
    max_bytes=st.sampled_from([1 << 30, 1 << 30, 700]),
    steps=st.lists(st.lists(step, min_size=4, max_size=12), min_size=3, max_size=12).map(
        lambda lists: [*chain(*lists)]
    ),
)


def obey(program: Program) -> None:
    """Run it, with small windows, and without what is logged about it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    clock = MockClock()
    with ExitStack() as stack:
        for module in (_beyond, _on_disk, _journal, _store, _stored):
            stack.enter_context(patch.object(module, "time", Calendar()))
        stack.enter_context(patch.object(_beyond, "WINDOW", 3))
        stack.enter_context(patch.object(_beyond, "BACKING_OFF_AT_MOST", 2))
        stack.enter_context(patch.object(_queue, "LOADED", 2))
        stack.enter_context(patch.object(_dead_letters, "SLICE", 2))
        stack.enter_context(patch.object(_ballast, "BALLAST", 4096))
        stack.enter_context(patch.object(_register, "SLOTS", 512))
        before = (_register.HEADER + 512) * 8
        stack.enter_context(patch.object(_register, "SIZE_BEFORE", before))
        stack.enter_context(patch.object(_register, "SIZE", before + 512 * 4))
        # In memory, if there is such a place: what a power cut leaves is not asked here.
        shared = Path("/dev/shm")
        where = shared if shared.is_dir() else None
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=where))
        trio.run(run, program, Path(directory), clock, clock=clock)
