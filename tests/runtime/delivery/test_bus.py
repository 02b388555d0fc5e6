"""The bus: from one publisher to every subscriber, each of whom decides alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Delivery, Event, Fate, InboxStatistics, Outcome
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._bus import Bus, Subscription
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._inbox._quantum import QUANTUM
from trivet._inbox._workers import handle_plain


class Ping(Event):
    number: int


class LoudPing(Ping):
    pass


class Pong(Event):
    number: int


class Subscriber:
    """An inbox, and what it wishes for."""

    def __init__(self, name: str, *events: type[Event], buffer: int = 1, **policy: Any) -> None:
        self.name = name
        self.inbox = BoundedInbox(name, DeliveryPolicy(buffer=buffer, delivery_limit=3))
        self.subscriptions = [
            Subscription(name, event, self.inbox, DeliveryPolicy(buffer=buffer, **policy))
            for event in events or (Ping,)
        ]

    def statistics(self) -> InboxStatistics:
        return self.inbox.statistics()

    def read(self) -> int:
        """Take the next event and finish it."""
        delivery = self.inbox.receive_nowait()
        self.inbox.accept(delivery)
        return int(delivery.id)

    def read_all(self) -> list[int]:
        numbers: list[int] = []
        while self.statistics().queued:
            numbers.append(self.read())
        return numbers


def bus_of(*subscribers: Subscriber) -> Bus:
    """A bus with all their subscriptions."""
    wishes = [wish for subscriber in subscribers for wish in subscriber.subscriptions]
    return Bus(wishes, [Ping, Pong, LoudPing])


async def publish(bus: Bus, number: int, event: type[Any] = Ping) -> Outcome:
    """Publish one event, its number being its id too."""
    (outcome,) = await bus.publish([Delivery.of(event(number), id=str(number))])
    return outcome


# Routing


async def test_an_event_reaches_every_subscriber() -> None:
    """Each subscriber gets the same event at once, and the outcome has one fate for each."""
    one, other = Subscriber("one"), Subscriber("other")
    outcome = await publish(bus_of(one, other), 7)
    assert (outcome.id, outcome.event) == ("7", "ping")
    assert outcome.fates == {"one": Fate.QUEUED, "other": Fate.QUEUED}
    assert (one.read(), other.read()) == (7, 7)


async def test_events_go_to_subscribers_of_their_very_type() -> None:
    """A subscriber of a base type does not get an event of a type that derives from it."""
    pings, pongs = Subscriber("pings"), Subscriber("pongs", Pong)
    bus = bus_of(pings, pongs)
    assert list((await publish(bus, 1)).fates) == ["pings"]
    assert list((await publish(bus, 2, Pong)).fates) == ["pongs"]
    assert (await publish(bus, 3, LoudPing)).unrouted
    assert [bus.listens(event) for event in (Ping, Pong, LoudPing)] == [True, True, False]


async def test_several_types_come_in_one_inbox_in_order() -> None:
    """A subscriber to several types gets them as they were published."""
    both = Subscriber("both", Ping, Pong, buffer=10)
    bus = bus_of(both)
    for number in range(6):
        await publish(bus, number, Ping if number % 2 else Pong)
    assert both.read_all() == [0, 1, 2, 3, 4, 5]


async def test_an_event_without_a_subscriber_is_counted() -> None:
    """An event without a subscriber is unrouted, and counted by the event's name."""
    bus = bus_of(Subscriber("pongs", Pong))
    for number in range(2):
        outcome = await publish(bus, number)
        assert outcome.unrouted
    await publish(bus, 3, LoudPing)
    await publish(bus, 4, Pong)
    assert bus.unrouted == {"ping": 2, "loud_ping": 1}


# Overflow


@pytest.mark.parametrize(
    ("overflow", "fate", "left"),
    [
        ("reject", Fate.REJECTED, [1, 2]),
        ("drop_newest", Fate.DROPPED, [1, 2]),
        ("drop_oldest", Fate.QUEUED, [2, 3]),
    ],
)
async def test_a_full_inbox_decides_at_once(
    autojump_clock: MockClock, overflow: str, fate: Fate, left: list[int]
) -> None:
    """A publisher does not wait where the policy is not to block."""
    full = Subscriber("full", buffer=2, overflow=overflow)
    bus = bus_of(full)
    began = trio.current_time()
    fates = [(await publish(bus, number)).fates["full"] for number in (1, 2, 3)]
    assert fates == [Fate.QUEUED, Fate.QUEUED, fate]
    assert trio.current_time() == began
    assert full.read_all() == left


@pytest.mark.parametrize(
    ("on_full", "fate", "left"),
    [
        ("reject", Fate.REJECTED, [1]),
        ("drop_newest", Fate.DROPPED, [1]),
        ("drop_oldest", Fate.QUEUED, [2]),
    ],
)
async def test_block_makes_the_publisher_wait_and_then_decides(
    autojump_clock: MockClock, on_full: str, fate: Fate, left: list[int]
) -> None:
    """After `block_for` seconds without room, `on_full` says what becomes of the event."""
    full = Subscriber("full", block_for=2.5, on_full=on_full)
    bus = bus_of(full)
    await publish(bus, 1)
    began = trio.current_time()
    outcome = await publish(bus, 2)
    assert trio.current_time() - began == 2.5
    assert outcome.fates == {"full": fate}
    assert full.read_all() == left


async def test_block_for_no_time_decides_at_once(autojump_clock: MockClock) -> None:
    """`block_for = 0` is allowed, and does not wait."""
    full = Subscriber("full", block_for=0)
    bus = bus_of(full)
    await publish(bus, 1)
    began = trio.current_time()
    assert (await publish(bus, 2)).fates == {"full": Fate.REJECTED}
    assert trio.current_time() == began


async def test_room_ends_the_wait(autojump_clock: MockClock) -> None:
    """A publisher that waits goes on as soon as its event is in."""
    full = Subscriber("full", block_for=60)
    bus = bus_of(full)
    await publish(bus, 1)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def second() -> None:
            outcome = await publish(bus, 2)
            assert outcome.fates == {"full": Fate.QUEUED}
            assert trio.current_time() == began + 3

        await trio.sleep(3)
        assert full.read() == 1
    assert full.read() == 2


async def test_waiting_publishers_keep_their_order(autojump_clock: MockClock) -> None:
    """The first publisher gets in first, and the events are read in that order."""
    full = Subscriber("full", block_for=60)
    bus = bus_of(full)
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(publish, bus, number)
            await wait_all_tasks_blocked()
        assert full.statistics().queued == 1
        assert full.read_all() == [0, 1, 2, 3, 4, 5]


async def test_the_wait_of_one_does_not_cost_the_next_its_time(autojump_clock: MockClock) -> None:
    """Each publisher waits for its own `block_for`, from its own beginning."""
    full = Subscriber("full", block_for=2)
    bus = bus_of(full)
    await publish(bus, 0)
    began = trio.current_time()
    ended: dict[int, float] = {}

    async def late(number: int) -> None:
        await trio.sleep(number)
        assert (await publish(bus, number)).fates == {"full": Fate.REJECTED}
        ended[number] = trio.current_time() - began

    async with trio.open_nursery() as nursery:
        nursery.start_soon(late, 1)
        nursery.start_soon(late, 2)
    assert ended == {1: 3, 2: 4}


# Each decides alone


async def test_a_slow_subscriber_does_not_delay_a_fast_one(autojump_clock: MockClock) -> None:
    """A subscriber with room has the event at once, though the publisher waits for another."""
    slow, fast = Subscriber("slow", block_for=5), Subscriber("fast", buffer=10)
    bus = bus_of(slow, fast)
    await publish(bus, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, bus, 2)
        await wait_all_tasks_blocked()
        assert fast.read_all() == [1, 2]
        assert slow.statistics().accepted == 1
    assert slow.statistics().rejected == 1


async def test_a_publisher_waits_for_several_at_once(autojump_clock: MockClock) -> None:
    """Publishing takes as long as the longest `block_for`, whatever the order of subscribers."""
    for times in ((1, 3), (3, 1)):
        full = [Subscriber(f"s{number}", block_for=time) for number, time in enumerate(times)]
        bus = bus_of(*full)
        await publish(bus, 1)
        began = trio.current_time()
        outcome = await publish(bus, 2)
        assert outcome.fates == {"s0": Fate.REJECTED, "s1": Fate.REJECTED}
        assert trio.current_time() - began == 3


@pytest.mark.parametrize("patient_first", [True, False])
async def test_each_policy_decides_in_its_own_time(
    autojump_clock: MockClock, patient_first: bool
) -> None:
    """The wait for a patient subscriber does not prolong the time of an impatient one."""
    patient = Subscriber("patient", block_for=9)
    hasty = Subscriber("hasty", block_for=1, on_full="drop_newest")
    bus = bus_of(*((patient, hasty) if patient_first else (hasty, patient)))
    await publish(bus, 1)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def second() -> None:
            outcome = await publish(bus, 2)
            assert outcome.fates == {"patient": Fate.QUEUED, "hasty": Fate.DROPPED}

        await trio.sleep(1.5)
        assert hasty.statistics().dropped == 1
        assert hasty.read_all() == [1]
        assert patient.read() == 1
    assert patient.read() == 2


async def test_a_subscriber_that_has_room_in_time_accepts(autojump_clock: MockClock) -> None:
    """A subscriber that makes room accepts while the time of another full one runs."""
    opens, stays = Subscriber("opens", block_for=5), Subscriber("stays", block_for=5)
    bus = bus_of(opens, stays)
    await publish(bus, 1)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def second() -> None:
            outcome = await publish(bus, 2)
            assert outcome.fates == {"opens": Fate.QUEUED, "stays": Fate.REJECTED}

        await trio.sleep(1)
        assert opens.read() == 1
        assert opens.read() == 2  # It was in at once, not only when the publisher had ended.


async def test_the_policy_is_that_of_the_type(autojump_clock: MockClock) -> None:
    """Two types in one inbox overflow each in its own way."""
    both = Subscriber("both", Ping, Pong)
    pings, pongs = both.subscriptions
    bus = Bus(
        [
            Subscription("both", Ping, both.inbox, DeliveryPolicy(overflow="drop_oldest")),
            Subscription("both", Pong, both.inbox, DeliveryPolicy(overflow="reject")),
        ]
    )
    assert pings.inbox is pongs.inbox
    await publish(bus, 1)
    assert (await publish(bus, 2, Pong)).fates == {"both": Fate.REJECTED}
    assert (await publish(bus, 3)).fates == {"both": Fate.QUEUED}
    assert both.read_all() == [3]


# The publisher's end


async def test_a_cancelled_publisher_ends_at_the_next_turn_of_the_others() -> None:
    """A publisher need not wait for that: events published until then arrive, and none after."""
    inbox = Subscriber("inbox", buffer=10 * QUANTUM)
    bus = bus_of(inbox)
    published = 0
    with trio.CancelScope() as scope:
        scope.cancel()
        for number in range(10 * QUANTUM):
            await publish(bus, number)
            published += 1
    assert scope.cancelled_caught
    assert published <= QUANTUM
    assert inbox.statistics().accepted == published


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "reject"])
async def test_a_publisher_to_a_full_inbox_without_a_wait_is_cancelled(
    overflow: str,
) -> None:
    """A publisher to a full inbox that refuses at once lets others run, and can be cancelled."""
    bus = bus_of(Subscriber("full", buffer=1, overflow=overflow))
    published = turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        for number in range(4 * QUANTUM + 1):
            await publish(bus, number)
        assert turns >= 2  # Of four; in the first it began, and in the last it may be second.
        with trio.CancelScope() as scope:
            scope.cancel()
            for number in range(10 * QUANTUM):
                await publish(bus, number)
                published += 1
        assert scope.cancelled_caught
        assert published <= QUANTUM
        nursery.cancel_scope.cancel()


async def test_a_publisher_that_takes_its_time_is_cancelled_at_its_next_event() -> None:
    """One that works between its events, for a reader who is idle meanwhile, need not be fast."""
    subscriber = Subscriber("idle", buffer=10)
    bus = bus_of(subscriber)
    published = 0

    async def handle(event: Event) -> None:
        assert event is not None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle_plain, subscriber.inbox, handle)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            for number in range(QUANTUM):
                delivery = Delivery[Event](Ping(number), published=number / 1000, is_plain=True)
                await bus.publish([delivery])
                published += 1
        assert scope.cancelled_caught
        assert published == 1
        nursery.cancel_scope.cancel()


async def test_to_publish_nothing_is_a_checkpoint() -> None:
    """A publisher with nothing to publish lets others on."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await bus_of().publish([])
    assert scope.cancelled_caught


async def test_a_publisher_without_subscribers_lets_others_have_their_turn() -> None:
    """Publishing is a checkpoint once in so many events, also without a subscriber."""
    bus = bus_of(Subscriber("inbox"))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        for number in range(4 * QUANTUM + 1):
            await publish(bus, number, Pong)
        nursery.cancel_scope.cancel()
    assert turns >= 2


async def test_a_publisher_cancelled_while_it_waits_leaves_every_queue(
    autojump_clock: MockClock,
) -> None:
    """A subscriber that took the event keeps it; elsewhere it is not counted, and blocks nobody."""
    free = Subscriber("free", buffer=10)
    full = [Subscriber(name, block_for=60) for name in ("a", "b")]
    bus = bus_of(*full, free)
    await publish(bus, 1)
    with trio.move_on_after(2) as scope:
        await publish(bus, 2)
    assert scope.cancelled_caught
    assert free.read_all() == [1, 2]
    for subscriber in full:
        statistics = subscriber.statistics()
        assert (statistics.accepted, statistics.rejected, statistics.dropped) == (1, 0, 0)
        assert subscriber.read() == 1
    assert (await publish(bus, 3)).fates == {
        "a": Fate.QUEUED,
        "b": Fate.QUEUED,
        "free": Fate.QUEUED,
    }


async def test_the_close_of_an_inbox_ends_the_wait_for_it(autojump_clock: MockClock) -> None:
    """A publisher that waits when the plugin stops is told at once that it was rejected."""
    full, other = Subscriber("full", block_for=60), Subscriber("other", block_for=4)
    bus = bus_of(full, other)
    await publish(bus, 1)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def second() -> None:
            outcome = await publish(bus, 2)
            assert outcome.fates == {"full": Fate.REJECTED, "other": Fate.REJECTED}
            assert trio.current_time() - began == 4

        await trio.sleep(1)
        full.inbox.close()
        assert full.statistics().rejected == 1


async def test_a_closed_inbox_rejects_at_once(autojump_clock: MockClock) -> None:
    """A closed inbox rejects whatever the policy and the room are, and the others accept."""
    closed, other = Subscriber("closed", overflow="drop_oldest"), Subscriber("other")
    closed.inbox.close()
    bus = bus_of(closed, other)
    outcome = await publish(bus, 1)
    assert outcome.fates == {"closed": Fate.REJECTED, "other": Fate.QUEUED}


async def test_a_flooding_publisher_lets_others_have_their_turn() -> None:
    """A publisher that never waits for room gives way after so many events."""
    inbox = Subscriber("inbox", buffer=10_000)
    bus = bus_of(inbox)
    seen = [0]

    async def flood() -> None:
        for number in range(8 * QUANTUM):
            await publish(bus, number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        while seen[-1] < 8 * QUANTUM:
            await trio.lowlevel.checkpoint()
            seen.append(inbox.statistics().accepted)
    most = max(later - earlier for earlier, later in pairwise(seen))
    assert most <= 2 * QUANTUM  # The last in one round of the tasks may be the first in the next.
