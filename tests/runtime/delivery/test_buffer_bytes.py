"""An inbox is bounded in memory as well as in number, by what each event from outside takes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Delivery, DeliverySettings, Event, EventPlugin, Fate
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._bus import Bus, Subscription
from trivet._delivery._memory import Memory
from trivet._delivery._publisher import Publisher
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._events._types import EventTypes
from trivet.testing import client, open_plugins


class Ping(Event):
    number: int = 0


def ping(size: int) -> Delivery[Event]:
    """An event that came from outside; what the program publishes itself has no size."""
    return Delivery.of(Ping(), size=size)


def inbox(buffer_bytes: int = 100) -> BoundedInbox:
    """With room for many events, but few bytes."""
    return BoundedInbox("p", DeliveryPolicy(buffer=1000, buffer_bytes=buffer_bytes))


def bus(to: BoundedInbox, **said: object) -> Bus:
    """With this inbox at its end, to which events go as `said`."""
    policy = attrs.evolve(to.policy, **said)  # type: ignore[arg-type]
    return Bus([Subscription("p", Ping, to, policy)])


def test_an_inbox_takes_in_as_many_bytes_as_it_has_room_for() -> None:
    """Forty and sixty fit into a hundred; one more does not, and there is room when one ends."""
    full = inbox()
    assert full.admission.offer(ping(40)) is Fate.QUEUED
    assert full.admission.offer(ping(60)) is Fate.QUEUED
    assert full.admission.offer(ping(1)) is None
    assert (full.admission.room_bytes, full.statistics().bytes) == (0, 100)
    first = full.receive_nowait()
    assert full.admission.offer(ping(1)) is None  # What is in flight is in memory, too.
    full.accept(first)
    assert full.admission.offer(ping(40)) is Fate.QUEUED
    assert full.statistics().bytes == 100


def test_an_event_of_the_program_itself_counts_as_nothing() -> None:
    """An inbox that is full of bytes has room for an event of the program itself."""
    full = inbox()
    assert full.admission.offer(ping(100)) is Fate.QUEUED
    assert full.admission.offer(ping(0)) is Fate.QUEUED


def test_an_event_that_is_too_large_alone_is_refused_at_once() -> None:
    """An event larger than all the room is refused at once, even by an empty inbox."""
    empty = inbox()
    assert empty.admission.offer(ping(101)) is not None
    assert empty.statistics().accepted == 0


@pytest.mark.parametrize("ends", ["accept", "reject", "expire"])
async def test_every_end_of_an_event_frees_its_bytes(ends: str) -> None:
    """The bytes of an event are free again when it was handled, has failed or has expired."""
    one = inbox()
    one.admission.offer(ping(100))
    delivery = one.receive_nowait()
    if ends == "reject":
        one.reject(delivery, ValueError())
    else:
        getattr(one, ends)(delivery)
    assert one.statistics().bytes == 0


async def test_an_event_that_backs_off_takes_its_bytes(autojump_clock: MockClock) -> None:
    """An event that backs off takes memory until it is tried again."""
    policy = DeliveryPolicy(buffer=9, buffer_bytes=100, retry=True, retry_initial=1.0)
    one = BoundedInbox("p", policy)
    one.admission.offer(ping(100))
    one.reject(one.receive_nowait(), ValueError())
    assert (one.statistics().backing_off, one.statistics().bytes) == (1, 100)
    one.accept(await one.receive())
    assert one.statistics().bytes == 0


async def test_a_publisher_waits_for_bytes(autojump_clock: MockClock) -> None:
    """A publisher waits until there is room in bytes, or its time is over."""
    full = inbox()
    full.admission.offer(ping(80))
    outcomes: list[Fate] = []

    async def publish() -> None:
        (outcome,) = await bus(full, block_for=10.0).publish([ping(30)])
        outcomes.append(outcome.fates["p"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        assert outcomes == []
        full.accept(full.receive_nowait())
    assert outcomes == [Fate.QUEUED]
    assert trio.current_time() < 1


async def test_small_events_do_not_starve_a_large_one(autojump_clock: MockClock) -> None:
    """The first publisher is let in first, though the others would have had room."""
    full = inbox()
    full.admission.offer(ping(60))
    full.admission.offer(ping(40))
    to = bus(full, block_for=10.0)
    async with trio.open_nursery() as nursery:
        for size in (90, 5, 0):
            nursery.start_soon(to.publish, [ping(size)])
            await wait_all_tasks_blocked()
        full.accept(full.receive_nowait())
        assert full.statistics().queued == 1  # Nobody yet: the first does not fit.
        full.accept(full.receive_nowait())
    assert [full.receive_nowait().size for _ in range(3)] == [90, 5, 0]


async def test_waiting_events_are_bounded_in_memory(autojump_clock: MockClock) -> None:
    """Events that wait may take as much as those inside; for more, `on_full` decides at once."""
    full = inbox()
    full.admission.offer(ping(100))
    to = bus(full, block_for=10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(to.publish, [ping(70)])
        await wait_all_tasks_blocked()
        (outcome,) = await to.publish([ping(40)])
        assert (outcome.fates["p"], trio.current_time() < 1) == (Fate.REJECTED, True)
        nursery.start_soon(to.publish, [ping(30)])
        await wait_all_tasks_blocked()
        full.accept(full.receive_nowait())
    assert full.statistics().bytes == 100


async def test_the_oldest_make_room_for_a_large_one(autojump_clock: MockClock) -> None:
    """The oldest are dropped until there is room, and no more of them."""
    full = inbox()
    for size in (30, 30, 30, 10):
        full.admission.offer(ping(size))
    (outcome,) = await bus(full, overflow="drop_oldest").publish([ping(50)])
    assert outcome.fates["p"] is Fate.QUEUED
    assert (full.statistics().dropped, full.statistics().bytes) == (2, 90)


async def test_an_event_that_can_never_come_in_is_refused_for_good(
    autojump_clock: MockClock,
) -> None:
    """An event larger than all the room is unacceptable, without a wait."""
    full = inbox()
    (outcome,) = await bus(full, block_for=60.0).publish([ping(101)])
    assert outcome.fates == {"p": Fate.UNACCEPTABLE}
    assert outcome.refusals["p"].is_too_large
    assert full.statistics().unacceptable == 1
    assert trio.current_time() == 0


async def test_nothing_is_dropped_in_vain(autojump_clock: MockClock) -> None:
    """Events in flight stay: where they leave no room, the new event is refused."""
    full = inbox()
    full.admission.offer(ping(60))
    full.receive_nowait()
    full.admission.offer(ping(20))
    (outcome,) = await bus(full, overflow="drop_oldest").publish([ping(50)])
    assert outcome.fates["p"] is Fate.REJECTED
    assert (full.statistics().dropped, full.statistics().queued) == (0, 1)


async def test_room_that_a_large_event_leaves_is_for_waiting_publishers(
    autojump_clock: MockClock,
) -> None:
    """A waiting publisher gets the room that a dropped large event leaves beside a small one."""
    full = inbox()
    full.admission.offer(ping(90))
    waiting = full.admission.queue_up(ping(60))
    full.admission.overflow(ping(20), "drop_oldest")
    assert (full.statistics().dropped, waiting.fate) == (1, Fate.QUEUED)


def test_an_abandoned_inbox_has_no_bytes() -> None:
    """An abandoned inbox counts no bytes of events that were in flight or queued."""
    one = inbox()
    one.admission.offer(ping(20))
    one.admission.offer(ping(20))
    one.receive_nowait()
    one.abandon()
    assert one.statistics().bytes == 0


class Pong(Event):
    pass


@pytest.mark.parametrize("overflow", ["block", "reject", "drop_newest"])
async def test_room_that_an_event_of_a_batch_has_made_is_for_the_next(
    autojump_clock: MockClock, overflow: str
) -> None:
    """An event that drops two others leaves room for the one behind it in its batch, which is let
    in, whatever its policy is for a full inbox."""
    full = BoundedInbox("p", DeliveryPolicy(buffer=2, buffer_bytes=100))
    drops = attrs.evolve(full.policy, overflow="drop_oldest")
    waits = attrs.evolve(full.policy, overflow=overflow, block_for=0.0)  # type: ignore[arg-type]
    to = Bus([Subscription("p", Ping, full, drops), Subscription("p", Pong, full, waits)])
    await to.publish([ping(50), ping(50)])
    outcomes = await to.publish([ping(100), Delivery.of(Pong())])
    assert [outcome.worst for outcome in outcomes] == [Fate.QUEUED, Fate.QUEUED]


# The memory that all inboxes of a program share.


def inboxes(*names: str, limit: int = 100, **policy: object) -> tuple[Memory, list[BoundedInbox]]:
    """Inboxes that share a memory, each with as much of its own."""
    memory = Memory(limit)
    said: Any = {"buffer": 1000, "buffer_bytes": limit, **policy}
    return memory, [BoundedInbox(name, DeliveryPolicy(**said), memory=memory) for name in names]


def to_each(each: list[BoundedInbox], **said: object) -> Bus:
    """A bus with these inboxes at its end."""
    policies: Any = [attrs.evolve(inbox.policy, **said) for inbox in each]  # type: ignore[arg-type]
    together = zip(each, policies, strict=True)
    return Bus([Subscription(inbox.fast_path.plugin, Ping, inbox, how) for inbox, how in together])


def test_an_inbox_takes_no_more_than_it_leaves_free() -> None:
    """One that lags behind takes half of the memory, and the next one half of the rest."""
    memory, (one, other) = inboxes("one", "other")
    assert one.admission.offer(ping(50)) is Fate.QUEUED
    assert one.admission.offer(ping(1)) is None
    assert one.admission.room_bytes == 0
    assert other.admission.room_bytes == 25
    assert other.admission.offer(ping(25)) is Fate.QUEUED
    assert other.admission.offer(ping(1)) is None
    assert memory.bytes == 75


def test_events_of_the_program_itself_need_no_memory() -> None:
    """An event without a size comes in, however little memory is left."""
    _, (one, other) = inboxes("one", "other", limit=2)
    assert one.admission.offer(ping(1)) is Fate.QUEUED
    assert other.admission.offer(ping(1)) is None
    assert other.admission.offer(ping(0)) is Fate.QUEUED


async def test_a_publisher_waits_for_the_memory_of_another_inbox(
    autojump_clock: MockClock,
) -> None:
    """A publisher that waits at an inbox is let in when another inbox gives memory back."""
    memory, (one, other) = inboxes("one", "other")
    one.admission.offer(ping(50))
    bus, outcomes = to_each([other], block_for=10.0), list[Fate]()

    async def publish() -> None:
        (outcome,) = await bus.publish([ping(30)])
        outcomes.append(outcome.fates["other"])

    async with trio.open_nursery() as nursery:
        other.admission.offer(ping(20))
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        assert outcomes == []
        one.accept(one.receive_nowait())
    assert (outcomes, trio.current_time()) == ([Fate.QUEUED], 0.0)
    assert memory.bytes == 50


async def test_a_publisher_without_memory_is_refused_in_time(autojump_clock: MockClock) -> None:
    """Each policy decides as at a full inbox if no memory comes back."""
    _, (one, other) = inboxes("one", "other")
    one.admission.offer(ping(50))
    other.admission.offer(ping(20))
    (outcome,) = await to_each([other], block_for=2.0).publish([ping(40)])
    assert (outcome.fates["other"], trio.current_time()) == (Fate.REJECTED, 2.0)
    (outcome,) = await to_each([other], overflow="drop_new").publish([ping(40)])
    assert outcome.fates["other"] is Fate.DROPPED


async def test_the_oldest_of_an_inbox_make_room_in_the_memory(autojump_clock: MockClock) -> None:
    """An inbox drops its own oldest, as many as are needed, and none if they would not do; what
    they leave is for publishers at other inboxes only when the new event is in."""
    memory, (one, other) = inboxes("one", "other")
    one.admission.offer(ping(20))
    for _ in range(3):
        other.admission.offer(ping(10))
    waiting = one.admission.queue_up(ping(20))
    bus = to_each([other], overflow="drop_oldest")
    (outcome,) = await bus.publish([ping(20)])
    assert (outcome.fates["other"], other.statistics().dropped) == (Fate.QUEUED, 1)
    assert waiting.fate is None
    (outcome,) = await bus.publish([ping(50)])
    assert (outcome.fates["other"], other.statistics().dropped) == (Fate.REJECTED, 1)
    assert memory.bytes == 60
    one.admission.withdraw(waiting)


async def test_publishers_that_wait_are_bounded_together(autojump_clock: MockClock) -> None:
    """The events that wait at all inboxes together may take as much as those inside."""
    _, (one, other) = inboxes("one", "other")
    one.admission.queue_up(ping(70))
    assert other.admission.may_wait(ping(30))
    assert not other.admission.may_wait(ping(31))


async def test_an_event_for_several_inboxes_finds_memory_for_all(
    autojump_clock: MockClock,
) -> None:
    """An event that is handed over without a wait has memory at each subscriber, or is not."""
    memory, both = inboxes("one", "other", block_for=5.0)
    publisher = Publisher(to_each(both), "service", EventTypes([Ping]))
    assert publisher.hand_over(ping(25))
    assert memory.bytes == 50
    assert not publisher.hand_over(ping(20))
    assert memory.bytes == 50


@given(st.data())
def test_the_memory_is_the_sum_of_the_inboxes(data: st.DataObject) -> None:
    """The memory is what the inboxes count, and within its limit, whatever comes and ends."""
    memory, several = inboxes("a", "b", "c")
    held: list[tuple[BoundedInbox, Delivery[Any]]] = []
    for _ in range(data.draw(st.integers(1, 40))):
        one = data.draw(st.sampled_from(several))
        step = data.draw(st.sampled_from(["offer", "drop", "take", "end", "return", "abandon"]))
        if step == "offer":
            one.admission.offer(ping(data.draw(st.integers(0, 60))))
        elif step == "drop":
            new = ping(data.draw(st.integers(0, 60)))
            if one.admission.offer(new) is None:
                one.admission.overflow(new, "drop_oldest")
        elif step == "take" and (taken := one.take()) is not None:
            held.append((one, taken))
        elif step == "end" and held:
            owner, taken = held.pop()
            owner.accept(taken)
        elif step == "return":
            one.lifetime_ended(crashed=False)
            held = [each for each in held if each[0] is not one]
        elif step == "abandon":
            one.abandon()
            one.reopen()
            held = [each for each in held if each[0] is not one]
        assert memory.bytes == sum(each.statistics().bytes for each in several)
        assert memory.bytes <= 100


async def test_a_durable_inbox_waits_on_disk(autojump_clock: MockClock) -> None:
    """A durable inbox takes events in whatever the memory is: what waits is on its disk."""

    class Keeper(EventPlugin[Ping]):
        delivery = DeliverySettings(durable=True)

        async def handle_event(self, event: Ping) -> None:
            await trio.sleep(1)

    async with open_plugins(Keeper, buffer_bytes=1000) as runtime:
        for _ in range(10):
            (outcome,) = await runtime.publish_many([ping(400)])
            assert outcome.accepted
        assert 0 < runtime.memory.bytes <= 500
        await trio.sleep(20)
        assert runtime.statistics()["keeper"].handled == 10
        assert runtime.memory.bytes == 0


async def test_the_setting_bounds_one_event(autojump_clock: MockClock) -> None:
    """An event larger than half of the program's memory is too large for each inbox."""

    class Reader(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            pass

    async with open_plugins(Reader, buffer_bytes=1000) as runtime:
        assert runtime.buffer_bytes(Ping) == 500
        answer = await client(runtime).post("/events/ping", json={"number": 1, "more": "x" * 2000})
        assert answer.status_code == 413
