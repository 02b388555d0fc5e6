"""Batches: when one closes, and when its events are done."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trivet import Batch, BatchPlugin, Delivery, DeliverySettings, Event, batched
from trivet._delivery._bounded import BoundedInbox
from trivet._events._delivery_settings import DeliveryPolicy
from trivet.testing import open_plugins


class Text(Event):
    text: str


LINE = Text("x" * 19)
SIZE = len(msgspec.json.encode(LINE))


def inbox_with(*texts: str, limit: int = 3) -> BoundedInbox:
    """An inbox with these events."""
    inbox = BoundedInbox("p", DeliveryPolicy(buffer=1000, delivery_limit=limit))
    for text in texts:
        offer(inbox, text)
    return inbox


def offer(inbox: BoundedInbox, text: str) -> None:
    """One event more."""
    inbox.admission.offer(Delivery.of(Text(text)))


def texts(batch: list[Text]) -> str:
    """The batch in one word."""
    return "".join(event.text for event in batch)


async def rest(batches: Any) -> list[str]:
    """All batches until the inbox ends."""
    return [texts(batch) async for batch in batches]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0, "within": 1},
        {"size": 1, "within": 0},
        {"size": 1, "within": -1},
        {"size": 1, "within": 1, "bytes": 0},
    ],
)
def test_a_limit_that_is_not_positive_is_refused(wrong: dict[str, Any]) -> None:
    """A size, an age or a number of bytes that is not positive is refused."""
    with pytest.raises(ValueError, match="positive"):
        batched(inbox_with(), **wrong)


async def test_a_batch_closes_when_it_is_full(autojump_clock: MockClock) -> None:
    """A full batch has `size` events and does not wait for its age."""
    inbox = inbox_with(*"abcde")
    batches = batched(inbox, size=2, within=60)
    began = trio.current_time()
    assert [texts(await anext(batches)) for _ in range(2)] == ["ab", "cd"]
    assert trio.current_time() == began


async def test_a_batch_closes_when_it_is_old(autojump_clock: MockClock) -> None:
    """Its age counts from its first event, however long that took and whatever followed."""
    inbox = inbox_with()
    batches = batched(inbox, size=100, within=5)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def trickle() -> None:
            await trio.sleep(10)
            for text in "abcd":
                offer(inbox, text)
                await trio.sleep(2)

        assert texts(await anext(batches)) == "abc"
        assert trio.current_time() - began == 15
        assert texts(await anext(batches)) == "d"
        assert trio.current_time() - began == 16 + 5


async def test_events_in_the_inbox_need_no_time(autojump_clock: MockClock) -> None:
    """A batch takes the events in the inbox, although its age is shorter than a tick of the
    clock."""
    batches = batched(inbox_with(*"abc"), size=100, within=1e-9)
    assert texts(await anext(batches)) == "abc"


async def test_the_close_flushes_the_rest(autojump_clock: MockClock) -> None:
    """An inbox that closes ends the batch that is being filled, and then the iteration."""
    inbox = inbox_with(*"ab")
    batches = batched(inbox, size=100, within=60)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def stop() -> None:
            await trio.sleep(3)
            inbox.close()

        assert await rest(batches) == ["ab"]
    assert trio.current_time() - began == 3
    assert inbox.statistics().handled == 2


async def test_a_batch_that_was_interrupted_is_ended_by_the_stop(autojump_clock: MockClock) -> None:
    """A batch whose wait was cancelled is closed by the stop, although its age is over by then."""
    inbox = inbox_with("a")
    batches = batched(inbox, size=10, within=5)
    with trio.move_on_after(2):
        await anext(batches)
    await trio.sleep(10)
    inbox.close()
    batch = await anext(batches)
    assert (texts(batch), batch.closed_by) == ("a", "stop")


async def test_an_empty_inbox_that_closes_makes_no_batch() -> None:
    """An empty inbox that closes makes no batch."""
    inbox = inbox_with()
    inbox.close()
    assert await rest(batched(inbox, size=2, within=1)) == []


# Bytes


async def test_a_batch_closes_before_it_is_too_heavy(autojump_clock: MockClock) -> None:
    """The event that would be too much for this batch begins the next one."""
    inbox = inbox_with(*[LINE.text] * 5)
    inbox.close()
    batches = batched(inbox, size=100, within=60, bytes=2 * SIZE + 1)
    assert [len(batch) async for batch in batches] == [2, 2, 1]
    assert inbox.statistics().handled == 5


async def test_a_batch_that_weighs_just_enough_does_not_wait(autojump_clock: MockClock) -> None:
    """A batch without a byte left does not wait."""
    batches = batched(inbox_with(*[LINE.text] * 2), size=100, within=60, bytes=2 * SIZE)
    began = trio.current_time()
    assert len(await anext(batches)) == 2
    assert trio.current_time() == began


async def test_an_event_that_is_too_heavy_is_a_batch_of_its_own(autojump_clock: MockClock) -> None:
    """An event that is too heavy is a batch alone, at once, whatever comes before and after it."""
    big = "B" * 100
    inbox = inbox_with(big, "a", "b", big, big, "c")
    inbox.close()
    began = trio.current_time()
    batches = batched(inbox, size=100, within=60, bytes=50)
    assert await rest(batches) == [big, "ab", big, big, "c"]
    assert trio.current_time() == began


async def test_the_age_of_a_held_event_begins_with_its_batch(autojump_clock: MockClock) -> None:
    """An event held back for the next batch is the first of it, from when that is asked for."""
    inbox = inbox_with(*[LINE.text] * 2)
    batches = batched(inbox, size=100, within=5, bytes=SIZE + 1)
    began = trio.current_time()
    assert len(await anext(batches)) == 1
    await trio.sleep(30)
    assert len(await anext(batches)) == 1
    assert trio.current_time() - began == 35


# What is done


async def test_asking_for_the_next_batch_ends_the_last_one() -> None:
    """The events of a batch are in flight until the next one is asked for, and handled
    afterwards."""
    inbox = inbox_with(*"abcd")
    batches = batched(inbox, size=2, within=1)
    await anext(batches)
    statistics = inbox.statistics()
    assert (statistics.in_flight, statistics.queued, statistics.handled) == (2, 2, 0)
    await anext(batches)
    statistics = inbox.statistics()
    assert (statistics.in_flight, statistics.queued, statistics.handled) == (2, 0, 2)


async def test_a_crash_gives_the_whole_batch_back(autojump_clock: MockClock) -> None:
    """A crash gives back the batch and the event held for the next one, and no acknowledged
    event."""
    inbox = inbox_with("a", "b", LINE.text, "c")
    batches = batched(inbox, size=2, within=1)
    assert texts(await anext(batches)) == "ab"
    batches = batched(inbox, size=10, within=1, bytes=SIZE + 1)
    assert texts(await anext(batches)) == LINE.text
    assert inbox.statistics().in_flight == 4
    inbox.lifetime_ended(crashed=True)
    assert inbox.statistics().queued == 4
    batches = batched(inbox, size=2, within=1)
    assert [texts(await anext(batches)) for _ in range(2)] == ["ab", LINE.text + "c"]
    inbox.close()
    assert await rest(batches) == []
    statistics = inbox.statistics()
    assert (statistics.handled, statistics.accepted) == (4, 4)


async def test_a_cancelled_wait_for_a_batch_loses_nothing(autojump_clock: MockClock) -> None:
    """Events gathered before a cancellation are in the next batch, and done only after that."""
    inbox = inbox_with(*"ab")
    batches = batched(inbox, size=3, within=10)
    began = trio.current_time()
    with trio.move_on_after(4) as scope:
        await anext(batches)
    assert scope.cancelled_caught
    assert inbox.statistics().in_flight == 2
    assert texts(await anext(batches)) == "ab"
    assert trio.current_time() - began == 10
    assert inbox.statistics().handled == 0
    offer(inbox, "c")
    inbox.close()
    assert await rest(batches) == ["c"]
    assert inbox.statistics().handled == 3


async def test_a_cancelled_wait_keeps_a_held_event() -> None:
    """An event that was held back is not lost when the wait for its batch is cancelled."""
    inbox = inbox_with(*[LINE.text] * 2)
    batches = batched(inbox, size=10, within=1, bytes=SIZE + 1)
    await anext(batches)
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(batches)
    assert scope.cancelled_caught
    inbox.close()
    assert await rest(batches) == [LINE.text]
    assert inbox.statistics().handled == 2


async def test_each_batch_lets_others_have_their_turn() -> None:
    """A flooded reader of batches is not alone in the program, with a held event neither."""
    inbox = inbox_with(*"ab", *[LINE.text] * 2)
    batches = batched(inbox, size=2, within=60, bytes=SIZE + 1)
    for size in (2, 1, 1):
        with assert_checkpoints():
            assert len(await anext(batches)) == size
        if size == 1:
            inbox.close()


async def test_a_batch_waits_for_its_first_event_without_end(autojump_clock: MockClock) -> None:
    """`within` begins with the first event, so an idle reader has no batches to handle."""
    inbox = inbox_with()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def first() -> None:
            batches = batched(inbox, size=2, within=1)
            assert texts(await anext(batches)) == "a"

        await trio.sleep(1000)
        await wait_all_tasks_blocked()
        offer(inbox, "a")


async def test_an_event_without_a_weight_is_batched(autojump_clock: MockClock) -> None:
    """An event that JSON cannot express weighs nothing; its neighbours are handled with it."""

    class Odd(Event):
        value: Any = None

    got: list[list[object]] = []

    class Batches(BatchPlugin[Odd]):
        delivery = DeliverySettings(batch_size=3, batch_age=1.0, batch_bytes=1000)

        async def handle_batch(self, events: Batch[Odd]) -> None:
            got.append([event.value for event in events])

    strange = object()
    async with open_plugins(Batches) as runtime:
        for value in (1, strange, 3):
            await runtime.publish(Odd(value))
        await trio.sleep(2)
        assert runtime.hosts["batches"].restarts == 0
    assert got == [[1, strange, 3]]
