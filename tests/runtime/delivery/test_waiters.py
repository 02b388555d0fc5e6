"""Tasks that wait at an inbox, for room or for an event, are neither forgotten nor passed over."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Delivery, Event, Fate, RetryAfter, StoreSettings
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._bus import Bus, Subscription
from trivet._delivery._on_disk import OnDisk
from trivet._events._delivery_settings import PARTITION_KEY, DeliveryPolicy
from trivet._events._types import EventTypes
from trivet._store._store import Store


class Note(Event):
    text: str


class Desk:
    """A bus with one inbox, and what its publishers were told."""

    def __init__(self, inbox: BoundedInbox) -> None:
        self.inbox = inbox
        self.told: dict[str, tuple[float, Fate]] = {}
        self._bus = Bus([Subscription("p", Note, inbox, inbox.policy)])
        self._opened_at = trio.current_time()

    async def publish(self, text: str, *, event_id: str | None = None) -> None:
        delivery = Delivery.of(Note(text), id=event_id)
        (outcome,) = await self._bus.publish([delivery])
        self.told[text] = trio.current_time() - self._opened_at, outcome.fates["p"]

    def take(self) -> Delivery[Event]:
        return self.inbox.receive_nowait()


@asynccontextmanager
async def durable_desk(policy: DeliveryPolicy, max_bytes: int = 1 << 30) -> AsyncGenerator[Desk]:
    """One whose store is in memory."""
    types = EventTypes([Note])
    store = Store(StoreSettings(path=Path(":memory:"), max_bytes=max_bytes), types)
    on_disk = partial(OnDisk, store=store, types=types)
    inbox = BoundedInbox("p", policy, backing=on_disk)
    async with store.opened():
        yield Desk(inbox)


async def test_a_reader_that_gives_up_takes_no_wake_up_with_it(autojump_clock: MockClock) -> None:
    """Another one that waits gets the event that is tried again, at its time."""
    desk = Desk(BoundedInbox("p", DeliveryPolicy(concurrency=2, retry=True, retry_initial=0.0)))
    await desk.publish("a")
    delivery, got = desk.take(), list[float]()

    async def impatient() -> None:
        with trio.move_on_after(1):
            await desk.inbox.receive()

    async def patient() -> None:
        await desk.inbox.receive()
        got.append(trio.current_time() - begun)

    async with trio.open_nursery() as nursery:
        for reader in (impatient, patient):
            nursery.start_soon(reader)
            await wait_all_tasks_blocked()
        begun = trio.current_time()
        desk.inbox.reject(delivery, RetryAfter(2))
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert got == [2]


async def test_a_publisher_behind_one_that_leaves_is_let_in(autojump_clock: MockClock) -> None:
    """A small event behind one without room goes in when that one gives up."""
    policy = DeliveryPolicy(durable=True, block_for=5.0)
    async with durable_desk(policy, max_bytes=1000) as desk, trio.open_nursery() as nursery:
        await desk.publish("a" * 200)
        nursery.start_soon(desk.publish, "large" * 160)
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        nursery.start_soon(desk.publish, "small")
    assert desk.told["large" * 160] == (5.0, Fate.REJECTED)
    assert desk.told["small"] == (5.0, Fate.QUEUED)


async def test_room_that_is_made_for_one_is_not_given_to_another(
    autojump_clock: MockClock,
) -> None:
    """A publisher that drops the oldest gets in for one event; those behind it go on waiting."""
    policy = DeliveryPolicy(durable=True, buffer=2, block_for=1.0, on_full="drop_oldest")
    async with durable_desk(policy) as desk, trio.open_nursery() as nursery:
        await desk.publish("a")
        await desk.publish("b")
        nursery.start_soon(desk.publish, "c")
        await wait_all_tasks_blocked()
        await trio.sleep(0.5)
        nursery.start_soon(desk.publish, "d")
        await trio.sleep(0.75)
        assert desk.inbox.statistics().dropped == 1
        assert desk.told["c"] == (1.0, Fate.QUEUED)
        assert "d" not in desk.told
    assert desk.told["d"] == (1.5, Fate.QUEUED)
    assert desk.inbox.statistics().dropped == 2


@pytest.mark.parametrize(
    "policy",
    [
        DeliveryPolicy(buffer=1, overflow="drop_oldest", retry=True),
        DeliveryPolicy(buffer=1, overflow="drop_oldest", retry=True, ordering_key=PARTITION_KEY),
    ],
    ids=["one lane", "a key"],
)
async def test_no_event_waits_for_a_dropped_one(policy: DeliveryPolicy) -> None:
    """Events that waited for one that backed off are handed out when that one is dropped."""
    desk = Desk(BoundedInbox("p", policy))
    await desk.publish("a")
    desk.inbox.reject(desk.take(), RetryAfter(60))
    await desk.publish("b")
    assert desk.take().event == Note("b")


async def test_a_repetition_that_waited_for_room_is_still_one() -> None:
    """A duplicate is not let in at the cost of another event, nor of the original."""
    desk = Desk(BoundedInbox("p", DeliveryPolicy(buffer=1, block_for=0.0, on_full="drop_oldest")))
    await desk.publish("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: desk.publish("b", event_id="1"))
        nursery.start_soon(lambda: desk.publish("c", event_id="1"))
    fates = [fate for _, fate in (desk.told["b"], desk.told["c"])]
    assert sorted(fates, key=str) == [Fate.DUPLICATE, Fate.QUEUED]
    assert desk.inbox.statistics().dropped == 1
