"""The inbox in memory: order, room, what is in flight, and what becomes of each event."""

from __future__ import annotations

import math

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trivet import Delivery, Event, Fate, InboxStatistics, current_delivery
from trivet._delivery._bounded import BoundedInbox
from trivet._events._delivery import Receipt, delivery_of_task
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._inbox._quantum import READ
from trivet._inbox._workers import handle_plain


class Ping(Event):
    number: int


NOTHING = InboxStatistics(**dict.fromkeys(attrs.fields_dict(InboxStatistics), 0))


def ping(number: int, *, deadline: float = math.inf) -> Delivery[Event]:
    """An event whose id is its number, with a receipt to see what becomes of it."""
    return Delivery.of(Ping(number), id=str(number), deadline=deadline, receipt=Receipt())


def fate(delivery: Delivery[Event]) -> Fate:
    """The last word on an event."""
    assert delivery.receipt is not None
    return delivery.receipt.fates["p"]


def inbox_with(*deliveries: Delivery[Event], buffer: int = 100, limit: int = 3) -> BoundedInbox:
    """An inbox that has accepted these."""
    inbox = BoundedInbox("p", DeliveryPolicy(buffer=buffer, delivery_limit=limit))
    for delivery in deliveries:
        assert inbox.admission.offer(delivery) is Fate.QUEUED
    return inbox


def pings(count: int) -> list[Delivery[Event]]:
    """Events 1 to `count`."""
    return [ping(number) for number in range(1, count + 1)]


def counts(inbox: BoundedInbox, **expected: int) -> None:
    """Check all the counters, those that are not named being zero."""
    assert inbox.statistics() == attrs.evolve(NOTHING, **expected)


# Room


async def test_an_inbox_takes_in_as_many_as_it_has_room_for() -> None:
    """An event that finds room is queued; any other is nothing yet, and counted nowhere."""
    inbox = inbox_with(*pings(2), buffer=2)
    third = ping(3)
    assert inbox.admission.offer(third) is None
    assert third.receipt is not None
    assert third.receipt.fates == {}
    counts(inbox, accepted=2, queued=2)


async def test_reject_refuses_an_event_beyond_the_limit() -> None:
    """A rejected event was never accepted, and the queued events stay."""
    inbox = inbox_with(*pings(2), buffer=2)
    late = ping(3)
    assert inbox.admission.overflow(late, "reject") is fate(late) is Fate.REJECTED
    assert [inbox.receive_nowait().id, inbox.receive_nowait().id] == ["1", "2"]
    counts(inbox, accepted=2, in_flight=2, rejected=1)


async def test_drop_newest_ends_an_event_beyond_the_limit() -> None:
    """The newest event is accepted and dropped, and the queued events stay."""
    inbox = inbox_with(*pings(2), buffer=2)
    late = ping(3)
    assert inbox.admission.overflow(late, "drop_newest") is fate(late) is Fate.DROPPED
    assert [inbox.receive_nowait().id, inbox.receive_nowait().id] == ["1", "2"]
    counts(inbox, accepted=3, in_flight=2, dropped=1)


async def test_drop_oldest_makes_room() -> None:
    """The one that waits longest is dropped, and the new one queued behind the others."""
    first, second = pings(2)
    inbox = inbox_with(first, second, buffer=2)
    late = ping(3)
    assert inbox.admission.overflow(late, "drop_oldest") is fate(late) is Fate.QUEUED
    assert (fate(first), fate(second)) == (Fate.DROPPED, Fate.QUEUED)
    assert [inbox.receive_nowait().id, inbox.receive_nowait().id] == ["2", "3"]
    counts(inbox, accepted=3, in_flight=2, dropped=1)


# Publishers who wait


async def test_waiting_publishers_are_let_in_one_by_one_in_order() -> None:
    """Each event that is taken out lets the longest waiting publisher in, behind the queued
    events."""
    first, second, third, fourth = pings(4)
    inbox = inbox_with(first, buffer=1)
    places = [inbox.admission.queue_up(delivery) for delivery in (second, third, fourth)]
    assert inbox.receive_nowait() is first
    assert [place.fate for place in places] == [Fate.QUEUED, None, None]
    counts(inbox, accepted=2, queued=1, in_flight=1)
    assert await inbox.receive() is second
    assert [place.fate for place in places] == [Fate.QUEUED, Fate.QUEUED, None]
    assert inbox.receive_nowait() is third
    assert inbox.receive_nowait() is fourth
    counts(inbox, accepted=4, in_flight=4)


async def test_no_publisher_overtakes_a_waiting_one() -> None:
    """While a publisher waits, a newcomer finds no room, however much there is."""
    inbox = inbox_with(ping(1), buffer=1)
    place = inbox.admission.queue_up(ping(2))
    assert inbox.admission.offer(ping(3)) is None
    inbox.admission.withdraw(place)
    assert inbox.receive_nowait().id == "1"
    assert inbox.admission.offer(ping(3)) is Fate.QUEUED


async def test_no_publisher_overtakes_while_a_reader_is_on_its_way() -> None:
    """A place that a reader has just left free is that of the waiting publisher."""
    let_in: set[Fate | None] = set()
    for _ in range(20):  # Who of the two tasks comes first is left to chance.
        first, waiting, late = pings(3)
        inbox = inbox_with(first, buffer=1)
        place = inbox.admission.queue_up(waiting)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.receive)
            await trio.lowlevel.checkpoint()
            assert inbox.admission.offer(late) is None
        let_in.add(place.fate)
    assert let_in == {Fate.QUEUED}


async def test_a_publisher_that_withdraws_is_not_counted() -> None:
    """A publisher that leaves the queue leaves nothing behind, and the next moves up."""
    inbox = inbox_with(ping(1), buffer=1)
    second, third = ping(2), ping(3)
    gone, stays = inbox.admission.queue_up(second), inbox.admission.queue_up(third)
    inbox.admission.withdraw(gone)
    inbox.admission.withdraw(gone)
    inbox.receive_nowait()
    assert (gone.fate, stays.fate) == (None, Fate.QUEUED)
    inbox.admission.withdraw(stays)
    assert inbox.receive_nowait() is third
    counts(inbox, accepted=2, in_flight=2)


async def test_an_event_for_a_woken_reader_takes_room() -> None:
    """An event that wakes a reader takes room until that reader runs."""
    first, second = pings(2)
    inbox = inbox_with(buffer=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.receive)
        await wait_all_tasks_blocked()
        assert inbox.admission.offer(first) is Fate.QUEUED
        assert inbox.admission.offer(second) is None
        place = inbox.admission.queue_up(second)
    assert (fate(first), place.fate) == (Fate.IN_FLIGHT, Fate.QUEUED)
    counts(inbox, accepted=2, queued=1, in_flight=1)


# Reading


async def test_receive_waits_for_an_event() -> None:
    """An event is in flight once it was taken, until it is done."""
    inbox = inbox_with()
    delivery = ping(1)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            got = await inbox.receive()
            assert got is delivery
            counts(inbox, accepted=1, in_flight=1)
            assert fate(delivery) is Fate.IN_FLIGHT
            inbox.accept(got)

        await wait_all_tasks_blocked()
        assert inbox.admission.offer(delivery) is Fate.QUEUED
        counts(inbox, accepted=1, queued=1)
    counts(inbox, accepted=1, handled=1)
    assert fate(delivery) is Fate.HANDLED


async def test_receive_is_always_a_checkpoint() -> None:
    """`receive` is a checkpoint with an event in the inbox, and with one that a crash gave back."""
    inbox = inbox_with(ping(1), ping(2))
    inbox.receive_nowait()
    inbox.lifetime_ended(crashed=True)
    with assert_checkpoints():
        assert (await inbox.receive()).id == "1"
    with assert_checkpoints():
        assert (await inbox.receive()).id == "2"


@pytest.mark.parametrize("returned", [False, True])
async def test_a_cancelled_receive_takes_nothing(returned: bool) -> None:
    """An event that a reader was about to get waits for the next reader."""
    inbox = inbox_with(ping(1))
    if returned:
        inbox.receive_nowait()
        inbox.lifetime_ended(crashed=True)
    with trio.move_on_after(0) as scope:
        await inbox.receive()
    assert scope.cancelled_caught
    counts(inbox, accepted=1, queued=1)
    assert (await inbox.receive()).id == "1"


async def test_receive_nowait_does_not_wait() -> None:
    """`receive_nowait` raises `WouldBlock` for an empty inbox, and `EndOfChannel` for a closed
    one."""
    inbox = inbox_with()
    with pytest.raises(trio.WouldBlock):
        inbox.receive_nowait()
    inbox.close()
    with pytest.raises(trio.EndOfChannel):
        inbox.receive_nowait()


async def test_two_readers_share_the_events() -> None:
    """Each event goes to one of two readers, also an event that a crash gave back."""
    inbox = inbox_with(ping(1), ping(2))
    inbox.receive_nowait()
    inbox.lifetime_ended(crashed=True)
    got: list[str] = []

    async def read() -> None:
        got.append((await inbox.receive()).id)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert sorted(got) == ["1", "2"]
        inbox.admission.offer(ping(3))
    assert sorted(got) == ["1", "2", "3"]
    counts(inbox, accepted=3, in_flight=3)


async def test_an_event_ends_once() -> None:
    """`done` and `fail` on what has ended, or was never in flight, change nothing."""
    inbox = inbox_with(*pings(2))
    first, second = inbox.receive_nowait(), inbox.receive_nowait()
    inbox.reject(first, ValueError())
    inbox.accept(second)
    for delivery in (first, second, ping(3)):
        inbox.accept(delivery)
        inbox.reject(delivery, ValueError())
    counts(inbox, accepted=2, handled=1, failed=1)
    assert (fate(first), fate(second)) == (Fate.FAILED, Fate.HANDLED)


async def test_a_failure_is_logged_with_the_events_identity() -> None:
    """The line has the plugin, the event and the exception."""
    inbox = inbox_with(Delivery.of(Ping(1), id="1", request_id="1,r"))
    error = ValueError("no")
    with capture_logs() as lines:
        inbox.reject(inbox.receive_nowait(), error)
    (line,) = lines
    assert (line["log_level"], line["plugin"], line["exc_info"]) == ("error", "p", error)
    assert (line["event_type"], line["event_id"], line["request_id"]) == ("ping", "1", "1,r")


# Expiry


async def test_an_expired_event_is_not_handed_out(autojump_clock: MockClock) -> None:
    """An event past its deadline is counted as expired when its turn comes, not before."""
    now = trio.current_time()
    late, timely = ping(1, deadline=now + 1), ping(2, deadline=now + 9)
    on_the_dot = ping(3, deadline=now + 2)
    inbox = inbox_with(late, timely, on_the_dot)
    await trio.sleep(2)
    counts(inbox, accepted=3, queued=3)
    assert inbox.receive_nowait() is timely
    with pytest.raises(trio.WouldBlock):
        inbox.receive_nowait()
    assert (fate(late), fate(on_the_dot)) == (Fate.EXPIRED, Fate.EXPIRED)
    counts(inbox, accepted=3, in_flight=1, expired=2)


async def test_a_reader_that_waits_is_not_woken_for_an_expired_event(
    autojump_clock: MockClock,
) -> None:
    """`receive` goes on to the next event that is worth handling."""
    inbox = inbox_with()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            assert (await inbox.receive()).id == "2"

        await wait_all_tasks_blocked()
        inbox.admission.offer(ping(1, deadline=trio.current_time()))
        await wait_all_tasks_blocked()
        counts(inbox, accepted=1, expired=1)
        inbox.admission.offer(ping(2))
    counts(inbox, accepted=2, in_flight=1, expired=1)


async def test_expiry_makes_room(autojump_clock: MockClock) -> None:
    """An expired event that leaves lets in the publisher that waits, by either way of reading."""
    for nowait in (True, False):
        inbox = inbox_with(ping(1, deadline=trio.current_time()), buffer=1)
        inbox.admission.queue_up(ping(2))
        got = inbox.receive_nowait() if nowait else await inbox.receive()
        assert got.id == "2"
        counts(inbox, accepted=2, in_flight=1, expired=1)


async def test_a_redelivered_event_expires_too(autojump_clock: MockClock) -> None:
    """An event that a crash gave back is not handed out after its deadline."""
    inbox = inbox_with(ping(1, deadline=trio.current_time() + 1))
    inbox.receive_nowait()
    inbox.lifetime_ended(crashed=True)
    await trio.sleep(1)
    with pytest.raises(trio.WouldBlock):
        inbox.receive_nowait()
    counts(inbox, accepted=1, expired=1)


# Crashes


async def test_a_crash_gives_back_events_in_flight() -> None:
    """Events in flight come back in order, before the queued ones, as a further attempt."""
    inbox = inbox_with(*(sent := pings(4)))
    first, second, third = [inbox.receive_nowait() for _ in range(3)]
    inbox.accept(second)
    inbox.lifetime_ended(crashed=True)
    counts(inbox, accepted=4, queued=3, handled=1)
    assert (fate(first), fate(third)) == (Fate.QUEUED, Fate.QUEUED)
    again = [inbox.receive_nowait() for _ in range(3)]
    assert [(delivery.id, delivery.attempt) for delivery in again] == [("1", 2), ("3", 2), ("4", 1)]
    assert again[0].time == sent[0].time
    assert again[0].receipt is sent[0].receipt
    counts(inbox, accepted=4, in_flight=3, handled=1)


async def test_a_former_lifetimes_word_does_not_count() -> None:
    """`done` on a delivery that a crash took back does not end the redelivered one."""
    inbox = inbox_with(ping(1))
    former = inbox.receive_nowait()
    inbox.lifetime_ended(crashed=True)
    inbox.accept(former)
    again = inbox.receive_nowait()
    inbox.reject(former, ValueError())
    counts(inbox, accepted=1, in_flight=1)
    inbox.accept(again)
    counts(inbox, accepted=1, handled=1)


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_an_event_is_handed_out_up_to_the_delivery_limit(limit: int) -> None:
    """An event fails after as many crashes as the limit, with a line in the log, and the next
    follows."""
    sent = pings(2)
    inbox = inbox_with(*sent, limit=limit)
    with capture_logs() as lines:
        for attempt in range(1, limit + 1):
            assert lines == []
            delivery = inbox.receive_nowait()
            assert (delivery.id, delivery.attempt) == ("1", attempt)
            inbox.lifetime_ended(crashed=True)
    (line,) = lines
    assert (line["event_id"], line["crashes"], line["plugin"]) == ("1", limit, "p")
    counts(inbox, accepted=2, queued=1, failed=1)
    assert fate(sent[0]) is Fate.FAILED
    assert inbox.receive_nowait().id == "2"


async def test_crash_after_crash_keeps_the_order() -> None:
    """Events given back and not taken yet stay behind those that are given back again."""
    inbox = inbox_with(*pings(3))
    for _ in range(3):
        inbox.receive_nowait()
    inbox.lifetime_ended(crashed=True)
    inbox.receive_nowait()
    inbox.lifetime_ended(crashed=True)
    again = [inbox.receive_nowait() for _ in range(3)]
    assert [(delivery.id, delivery.attempt) for delivery in again] == [("1", 3), ("2", 2), ("3", 2)]


async def test_a_lifetime_reads_its_inbox_or_does_not() -> None:
    """`is_read` says whether the plugin has asked for an event since its last start."""
    inbox = inbox_with(ping(1))
    assert not inbox.is_read
    inbox.receive_nowait()
    assert inbox.is_read
    inbox.lifetime_ended(crashed=True)
    assert not inbox.is_read


async def test_to_wait_for_an_event_is_to_read() -> None:
    """A plugin that has asked, and got nothing yet, reads its inbox."""
    inbox = inbox_with()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.receive)
        await wait_all_tasks_blocked()
        assert inbox.is_read
        inbox.admission.offer(ping(1))


# The end


async def test_a_closed_inbox_lets_nothing_in() -> None:
    """Events inside can be read, new ones are rejected."""
    inbox = inbox_with(ping(1))
    inbox.close()
    inbox.close()
    late = ping(2)
    assert inbox.admission.offer(late) is fate(late) is Fate.REJECTED
    assert inbox.receive_nowait().id == "1"
    with pytest.raises(trio.EndOfChannel):
        inbox.receive_nowait()
    counts(inbox, accepted=1, in_flight=1, rejected=1)


async def test_a_crash_while_draining_gives_back_to_a_closed_inbox() -> None:
    """Events given back after the close can still be read, and then iteration ends."""
    inbox = inbox_with(ping(1))
    inbox.close()
    inbox.receive_nowait()
    inbox.lifetime_ended(crashed=True)
    assert inbox.receive_nowait().attempt == 2
    with pytest.raises(trio.EndOfChannel):
        inbox.receive_nowait()


async def test_publishers_that_wait_at_the_close_are_rejected() -> None:
    """Every publisher in the queue is told of the close, and none gets in later."""
    inbox = inbox_with(ping(1), buffer=1)
    waiting = ping(2), ping(3)
    places = [inbox.admission.queue_up(delivery) for delivery in waiting]
    inbox.close()
    assert [place.fate for place in places] == [Fate.REJECTED, Fate.REJECTED]
    assert [fate(delivery) for delivery in waiting] == [Fate.REJECTED, Fate.REJECTED]
    inbox.receive_nowait()
    counts(inbox, accepted=1, in_flight=1, rejected=2)


async def test_the_close_ends_a_waiting_reader() -> None:
    """Iteration ends when the inbox is closed and empty."""
    inbox = inbox_with()
    ended = False

    async def read() -> None:
        nonlocal ended
        async for _ in inbox:
            raise AssertionError("there is nothing")
        ended = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        inbox.close()
    assert ended


async def test_events_left_at_the_end_are_abandoned() -> None:
    """Events in flight, given back and waiting are abandoned, with one line in the log."""
    sent = pings(5)
    inbox = inbox_with(*sent[:4], buffer=4)
    for _ in range(2):
        inbox.receive_nowait()
    inbox.lifetime_ended(crashed=True)
    inbox.receive_nowait()
    assert inbox.admission.offer(sent[4]) is Fate.QUEUED
    waiting = inbox.admission.queue_up(ping(6))
    with capture_logs() as lines:
        inbox.abandon()
        inbox.abandon()
    assert [fate(delivery) for delivery in sent] == [Fate.ABANDONED] * 5
    assert waiting.fate is Fate.REJECTED
    counts(inbox, accepted=5, abandoned=5, rejected=1)
    (line,) = lines
    assert (line["log_level"], line["count"], line["plugin"]) == ("error", 5, "p")
    assert inbox.admission.offer(ping(7)) is Fate.REJECTED


async def test_an_empty_inbox_is_abandoned_silently() -> None:
    """An empty inbox that is abandoned logs nothing."""
    inbox = inbox_with(ping(1))
    inbox.accept(inbox.receive_nowait())
    with capture_logs() as lines:
        inbox.abandon()
    assert lines == []
    counts(inbox, accepted=1, handled=1)


# Iteration


async def test_asking_for_the_next_event_accepts_the_last() -> None:
    """An event is in flight until the loop asks for the next one, or ends."""
    inbox = inbox_with(*pings(3))
    inbox.close()
    handled: list[int] = []
    async for event in inbox:
        handled.append(event.number)
        counts(inbox, accepted=3, handled=len(handled) - 1, in_flight=1, queued=3 - len(handled))
    assert handled == [1, 2, 3]
    counts(inbox, accepted=3, handled=3)


async def test_leaving_the_loop_leaves_the_last_in_flight() -> None:
    """An event that a `break` leaves behind is given back by the next crash."""
    inbox = inbox_with(*pings(2))
    async for _ in inbox:
        break
    counts(inbox, accepted=2, in_flight=1, queued=1)
    inbox.lifetime_ended(crashed=True)
    counts(inbox, accepted=2, queued=2)


async def test_each_iterator_acknowledges_its_own() -> None:
    """Two loops over one inbox do not end each other's events."""
    inbox = inbox_with(*pings(3))
    one, other = inbox.deliveries(), inbox.deliveries()
    first, second = await anext(one), await anext(other)
    await anext(other)
    assert (fate(first), fate(second)) == (Fate.IN_FLIGHT, Fate.HANDLED)


async def test_the_loop_has_the_delivery_in_flight() -> None:
    """`current_delivery` is the envelope of the present one, and of none after the loop."""
    inbox = inbox_with(*(sent := pings(2)))
    inbox.close()
    delivery_of_task.set(None)
    seen = [current_delivery() async for _ in inbox]
    assert seen == sent
    assert delivery_of_task.get() is None


async def test_deliveries_come_in_their_envelopes() -> None:
    """`deliveries()` iterates over envelopes, acknowledging as the plain iteration does."""
    inbox = inbox_with(*(sent := pings(2)))
    inbox.close()
    assert [delivery async for delivery in inbox.deliveries()] == sent
    counts(inbox, accepted=2, handled=2)


async def test_a_cancelled_loop_loses_nothing() -> None:
    """The event that was asked for is still there, the one before it is done."""
    inbox = inbox_with(ping(1))
    iterator = inbox.deliveries()
    assert (await anext(iterator)).id == "1"
    with trio.move_on_after(0):
        await anext(iterator)
    inbox.admission.offer(ping(2))
    assert (await anext(iterator)).id == "2"
    counts(inbox, accepted=2, handled=1, in_flight=1)


async def test_a_reader_yields_after_a_burst() -> None:
    """The first event of every burst is waited for, so that other tasks have their turn."""
    inbox = inbox_with(*pings(3 * READ), buffer=3 * READ)
    iterator = inbox.deliveries()
    yielded: list[int] = []
    with trio.CancelScope() as scope:
        for number in range(3 * READ):
            await anext(iterator)
            yielded.append(number)
            if number == READ - 1:
                scope.cancel()
    assert scope.cancelled_caught
    assert len(yielded) == READ
    assert len([await anext(iterator) for _ in range(2 * READ)]) == 2 * READ


async def test_a_back_off_closes_the_fast_path_for_its_time(autojump_clock: MockClock) -> None:
    """Events take the fast path again once none backs off, and none waits for one that does."""
    inbox = BoundedInbox("p", DeliveryPolicy(retry=True))
    inbox.admission.offer(ping(1))
    inbox.admission.offer(ping(2))
    assert inbox.fast_path.is_open
    inbox.reject(await inbox.receive(), OSError("no"))
    assert not inbox.fast_path.is_open
    again = await inbox.receive()
    assert (again.id, again.attempt) == ("1", 2)
    assert inbox.fast_path.is_open
    assert (await inbox.receive()).id == "2"


@pytest.mark.parametrize("way", ["take", "take_some", "handle"])
async def test_an_attempt_begins_when_the_event_is_handed_out(
    autojump_clock: MockClock, way: str
) -> None:
    """The time before that is not charged to the time for retries, however it is handed out."""
    inbox = BoundedInbox("p", DeliveryPolicy(retry=True, retry_for=50.0))
    inbox.admission.offer(Delivery.of(Ping(1)))
    await trio.sleep(100.0)

    async def fail(event: Ping) -> None:
        raise OSError("no")

    if way == "handle":
        await handle_plain(inbox, fail)
    else:
        taken = inbox.take() if way == "take" else inbox.take_some(1)[0]
        assert taken is not None
        inbox.reject(taken, OSError("no"))
    assert inbox.statistics().backing_off == 1
