"""An inbox is bounded in memory as well as in number, by what each event from outside takes."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Delivery, Event, Fate
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._bus import Bus, Subscription
from trivet._events._delivery_settings import DeliveryPolicy


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


async def test_room_that_an_event_of_a_batch_has_made_is_for_the_next(
    autojump_clock: MockClock,
) -> None:
    """An event that drops two others leaves room for the one behind it in its batch, which does not
    wait for that in vain."""
    full = BoundedInbox("p", DeliveryPolicy(buffer=2, buffer_bytes=100))
    drops = attrs.evolve(full.policy, overflow="drop_oldest")
    waits = attrs.evolve(full.policy, overflow="block", block_for=0.0)
    to = Bus([Subscription("p", Ping, full, drops), Subscription("p", Pong, full, waits)])
    await to.publish([ping(50), ping(50)])
    outcomes = await to.publish([ping(100), Delivery.of(Pong())])
    assert [outcome.worst for outcome in outcomes] == [Fate.QUEUED, Fate.QUEUED]
