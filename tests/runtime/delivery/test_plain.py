"""The quick way through an inbox, for events of which nothing is said, ends as the careful one.

Two inboxes get the same: one sees events as plain, the other does not. Whatever is done with them,
and in whatever order, they hand out the same events and tell the same of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trivet import Delivery, Event, Fate, current_delivery
from trivet._delivery._memory import Admission, MemoryInbox
from trivet._inbox import Deliveries
from trivet._policies import DeliveryPolicy


class Step(Event):
    number: int
    lane: str = "a"


class Side:
    """One of the two inboxes, and what came of it."""

    def __init__(self, policy: DeliveryPolicy, *, is_plain: bool) -> None:
        self.inbox = MemoryInbox("side", policy)
        self.is_plain = is_plain
        self.in_hand: list[Delivery[Any]] = []
        self.waiting: list[Admission] = []
        self.told: list[object] = []

    def delivery(self, number: int, lane: str) -> Delivery[Event]:
        return Delivery[Event](Step(number, lane), is_plain=self.is_plain)

    # What may happen

    def offer(self, number: int, lane: str) -> None:
        fate = self.inbox.offer(self.delivery(number, lane))
        self.told.append(fate)

    def queue_up(self, number: int, lane: str) -> None:
        if self.inbox.room <= 0:
            self.waiting.append(self.inbox.queue_up(self.delivery(number, lane)))

    def withdraw(self, number: int, lane: str) -> None:
        if self.waiting:
            self.inbox.withdraw(self.waiting.pop(number % len(self.waiting)))

    def overflow(self, number: int, lane: str) -> None:
        if self.inbox.room <= 0:
            self.told.append(self.inbox.overflow(self.delivery(number, lane), "drop_oldest"))

    def take(self, number: int, lane: str) -> None:
        delivery = self.inbox.take()
        if delivery is not None:
            self.in_hand.append(delivery)

    def accept(self, number: int, lane: str) -> None:
        self._end(number, self.inbox.accept)

    def reject(self, number: int, lane: str) -> None:
        self._end(number, lambda delivery: self.inbox.reject(delivery, ValueError("no")))

    def keep(self, number: int, lane: str) -> None:
        if self.in_hand:
            self.inbox.keep(self.in_hand[number % len(self.in_hand)])

    def crash(self, number: int, lane: str) -> None:
        self.inbox.lifetime_ended(crashed=True)
        self.in_hand.clear()

    def filter(self, number: int, lane: str) -> None:
        self.inbox.wants = (lambda event: event != Step(0, "a")) if number % 2 else None

    def close(self, number: int, lane: str) -> None:
        if number > 3:
            self.inbox.close()

    def abandon(self, number: int, lane: str) -> None:
        if number == 3:
            self.inbox.abandon()
            self.in_hand.clear()
            self.inbox.reopen()

    async def hand_to(self, number: int, lane: str) -> None:
        """A worker's turn, whose handler does something with the inbox too."""
        deliveries = Deliveries[Any](self.inbox)
        with trio.move_on_after(0.5):
            await deliveries.hand_to(self._handle)
        while (delivery := deliveries.take()) is not None:
            try:
                await self._handle(delivery.event)
            except ValueError as error:
                self.inbox.reject(delivery, error)
        self.in_hand += [each for each in self.inbox_in_hand() if each not in self.in_hand]

    async def _handle(self, event: Step) -> None:
        self.told.append(event)
        mine = current_delivery()
        assert mine.event is event
        if event.number == 1:
            self.inbox.keep(mine)
        elif event.number == 2:
            raise ValueError("no")
        elif event.number == 3:
            self.inbox.accept(mine)
        elif event.number == 4:
            self.offer(0, event.lane)
        elif event.number == 5:
            self.inbox.reject(mine, ValueError("no"))
        elif event.number == 6:
            self.told.append(self.inbox.statistics())

    def inbox_in_hand(self) -> list[Delivery[Any]]:
        return list(self.inbox._in_hand)  # pyright: ignore[reportPrivateUsage]

    def _end(self, number: int, end: Callable[[Delivery[Any]], None]) -> None:
        if self.in_hand:
            end(self.in_hand.pop(number % len(self.in_hand)))

    # What is to be seen

    def sight(self) -> object:
        return (
            self.told,
            [delivery.event for delivery in self.in_hand],
            [(admission.fate, admission.delivery.event) for admission in self.waiting],
            self.inbox.room,
            self.inbox.statistics(),
        )


STEPS = ["offer", "queue_up", "withdraw", "overflow", "take", "accept", "reject", "keep", "crash"]
SELDOM = ["filter", "close", "abandon", "hand_to"]

steps = st.tuples(
    # Mostly the ordinary, so that the quick way is taken often.
    st.sampled_from([*STEPS, *SELDOM, *["offer", "take", "accept", "hand_to"] * 2]),
    st.integers(0, 6),
    st.sampled_from(["a", "b"]),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    program=st.lists(steps, min_size=10, max_size=30),
    buffer=st.integers(1, 5),
    concurrency=st.integers(1, 2),
    ordering_key=st.sampled_from([None, None, None, "lane"]),
)
async def test_the_quick_way_ends_as_the_careful_one(
    autojump_clock: MockClock, program: list[tuple[str, int, str]], **said: Any
) -> None:
    """The same is handed out, refused and counted after every step."""
    policy = DeliveryPolicy(delivery_limit=2, **said)
    quick, careful = sides = [Side(policy, is_plain=is_plain) for is_plain in (True, False)]
    for what, number, lane in program:
        for side in sides:
            step = getattr(side, what)
            if what == "hand_to":
                await step(number, lane)
            else:
                step(number, lane)
        assert quick.sight() == careful.sight()


def test_an_event_with_nothing_to_mind_takes_the_quick_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is never looked at with care, or what is compared above would be the same thing twice."""
    inbox = MemoryInbox("plain", DeliveryPolicy())
    monkeypatch.delattr(MemoryInbox, "_screen")
    monkeypatch.delattr(MemoryInbox, "_next")
    assert inbox.offer(Delivery[Event](Step(1), is_plain=True)) is Fate.QUEUED

    async def turn() -> None:
        with trio.CancelScope() as scope:

            async def handle(event: Step) -> None:
                assert event == Step(1)
                scope.cancel()

            await inbox.hand_to(handle)

    trio.run(turn)
    assert inbox.statistics().handled == 1
