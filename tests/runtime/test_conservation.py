"""Nothing is lost in silence: whatever happens, what an inbox accepted is the sum of its fates.

A random program of publishers, readers, crashes, cancellations and stops runs as real tasks on a
clock that is moved by hand. Beside it, the test keeps books of its own: what it was told (by
outcomes and receipts), what its readers got, and what they did with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Delivery, Event, Fate, Outcome
from trivet._delivery._bus import Bus, Subscription
from trivet._delivery._memory import MemoryInbox
from trivet._envelope import Receipt
from trivet._policies import DeliveryPolicy


class Ping(Event):
    pass


class Pong(Event):
    pass


class Tick(Event):
    pass


TYPES = (Ping, Pong, Tick)


class Record(Receipt):
    """A receipt that remembers every word of every subscriber."""

    def __init__(self) -> None:
        super().__init__()
        self.words: dict[str, list[Fate]] = {}

    def settle(self, subscriber: str, fate: Fate) -> None:
        self.words.setdefault(subscriber, []).append(fate)
        super().settle(subscriber, fate)


@attrs.define(eq=False)
class Publisher:
    """One task that publishes one event."""

    delivery: Delivery[Event]
    record: Record
    waits: bool
    begun: float = math.inf
    offered: bool = False
    """Whether every subscriber has decided."""
    ended: bool = False
    words_at_end: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@attrs.define(eq=False)
class Reader:
    """One task that waits for one event."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class Subscriber:
    """An inbox, and what the test knows of it by itself."""

    name: str
    buffer: int
    limit: int
    policies: dict[type[Event], DeliveryPolicy]
    inbox: MemoryInbox = attrs.field(init=False)
    readers: list[Reader] = attrs.field(factory=list[Reader])
    in_hand: list[Delivery[Event]] = attrs.field(factory=list[Delivery[Event]])
    attempts: Counter[str] = attrs.field(factory=Counter[str])
    given_back: set[str] = attrs.field(factory=set[str])
    ends: dict[str, Fate] = attrs.field(factory=dict[str, Fate])
    """What the test ended itself."""
    stopped: set[str] = attrs.field(factory=set[str])
    """`closed`, `abandoned`."""

    def __attrs_post_init__(self) -> None:
        self.inbox = MemoryInbox(
            self.name, DeliveryPolicy(buffer=self.buffer, delivery_limit=self.limit)
        )


class World:
    """The bus, its subscribers, and everything that was ever published."""

    def __init__(
        self, subscribers: list[Subscriber], nursery: trio.Nursery, clock: MockClock
    ) -> None:
        self.subscribers = subscribers
        self.nursery = nursery
        self.clock = clock
        self.publishers: list[Publisher] = []
        self.bus = Bus(
            Subscription(subscriber.name, event, subscriber.inbox, policy)
            for subscriber in subscribers
            for event, policy in subscriber.policies.items()
        )

    def subscriber(self, number: int) -> Subscriber:
        return self.subscribers[number % len(self.subscribers)]

    def listening(self, publisher: Publisher) -> dict[str, Subscriber]:
        event = type(publisher.delivery.event)
        return {one.name: one for one in self.subscribers if event in one.policies}

    # What the tasks do

    async def publish(self, publisher: Publisher) -> None:
        publisher.begun = trio.current_time()
        with publisher.scope:
            (outcome,) = await self.bus.publish([publisher.delivery])
            publisher.offered = True
            words = publisher.record.words
            assert outcome == self.outcome_of(publisher, {name: words[name][0] for name in words})
            if publisher.waits:
                await publisher.record.ended()
                last = {name: fates[-1] for name, fates in words.items()}
                assert publisher.record.fates == last
                assert not any(fate.alive for fate in last.values())
        publisher.ended = True
        publisher.words_at_end = len(publisher.record.words)

    def outcome_of(self, publisher: Publisher, fates: dict[str, Fate]) -> Outcome:
        assert fates.keys() == self.listening(publisher).keys()
        return Outcome(publisher.delivery.id, type(publisher.delivery.event).__event_name__, fates)

    async def read(self, subscriber: Subscriber, reader: Reader) -> None:
        try:
            with reader.scope:
                self.took(subscriber, await subscriber.inbox.receive())
        except trio.EndOfChannel:
            assert subscriber.stopped
        finally:
            subscriber.readers.remove(reader)
            reader.ended.set()

    def took(self, subscriber: Subscriber, delivery: Delivery[Event]) -> None:
        event = delivery.id
        subscriber.attempts[event] += 1
        assert delivery.attempt == subscriber.attempts[event] <= subscriber.limit
        assert delivery.deadline > trio.current_time()
        assert event not in subscriber.ends
        assert all(other.id != event for other in subscriber.in_hand)
        subscriber.given_back.discard(event)
        subscriber.in_hand.append(delivery)

    # What is checked

    def check_instant(self) -> None:
        """At every instant, between any two steps of the program."""
        for one in self.subscribers:
            statistics = one.inbox.statistics()
            counts = attrs.asdict(statistics)
            assert min(counts.values()) >= 0
            accepted, rejected = counts.pop("accepted"), counts.pop("rejected")
            assert accepted == sum(counts.values())

            words = [
                publisher.record.words[one.name]
                for publisher in self.publishers
                if one.name in publisher.record.words
            ]
            told = Counter(fates[-1].value for fates in words)
            assert rejected == told.pop("rejected", 0)
            assert accepted == told.total()
            assert {name: count for name, count in counts.items() if count} == told
            assert statistics.in_hand == len(one.in_hand)

            ends = Counter(one.ends.values())
            assert statistics.handled == ends[Fate.HANDLED]
            assert statistics.failed == ends[Fate.FAILED]

    def check_words(self) -> None:
        """Each word was possible, and who has ended is not heard of again."""
        for publisher in self.publishers:
            listening = self.listening(publisher)
            if publisher.ended:
                assert len(publisher.record.words) == publisher.words_at_end
            for name, fates in publisher.record.words.items():
                self.check_first_word(listening[name], publisher.delivery, fates)
                self.check_last_word(listening[name], publisher.delivery, fates[-1])

    def check_first_word(
        self, one: Subscriber, delivery: Delivery[Event], fates: list[Fate]
    ) -> None:
        policy = one.policies[type(delivery.event)]
        said = policy.overflow, policy.on_full
        if fates[0] is Fate.REJECTED:
            assert "reject" in said or one.stopped
        elif fates[0] is Fate.DROPPED:
            assert "drop_newest" in said
        else:
            assert fates[0] is Fate.QUEUED
            return
        assert len(fates) == 1

    def check_last_word(self, one: Subscriber, delivery: Delivery[Event], fate: Fate) -> None:
        if fate is Fate.DROPPED:
            said = {word for it in one.policies.values() for word in (it.overflow, it.on_full)}
            assert said & {"drop_oldest", "drop_newest"}
        elif fate is Fate.EXPIRED:
            assert delivery.deadline <= trio.current_time()
        elif fate is Fate.ABANDONED:
            assert "abandoned" in one.stopped
        elif fate in (Fate.HANDLED, Fate.FAILED):
            assert one.ends[delivery.id] is fate

    def check_quiet(self) -> None:
        """When every task waits, each waits for a reason."""
        self.check_instant()
        self.check_words()
        full = {one.name: self.check_room(one) for one in self.subscribers}
        for publisher in self.publishers:
            if publisher.offered and not publisher.ended:
                assert publisher.waits
                assert any(fate.alive for fate in publisher.record.fates.values())
            elif not publisher.ended:
                self.check_wait(publisher, full)

    def check_room(self, one: Subscriber) -> bool:
        """No reader waits while there is something; whether the inbox is full."""
        fates = {publisher.delivery.id: publisher.record.fates for publisher in self.publishers}
        back = sum(fates[event][one.name] is Fate.QUEUED for event in one.given_back)
        buffered = one.inbox.statistics().queued - back
        assert 0 <= buffered <= one.buffer
        if one.readers:
            assert buffered == back == 0
            assert not one.stopped
        return buffered == one.buffer

    def check_wait(self, publisher: Publisher, full: dict[str, bool]) -> None:
        """It waits for full inboxes only, and for each within its time."""
        listening = self.listening(publisher)
        undecided = listening.keys() - publisher.record.words.keys()
        assert undecided
        for name in undecided:
            policy = listening[name].policies[type(publisher.delivery.event)]
            assert policy.overflow == "block"
            assert trio.current_time() < publisher.begun + policy.block_for
            assert full[name]
            assert not listening[name].stopped

    # What can happen

    async def let_run(self) -> None:
        """Let the tasks run for one round; the step after it meets them half way."""
        await trio.lowlevel.checkpoint()

    async def let_all_run(self) -> None:
        """Let the tasks run until all of them wait."""
        await wait_all_tasks_blocked()
        self.check_quiet()

    async def let_time_pass(self, seconds: float) -> None:
        self.clock.jump(seconds)

    async def start_publishers(
        self, event: type[Event], count: int, waits: bool, lives: float
    ) -> None:
        deadline = trio.current_time() + lives
        for _ in range(count):
            record = Record()
            delivery = Delivery[Event](event=event(), deadline=deadline, receipt=record)
            self.publishers.append(Publisher(delivery, record, waits))
            self.nursery.start_soon(self.publish, self.publishers[-1])

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

    async def cancel_reader(self, of: int, which: int) -> None:
        readers = self.subscriber(of).readers
        if readers:
            readers[which % len(readers)].scope.cancel()

    async def finish(self, of: int, which: int, fate: Fate) -> None:
        subscriber = self.subscriber(of)
        if not subscriber.in_hand:
            return
        delivery = subscriber.in_hand.pop(which % len(subscriber.in_hand))
        subscriber.ends[delivery.id] = fate
        for _ in range(2):  # To end it once more changes nothing.
            if fate is Fate.HANDLED:
                subscriber.inbox.accept(delivery)
            else:
                subscriber.inbox.reject(delivery, ValueError())

    async def end_readers(self, of: int) -> None:
        """As a lifetime's end does: cancel its tasks, and see them end."""
        for reader in [*self.subscriber(of).readers]:
            reader.scope.cancel()
            await reader.ended.wait()

    async def crash(self, of: int) -> None:
        await self.end_readers(of)
        subscriber = self.subscriber(of)
        subscriber.inbox.lifetime_ended(crashed=True)
        for delivery in subscriber.in_hand:
            if delivery.attempt < subscriber.limit:
                subscriber.given_back.add(delivery.id)
            else:
                subscriber.ends[delivery.id] = Fate.FAILED
        subscriber.in_hand.clear()

    async def close(self, of: int) -> None:
        subscriber = self.subscriber(of)
        subscriber.stopped.add("closed")
        subscriber.inbox.close()

    async def abandon(self, of: int) -> None:
        await self.end_readers(of)
        subscriber = self.subscriber(of)
        subscriber.stopped.add("abandoned")
        subscriber.in_hand.clear()
        subscriber.inbox.abandon()
        statistics = subscriber.inbox.statistics()
        assert statistics.queued == statistics.in_hand == 0

    async def drain(self, of: int) -> None:
        """As a plugin does whose tier stops: finish what is there, to the last."""
        subscriber = self.subscriber(of)
        await self.end_readers(of)
        while True:
            while subscriber.in_hand:
                await self.finish(of, 0, Fate.HANDLED)
            self.check_instant()
            try:
                self.took(subscriber, await subscriber.inbox.receive())
            except trio.EndOfChannel:
                return


Step = tuple[Callable[..., Awaitable[None]], *tuple[Any, ...]]


async def run(subscribers: list[Subscriber], steps: list[Step], clock: MockClock) -> None:
    """Run a program, and then end it: everything that was accepted comes to an end."""
    everyone = range(len(subscribers))
    stop: list[Step] = [(World.let_all_run,), *((World.close, number) for number in everyone)]
    async with trio.open_nursery() as nursery:
        world = World(subscribers, nursery, clock)
        for happen, *details in [*steps, *stop, (World.let_all_run,)]:
            await happen(world, *details)
            world.check_instant()
        assert all(publisher.offered or publisher.ended for publisher in world.publishers)
        for number in everyone:
            await world.drain(number)
        await world.let_all_run()
        assert all(publisher.ended for publisher in world.publishers)
    for publisher in world.publishers:
        assert not any(fate.alive for fate in publisher.record.fates.values())


on_full = st.sampled_from(["reject", "drop_newest", "drop_oldest"])
policies = st.builds(
    DeliveryPolicy,
    overflow=st.just("block") | st.just("block") | on_full,
    on_full=on_full,
    block_for=st.sampled_from([0.0, 1.0, 3.0]),
)


@st.composite
def subscribers(draw: st.DrawFn) -> list[Subscriber]:
    """One to three, of which the first listens to every type."""
    return [
        Subscriber(
            f"s{number}",
            buffer=draw(st.integers(1, 2)),
            limit=draw(st.integers(1, 3)),
            policies={event: draw(policies) for event in TYPES[: len(TYPES) - number]},
        )
        for number in range(draw(st.integers(1, 3)))
    ]


which = st.integers(0, 5)
publish = st.tuples(
    st.just(World.start_publishers),
    st.sampled_from(TYPES),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([math.inf, math.inf, 0.0, 2.0]),
)
read = st.tuples(st.just(World.start_reader), which) | st.tuples(st.just(World.read_now), which)
work: st.SearchStrategy[Step] = st.one_of(
    publish,
    read,
    st.just((World.let_all_run,)),
    st.just((World.let_run,)),
    publish,
    read,
    st.tuples(st.just(World.let_time_pass), st.sampled_from([0.5, 1.0, 2.0])),
    st.tuples(st.just(World.finish), which, which, st.sampled_from([Fate.HANDLED, Fate.FAILED])),
    st.tuples(st.just(World.crash), which),
    st.tuples(st.just(World.cancel_publisher), which),
    st.tuples(st.just(World.cancel_reader), which, which),
)
end = st.tuples(st.just(World.close), which) | st.tuples(st.just(World.abandon), which)


def program(step: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    """A list of lists, made flat: longer on average than a list, and it shrinks as well."""
    few = st.lists(step, min_size=4, max_size=12)
    return st.lists(few, min_size=3, max_size=15).map(lambda lists: [*chain(*lists)])


@settings(max_examples=150, deadline=None)
@given(subscribers(), program(work), st.lists(work | end, max_size=10))
def test_nothing_is_lost_in_silence(
    subscribers: list[Subscriber], work: list[Step], end: list[Step]
) -> None:
    """At every instant accepted is the sum of the fates, each outcome agrees, and all ends."""
    clock = MockClock()
    trio.run(run, subscribers, [*work, *end], clock, clock=clock)
