"""Nothing is lost in silence: whatever happens, what an inbox accepted is the sum of its fates.

A random program of publishers, readers, failures, crashes, cancellations and stops runs as real
tasks on a clock that is moved by hand. Beside it, the test keeps books of its own: what it was
told (by outcomes and receipts), what its readers got, and what they did with it. The durable
inbox has a model of its own beside its other tests.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import chain, count
from typing import Any

import attrs
import pytest
import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Delivery, Event, Fate, Outcome, PermanentError, RetryAfter
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._bus import Bus, Subscription
from trivet._events._delivery import Receipt
from trivet._events._delivery_settings import PARTITION_KEY, DeliveryPolicy

from .driver import EXPIRED, HANDLED, WAITING, Driver, End, Numbered, Ping, Pong, Reader, number_of


class Tick(Numbered):
    pass


TYPES: tuple[type[Numbered], ...] = (Ping, Pong, Tick)

INSIDE = (*WAITING, Fate.IN_FLIGHT)
FOLLOWS = {
    Fate.QUEUED: {Fate.IN_FLIGHT, Fate.DROPPED, Fate.EXPIRED, Fate.ABANDONED},
    Fate.IN_FLIGHT: {Fate.QUEUED, Fate.BACKING_OFF, Fate.ABANDONED}
    | {Fate.HANDLED, Fate.FAILED, Fate.EXPIRED},
    Fate.BACKING_OFF: {Fate.IN_FLIGHT, Fate.DROPPED, Fate.EXPIRED, Fate.ABANDONED},
}
"""The fates that may follow one another. None is said between a failure and the next try."""


class Record(Receipt):
    """A receipt that remembers every word of every subscriber, and has it checked."""

    def __init__(self, hear: Callable[[str, list[Fate]], None]) -> None:
        super().__init__()
        self.words: dict[str, list[Fate]] = {}
        self._hear = hear

    def settle(self, subscriber: str, fate: Fate) -> None:
        self.words.setdefault(subscriber, []).append(fate)
        self._hear(subscriber, self.words[subscriber])
        super().settle(subscriber, fate)


@attrs.define(eq=False)
class Published:
    """One event that is, or was, offered to its subscribers."""

    delivery: Delivery[Event]
    record: Record
    waits: bool
    """Whether the publisher waits for the event's ends."""

    @property
    def number(self) -> int:
        return number_of(self.delivery)


@attrs.define(eq=False)
class Publisher:
    """One task that publishes one event, or several at once."""

    events: list[Published] = attrs.field(factory=list[Published])
    begun: float = math.inf
    offered: bool = False
    """Whether every subscriber has decided."""
    ended: bool = False
    words_at_end: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@attrs.define(eq=False)
class Account:
    """The test's account of one event at one subscriber."""

    delivery: Delivery[Event]
    fate: Fate
    repeats: Account | None = None
    """The original, where it came while that was inside."""
    failures: int = 0
    crashes: int = 0
    spent: float = 0.0
    taken_at: float = math.nan
    due: float = -math.inf
    remembered_until: float = math.inf

    @property
    def lane(self) -> tuple[str | None, str | None]:
        """Its key; where it has none, its id, which repetitions have too."""
        key = self.delivery.key
        return key, self.delivery.id if key is None else None


@attrs.define(eq=False)
class Subscriber:
    """An inbox, and what the test knows of it by itself."""

    name: str
    policy: DeliveryPolicy
    filters: bool
    policies: dict[type[Event], DeliveryPolicy]
    inbox: BoundedInbox = attrs.field(init=False)
    readers: list[Reader] = attrs.field(factory=list[Reader])
    in_flight: list[Delivery[Event]] = attrs.field(factory=list[Delivery[Event]])
    accounts: dict[int, Account] = attrs.field(factory=dict[int, Account])
    """The accounts by the event's number, in the order of acceptance."""
    latest: dict[str, Account] = attrs.field(factory=dict[str, Account])
    """The last one that was let in of each id."""
    ends: Counter[Fate] = attrs.field(factory=Counter[Fate])
    """Ends that the test's readers brought about."""
    expects: Fate | None = None
    """The fate that the event must have which the test is ending."""
    overlapped: bool = False
    """Whether two events were in flight at once, so that the failures set their order."""
    stopped: set[str] = attrs.field(factory=set[str])
    """`closed`, `abandoned`."""
    is_paused: bool = False
    """Whether an operator has paused the delivery."""
    on_the_way: int = 0
    """Events that readers had been given when it was paused, and had not returned yet."""

    def __attrs_post_init__(self) -> None:
        self.inbox = BoundedInbox(self.name, self.policy)
        if self.filters:
            self.inbox.admission.wants = lambda event: isinstance(event, Numbered) and event.wanted

    @property
    def inside(self) -> list[Account]:
        """The events that are alive, apart from duplicates."""
        accounts = self.accounts.values()
        return [one for one in accounts if one.repeats is None and one.fate in INSIDE]

    @property
    def bytes(self) -> int:
        """Bytes of the events inside, those in flight as well."""
        return sum(account.delivery.size for account in self.inside)

    def is_full_for(self, delivery: Delivery[Event]) -> bool:
        waiting = sum(account.fate in WAITING for account in self.inside)
        if waiting >= (self.policy.buffer or math.inf):
            return True
        return self.bytes + delivery.size > self.policy.buffer_bytes

    def never_fits(self, delivery: Delivery[Event]) -> bool:
        """Whether dropping all that waits would not make room."""
        in_flight = sum(it.delivery.size for it in self.inside if it.fate is Fate.IN_FLIGHT)
        return in_flight + delivery.size > self.policy.buffer_bytes

    @property
    def is_one_lane(self) -> bool:
        return self.policy.ordering_key is None and self.policy.concurrency == 1

    def before(self, account: Account) -> list[Account]:
        """The events that have to end, or to be tried, before this one can be handed out."""
        inside = self.inside
        if self.is_one_lane:
            if self.overlapped:
                return []
            earlier = inside[: inside.index(account)]
            return [one for one in earlier if one.fate in WAITING]
        if self.policy.ordering_key is None:
            return []
        earlier = inside[: inside.index(account)]
        return [one for one in earlier if one.lane == account.lane]

    def is_held(self, account: Account, now: float) -> bool:
        """Whether there is a reason that nobody has been handed this one."""
        if account.fate is Fate.BACKING_OFF and account.due > now:
            return True
        if self.is_one_lane:
            return any(one.fate is Fate.BACKING_OFF and one.due > now for one in self.inside)
        return bool(self.before(account))


class World(Driver[Subscriber]):
    """The bus, its subscribers, and everything that was ever published."""

    def __init__(
        self, subscribers: list[Subscriber], nursery: trio.Nursery, clock: MockClock
    ) -> None:
        self.subscribers = {one.name: one for one in subscribers}
        self.nursery = nursery
        self.clock = clock
        self.publishers: list[Publisher] = []
        self.numbers = count()
        self.deliveries: dict[int, Delivery[Event]] = {}
        wishes = [
            Subscription(subscriber.name, event, subscriber.inbox, policy)
            for subscriber in subscribers
            for event, policy in subscriber.policies.items()
        ]
        self.bus = Bus(wishes, TYPES)

    def listening(self, delivery: Delivery[Event]) -> set[str]:
        everyone = self.subscribers.values()
        return {one.name for one in everyone if type(delivery.event) in one.policies}

    def is_full(self, one: Subscriber) -> bool:
        """Whether there is no room for an event that this subscriber has not decided about."""
        return any(
            one.is_full_for(event.delivery)
            for publisher in self.publishers
            if publisher.begun < math.inf and not publisher.ended
            for event in publisher.events
            if one.name in self.listening(event.delivery) - event.record.words.keys()
        )

    # What the tasks do

    async def publish(self, publisher: Publisher) -> None:
        publisher.begun = trio.current_time()
        with publisher.scope:
            outcomes = await self.bus.publish([event.delivery for event in publisher.events])
            publisher.offered = True
            for event, outcome in zip(publisher.events, outcomes, strict=True):
                self.check_outcome(event, outcome)
            for event in publisher.events:
                if event.waits:
                    await event.record.ended()
                    last = {name: fates[-1] for name, fates in event.record.words.items()}
                    assert event.record.fates == last
                    assert not any(fate.alive for fate in last.values())
        publisher.ended = True
        publisher.words_at_end = sum(len(event.record.words) for event in publisher.events)

    def check_outcome(self, event: Published, outcome: Outcome) -> None:
        told = {name: words[0] for name, words in event.record.words.items()}
        for name in told:
            account = self.subscribers[name].accounts.get(event.number)
            if account is not None and account.repeats is not None:
                told[name] = Fate.DUPLICATE
        assert told.keys() == self.listening(event.delivery)
        name = type(event.delivery.event).__event_name__
        assert (outcome.id, outcome.event, outcome.fates) == (event.delivery.id, name, told)

    async def read(self, subscriber: Subscriber, reader: Reader) -> None:
        try:
            with reader.scope:
                self.took(subscriber, await subscriber.inbox.receive())
        except trio.EndOfChannel:
            assert subscriber.stopped
        finally:
            subscriber.readers.remove(reader)
            reader.ended.set()

    def took(self, one: Subscriber, delivery: Delivery[Event]) -> None:
        if one.is_paused and not one.stopped:
            assert one.on_the_way > 0
            one.on_the_way -= 1
        account = one.accounts[number_of(delivery)]
        assert account.fate is Fate.IN_FLIGHT
        assert delivery.attempt == account.failures + account.crashes + 1
        assert account.crashes < one.policy.delivery_limit
        assert all(number_of(other) != number_of(delivery) for other in one.in_flight)
        one.in_flight.append(delivery)

    # What is heard of the events

    def hear(self, number: int, name: str, words: list[Fate]) -> None:
        """A subscriber says what has become of an event: possible, and as it had to be?"""
        one, delivery, fate = self.subscribers[name], self.deliveries[number], words[-1]
        if len(words) == 1:
            self.hear_first(one, delivery, fate)
            return
        assert number in one.accounts  # Nothing becomes of an event that was refused.
        account = one.accounts[number]
        if account.repeats is not None:
            assert len(words) == 2
            assert not fate.alive
        else:
            assert fate in FOLLOWS.get(account.fate, ())
            assert one.expects in (None, fate)
            self.check_reason(one, account, fate)
        account.fate = fate

    def hear_first(self, one: Subscriber, delivery: Delivery[Event], fate: Fate) -> None:
        policy, now = one.policies[type(delivery.event)], trio.current_time()
        said = policy.overflow, policy.on_full
        latest = one.latest.get(delivery.id)
        is_inside = latest is not None and latest.fate in INSIDE and one.policy.deduplicate_for > 0
        unwanted = one.filters and not getattr(delivery.event, "wanted", True)
        assert (fate is Fate.FILTERED) == (unwanted and "closed" not in one.stopped)
        is_full = one.is_full_for(delivery) or self.is_full(one)
        if fate is Fate.REJECTED:
            in_vain = "drop_oldest" in said and one.never_fits(delivery)
            assert one.stopped or in_vain or ("reject" in said and is_full)
        elif fate is Fate.UNACCEPTABLE:
            assert delivery.size > one.policy.buffer_bytes
        elif fate is Fate.DROPPED:
            assert "drop_newest" in said
            assert is_full
        elif fate is Fate.DUPLICATE:
            assert latest is not None
            assert latest.fate is Fate.HANDLED
            assert now < latest.remembered_until
        elif fate is Fate.QUEUED:
            account = Account(delivery, fate, latest if is_inside else None)
            if not is_inside:
                assert not one.stopped
                assert not one.is_full_for(delivery)
                if latest is not None:
                    assert latest.fate is not Fate.HANDLED or now >= latest.remembered_until
                one.latest[delivery.id] = account
            one.accounts[number_of(delivery)] = account
        else:
            assert fate is Fate.FILTERED

    def check_reason(self, one: Subscriber, account: Account, fate: Fate) -> None:
        now = trio.current_time()
        if fate is Fate.DROPPED:
            said = {word for it in one.policies.values() for word in (it.overflow, it.on_full)}
            assert "drop_oldest" in said
            assert self.is_full(one)
        elif fate is Fate.EXPIRED:
            assert one.expects is fate or account.delivery.deadline <= now
        elif fate is Fate.ABANDONED:
            assert "abandoned" in one.stopped
        elif fate is Fate.IN_FLIGHT:
            account.taken_at = now
            assert account.delivery.deadline > now
            assert not one.is_held(account, now)
            if not one.overlapped:
                assert one.before(account) == []
            elsewhere = [it for it in one.inside if it.fate is Fate.IN_FLIGHT]
            one.overlapped = one.overlapped or bool(elsewhere)
        elif fate in (Fate.HANDLED, Fate.FAILED):
            one.ends[fate] += 1
            account.remembered_until = now + one.policy.deduplicate_for

    # What is checked

    def check_instant(self) -> None:
        """At every instant, between any two steps of the program."""
        for one in self.subscribers.values():
            statistics = one.inbox.statistics()
            counts = attrs.asdict(statistics)
            assert min(counts.values()) >= 0
            accepted, rejected = counts.pop("accepted"), counts.pop("rejected")
            unacceptable = counts.pop("unacceptable")
            retried, _ = counts.pop("retried"), counts.pop("timed_out")
            assert counts.pop("bytes") == one.bytes <= one.policy.buffer_bytes
            assert accepted == sum(counts.values())

            told = self.told_by(one)
            assert rejected == told.pop("rejected", 0)
            assert unacceptable == told.pop("unacceptable", 0)
            assert accepted == told.total()
            # What may be tried again is so in the books until it is.
            waiting = counts.pop("queued") + counts["backing_off"]
            assert counts.pop("backing_off") <= told["backing_off"]
            assert waiting == told.pop("queued", 0) + told.pop("backing_off", 0)
            assert {name: count for name, count in counts.items() if count} == told

            assert statistics.handled == one.ends[Fate.HANDLED]
            assert statistics.failed == one.ends[Fate.FAILED]
            assert retried == one.ends[Fate.BACKING_OFF]

    def told_by(self, one: Subscriber) -> Counter[str]:
        told: Counter[str] = Counter()
        for event in chain.from_iterable(publisher.events for publisher in self.publishers):
            if (words := event.record.words.get(one.name)) is not None:
                account = one.accounts.get(event.number)
                repeats = None if account is None else account.repeats
                told["duplicate" if repeats is not None else words[-1].value] += 1
                if repeats is not None:
                    good = repeats.fate is Fate.HANDLED
                    end = Fate.DUPLICATE if good else repeats.fate
                    assert words[-1] is (Fate.QUEUED if repeats.fate in INSIDE else end)
        return told

    def check_quiet(self) -> None:
        """Check that every task waits for a reason, when all of them wait."""
        self.check_instant()
        for one in self.subscribers.values():
            self.check_readers(one)
        for publisher in self.publishers:
            records = [event.record for event in publisher.events]
            if publisher.ended:
                assert publisher.words_at_end == sum(len(record.words) for record in records)
            elif publisher.offered:
                assert any(
                    fate.alive
                    for event in publisher.events
                    if event.waits
                    for fate in event.record.fates.values()
                )
            else:
                self.check_wait(publisher)

    def check_readers(self, one: Subscriber) -> None:
        """No reader waits while there is something that it may have."""
        if one.readers and not (one.is_paused and not one.stopped):
            now = trio.current_time()
            waiting = [account for account in one.inside if account.fate in WAITING]
            if one.stopped:  # Only what is in flight can still let something on.
                held_by = chain.from_iterable(one.before(account) for account in waiting)
                assert Fate.IN_FLIGHT in {account.fate for account in held_by}
            assert all(one.is_held(account, now) for account in waiting)

    def check_wait(self, publisher: Publisher) -> None:
        """Check that a publisher waits for full inboxes only, and for each within its time."""
        undecided = [
            (self.subscribers[name], type(event.delivery.event))
            for event in publisher.events
            for name in self.listening(event.delivery) - event.record.words.keys()
        ]
        assert undecided
        for one, event in undecided:
            policy = one.policies[event]
            assert policy.overflow == "block"
            assert trio.current_time() < publisher.begun + policy.block_for
            assert self.is_full(one)  # For this one, or for one that came before it.
            assert not one.stopped

    # What can happen

    async def let_all_run(self) -> None:
        """Let the tasks run until all of them wait."""
        await wait_all_tasks_blocked()
        self.check_quiet()

    async def start_publisher(self, events: list[Any], waits: bool) -> None:
        publisher = Publisher()
        for kind, wanted, event_id, key, lives, size in events:
            number = next(self.numbers)
            record = Record(partial(self.hear, number))
            self.deliveries[number] = delivery = Delivery.of(
                kind(number=number, wanted=wanted),
                id=event_id,
                key=key,
                deadline=trio.current_time() + lives,
                receipt=record,
                size=size,
            )
            publisher.events.append(Published(delivery, record, waits))
        self.publishers.append(publisher)
        self.nursery.start_soon(self.publish, publisher)

    async def cancel_publisher(self, which: int) -> None:
        if busy := [publisher for publisher in self.publishers if not publisher.ended]:
            busy[which % len(busy)].scope.cancel()

    async def start_reader(self, of: int) -> None:
        subscriber = self.subscriber(of)
        subscriber.readers.append(Reader())
        self.nursery.start_soon(self.read, subscriber, subscriber.readers[-1])

    async def read_now(self, of: int) -> None:
        subscriber = self.subscriber(of)
        try:
            self.took(subscriber, subscriber.inbox.receive_nowait())
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            assert subscriber.stopped

    async def fail(self, of: int, times: int, end: Exception | None) -> None:
        """Fail so many attempts in a row; where this is None, `run()` crashes each time."""
        for _ in range(times):
            if not self.subscriber(of).in_flight:
                await self.read_now(of)
            if end is None:
                await self.end_lifetime(of, crashed=True)
            else:
                await self.finish(of, -1, end)

    async def keep(self, of: int, which: int) -> None:
        subscriber = self.subscriber(of)
        if subscriber.in_flight:
            delivery = subscriber.in_flight[which % len(subscriber.in_flight)]
            subscriber.inbox.keep(delivery)
            assert subscriber.inbox.is_kept(delivery)

    async def finish(self, of: int, which: int, end: End) -> None:
        subscriber = self.subscriber(of)
        if not subscriber.in_flight:
            return
        delivery = subscriber.in_flight.pop(which % len(subscriber.in_flight))
        subscriber.expects = self.foresee(subscriber, delivery, end)
        for _ in range(2):  # To end it once more changes nothing.
            if isinstance(end, Exception):
                subscriber.inbox.reject(delivery, end)
            elif end == EXPIRED:
                subscriber.inbox.expire(delivery)
            else:
                subscriber.inbox.accept(delivery)
            assert not subscriber.inbox.is_kept(delivery)
        assert subscriber.accounts[number_of(delivery)].fate is subscriber.expects
        subscriber.ends[Fate.BACKING_OFF] += subscriber.expects is Fate.BACKING_OFF
        subscriber.expects = None

    def foresee(self, one: Subscriber, delivery: Delivery[Event], end: End) -> Fate:
        """The fate that the policy makes of this end. Waits have no jitter here."""
        if not isinstance(end, Exception):
            return Fate.HANDLED if end == HANDLED else Fate.EXPIRED
        account, now = one.accounts[number_of(delivery)], trio.current_time()
        wait = end.seconds if isinstance(end, RetryAfter) else 0.0
        account.failures += 1
        account.spent += now - account.taken_at
        allowed = one.policy.retry and not isinstance(end, PermanentError)
        allowed = allowed and account.failures < (one.policy.max_attempts or math.inf)
        if not allowed or account.spent + wait > (one.policy.retry_for or math.inf):
            return Fate.FAILED
        if now + wait >= delivery.deadline:
            return Fate.EXPIRED
        account.spent += wait
        account.due = now + wait
        return Fate.BACKING_OFF

    async def end_lifetime(self, of: int, crashed: bool) -> None:
        await self.end_readers(of)
        subscriber = self.subscriber(of)
        accounts = [subscriber.accounts[number_of(it)] for it in subscriber.in_flight]
        for account in accounts:
            account.crashes += crashed
        subscriber.in_flight.clear()
        subscriber.inbox.lifetime_ended(crashed=crashed)
        for account in accounts:
            is_last = crashed and account.crashes >= subscriber.policy.delivery_limit
            assert account.fate is (Fate.FAILED if is_last else Fate.QUEUED)

    async def close(self, of: int) -> None:
        subscriber = self.subscriber(of)
        subscriber.stopped.add("closed")
        subscriber.inbox.close()

    async def abandon(self, of: int) -> None:
        await self.end_readers(of)
        subscriber = self.subscriber(of)
        subscriber.stopped |= {"closed", "abandoned"}
        subscriber.in_flight.clear()
        subscriber.inbox.abandon()
        assert subscriber.inside == []

    async def reload(self, of: int) -> None:
        """Give it up, and have an operator restart it."""
        await self.abandon(of)
        subscriber = self.subscriber(of)
        subscriber.inbox.reopen()
        subscriber.stopped.clear()

    async def pause(self, of: int) -> None:
        """Have an operator pause the delivery, or resume it."""
        subscriber = self.subscriber(of)
        subscriber.is_paused = not subscriber.is_paused
        given = subscriber.inbox.statistics().in_flight
        subscriber.on_the_way = given - len(subscriber.in_flight)
        gate = subscriber.inbox.gate
        (gate.pause if subscriber.is_paused else gate.resume)()

    async def drain(self, of: int) -> None:
        """Finish everything that is there, as a plugin whose tier stops."""
        subscriber = self.subscriber(of)
        await self.end_readers(of)
        while True:
            while subscriber.in_flight:
                await self.finish(of, 0, HANDLED)
            self.check_instant()
            try:  # It is closed: everything that it still hands out, it hands out now.
                self.took(subscriber, subscriber.inbox.receive_nowait())
            except trio.WouldBlock:
                raise AssertionError("it neither ends nor goes on") from None
            except trio.EndOfChannel:
                break
        # What backs off is not waited for; nor, where there is an order, what comes after it.
        held = subscriber.inside
        assert not held or any(account.fate is Fate.BACKING_OFF for account in held)
        await self.abandon(of)

    async def live_on(self) -> None:
        """Handle everything, and let time pass: then everything drains."""
        everyone = range(len(self.subscribers))
        for number in everyone:
            await self.end_readers(number)
            if self.subscriber(number).is_paused:
                await self.pause(number)
        for _ in range(8):
            for number in everyone:
                await self.read_all(number)
            await self.let_all_run()
            self.clock.jump(3.0)
        for one in self.subscribers.values():
            assert one.inside == []
        assert all(publisher.ended for publisher in self.publishers)

    async def read_all(self, of: int) -> None:
        one = self.subscriber(of)
        while one.in_flight or not one.stopped:
            while one.in_flight:
                await self.finish(of, 0, HANDLED)
            before = len(one.in_flight)
            await self.read_now(of)
            if len(one.in_flight) == before:
                return


Step = tuple[Callable[..., Awaitable[None]], *tuple[Any, ...]]


@attrs.frozen
class Program:
    """The listeners and the steps."""

    subscribers: list[dict[str, Any]]
    """The arguments of each."""
    work: list[Step]
    end: list[Step]
    """The steps when some of the listeners may have stopped."""


async def run(program: Program, clock: MockClock) -> None:
    """Run a program, and then end it: everything that was accepted comes to an end."""
    subscribers = [Subscriber(**arguments) for arguments in program.subscribers]
    everyone = range(len(subscribers))
    drain: list[Step] = [] if program.end else [(World.live_on,)]
    stop: list[Step] = [(World.let_all_run,), *((World.close, number) for number in everyone)]
    async with trio.open_nursery() as nursery:
        world = World(subscribers, nursery, clock)
        for happen, *details in [*program.work, *program.end, *drain, *stop, (World.let_all_run,)]:
            await happen(world, *details)
            world.check_instant()
        assert all(publisher.offered or publisher.ended for publisher in world.publishers)
        for number in everyone:
            await world.drain(number)
        await world.let_all_run()
        assert all(publisher.ended for publisher in world.publishers)
    for one in subscribers:
        assert not any(account.fate.alive for account in one.accounts.values())


on_full = st.sampled_from(["reject", "drop_newest", "drop_oldest"])
policies = st.builds(
    DeliveryPolicy,
    overflow=st.just("block") | st.just("block") | on_full,
    on_full=on_full,
    block_for=st.sampled_from([0.0, 1.0, 3.0]),
)
order: st.SearchStrategy[tuple[int, str | None]] = st.sampled_from(
    [(1, None), (1, None), (2, None), (2, PARTITION_KEY), (1, PARTITION_KEY)]
)


@st.composite
def inbox_policies(draw: st.DrawFn) -> DeliveryPolicy:
    """Waits are what a handler asks for, without jitter, so that the books can foresee them."""
    concurrency, ordering_key = draw(order)
    return DeliveryPolicy(
        buffer=draw(st.integers(1, 3)),
        buffer_bytes=draw(st.sampled_from([1, 4, 6, 100])),
        concurrency=concurrency,
        ordering_key=ordering_key,
        delivery_limit=draw(st.integers(1, 3)),
        retry=draw(st.sampled_from([True, True, False])),
        retry_initial=0.0,
        retry_for=draw(st.sampled_from([0.0, 4.0])),
        max_attempts=draw(st.sampled_from([None, 1, 3])),
        deduplicate_for=draw(st.sampled_from([300.0, 300.0, 3.0, 0.0])),
    )


@st.composite
def subscribers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One to three, of which the first listens to every type."""
    return [
        {
            "name": f"s{number}",
            "policy": draw(inbox_policies()),
            "filters": draw(st.booleans()),
            "policies": {event: draw(policies) for event in TYPES[: len(TYPES) - number]},
        }
        for number in range(draw(st.integers(1, 3)))
    ]


which = st.integers(0, 5)
event = st.tuples(
    st.sampled_from(TYPES),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([None, None, None, "a", "b"]),
    st.sampled_from(["x", "x", "y", None]),
    st.sampled_from([math.inf, math.inf, math.inf, 0.0, 2.0]),
    st.sampled_from([0, 0, 1, 3, 5]),
)
publish = st.tuples(
    st.just(World.start_publisher), st.lists(event, min_size=1, max_size=4), st.booleans()
)
read = st.tuples(st.just(World.start_reader), which) | st.tuples(st.just(World.read_now), which)
ends: st.SearchStrategy[End] = st.sampled_from(
    [HANDLED, HANDLED, EXPIRED, ValueError(), RetryAfter(1), RetryAfter(3), PermanentError()]
)
finish = st.tuples(st.just(World.finish), which, which, ends)
fail = st.tuples(
    st.just(World.fail), which, st.integers(2, 3), st.sampled_from([ValueError(), None])
)
work: st.SearchStrategy[Step] = st.one_of(
    publish,
    read,
    finish,
    st.just((World.let_all_run,)),
    st.just((World.let_run,)),
    publish,
    read,
    finish,
    fail,
    st.tuples(st.just(World.let_time_pass), st.sampled_from([0.5, 1.0, 2.0])),
    st.tuples(st.just(World.end_lifetime), which, st.booleans()),
    st.tuples(st.just(World.keep), which, which),
    st.tuples(st.just(World.cancel_publisher), which),
    st.tuples(st.just(World.cancel_reader), which, which),
    st.tuples(st.just(World.reload), which),
    st.tuples(st.just(World.pause), which),
)
end = st.tuples(st.just(World.close), which) | st.tuples(st.just(World.abandon), which)


def sequences(step: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    """A list of lists, made flat: longer on average than a list, and it shrinks as well."""
    few = st.lists(step, min_size=4, max_size=12)
    return st.lists(few, min_size=3, max_size=15).map(lambda lists: [*chain(*lists)])


programs = st.builds(
    Program,
    subscribers=subscribers(),
    work=sequences(work),
    end=st.just([]) | st.lists(work | end, max_size=10),
)


def obey(program: Program) -> None:
    """Run it, on a clock of its own; what is logged about it is not looked at."""
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)
    clock = MockClock()
    trio.run(run, program, clock, clock=clock)


@pytest.mark.model
@pytest.mark.timeout(600 + settings().max_examples * 2)  # To make a failure small takes long.
@settings(max_examples=settings().max_examples * 5 // 2)
@given(programs)
def test_nothing_is_lost_in_silence(program: Program) -> None:
    """At every instant accepted is the sum of the fates, each outcome agrees, and all ends."""
    obey(program)
