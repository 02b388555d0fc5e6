"""The quick way through an inbox, which most events have, ends as the careful one.

Two inboxes get the same: one may be quick, the other not. Whatever is done with them, and in
whatever order, they hand out the same events and tell the same of them, to publishers too.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trivet import Delivery, Event, Fate, Receipt, current_delivery
from trivet._delivery._admission import Admission
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._endings import Endings
from trivet._delivery._pending_offer import PendingOffer
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._inbox._inbox import Deliveries
from trivet._inbox._workers import handle_plain


class Step(Event):
    number: int
    lane: str = "a"


class Told(Receipt):
    """Notes what it is told."""

    def __init__(self, side: Side, number: int) -> None:
        super().__init__()
        self._side = side
        self._number = number

    def settle(self, subscriber: str, fate: Fate) -> None:
        super().settle(subscriber, fate)
        self._side.told.append((self._number, fate))


class Side:
    """One of the two inboxes, and what came of it."""

    def __init__(self, policy: DeliveryPolicy, kinds: list[str], *, is_quick: bool) -> None:
        self.inbox = BoundedInbox("side", policy)
        self.is_quick = is_quick
        if not is_quick:
            self.inbox.fast_path.mind("it is the careful one", True)
        self.in_flight: list[Delivery[Any]] = []
        self.waiting: list[PendingOffer] = []
        self.told: list[object] = []
        self._kinds = cycle(kinds)

    def delivery(self, number: int, lane: str) -> Delivery[Event]:
        """With an id, which comes again; who is told; a deadline; a size; or plain."""
        step, kind = Step(number, lane), next(self._kinds)
        if kind == "plain":
            return Delivery.of(step)
        if kind == "sized":
            return Delivery.of(step, size=number + 1)
        receipt = Told(self, number) if kind in ("told", "both") else None
        given_id = f"{number % 3}" if kind in ("id", "both") else None
        deadline = trio.current_time() + 0.6 if kind == "deadline" else None
        return Delivery.of(step, id=given_id, receipt=receipt, deadline=deadline)

    # What may happen

    def offer(self, number: int, lane: str) -> None:
        fate = self.inbox.admission.offer(self.delivery(number, lane))
        self.told.append(fate)

    def queue_up(self, number: int, lane: str) -> None:
        if (delivery := self.without_room(number, lane)) is not None:
            self.waiting.append(self.inbox.admission.queue_up(delivery))

    def withdraw(self, number: int, lane: str) -> None:
        if self.waiting:
            self.inbox.admission.withdraw(self.waiting.pop(number % len(self.waiting)))

    def overflow(self, number: int, lane: str) -> None:
        if (delivery := self.without_room(number, lane)) is not None:
            self.told.append(self.inbox.admission.overflow(delivery, "drop_oldest"))

    def without_room(self, number: int, lane: str) -> Delivery[Event] | None:
        """An event for which there is no room now, but may be later."""
        delivery = self.delivery(number, lane)
        is_too_large = delivery.size > self.inbox.admission.buffer_bytes
        is_full = self.inbox.admission.room <= 0 or delivery.size > self.inbox.admission.room_bytes
        return delivery if is_full and not is_too_large else None

    def take(self, number: int, lane: str) -> None:
        delivery = self.inbox.take()
        if delivery is not None:
            self.in_flight.append(delivery)

    def take_some(self, number: int, lane: str) -> None:
        self.in_flight += self.inbox.take_some(number)

    def accept_all(self, number: int, lane: str) -> None:
        self.inbox.accept_all(self.in_flight[:number])
        self.in_flight = [each for each in self.in_flight if each in self.inbox_in_flight()]

    def accept(self, number: int, lane: str) -> None:
        self._end(number, self.inbox.accept)

    def reject(self, number: int, lane: str) -> None:
        self._end(number, lambda delivery: self.inbox.reject(delivery, ValueError("no")))

    def keep(self, number: int, lane: str) -> None:
        if self.in_flight:
            self.inbox.keep(self.in_flight[number % len(self.in_flight)])

    def crash(self, number: int, lane: str) -> None:
        self.inbox.lifetime_ended(crashed=True)
        self.in_flight.clear()

    def filter(self, number: int, lane: str) -> None:
        self.inbox.admission.wants = (lambda event: event != Step(0, "a")) if number % 2 else None

    def close(self, number: int, lane: str) -> None:
        if number > 3:
            self.inbox.close()

    def abandon(self, number: int, lane: str) -> None:
        if number == 3:
            self.inbox.abandon()
            self.in_flight.clear()
            self.inbox.reopen()

    async def work(self, number: int, lane: str) -> None:
        """A worker's turn, whose handler does something with the inbox too."""
        with trio.move_on_after(0.5):
            await handle_plain(self.inbox, self._handle)
        deliveries = Deliveries[Any](self.inbox)
        while (delivery := deliveries.take()) is not None:
            try:
                await self._handle(delivery.event)
            except ValueError as error:
                self.inbox.reject(delivery, error)
        self.in_flight += [each for each in self.inbox_in_flight() if each not in self.in_flight]

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

    def inbox_in_flight(self) -> list[Delivery[Any]]:
        return list(self.inbox._in_flight)  # pyright: ignore[reportPrivateUsage]

    def _end(self, number: int, end: Callable[[Delivery[Any]], None]) -> None:
        if self.in_flight:
            end(self.in_flight.pop(number % len(self.in_flight)))

    # What is to be seen

    def sight(self) -> object:
        return (
            self.told,
            [delivery.event for delivery in self.in_flight],
            [(admission.fate, admission.delivery.event) for admission in self.waiting],
            self.inbox.admission.room,
            self.inbox.admission.room_bytes,
            self.inbox.statistics(),
        )


KINDS = ["plain", "id", "told", "both", "deadline", "sized"]
STEPS = ["offer", "queue_up", "withdraw", "overflow", "take", "accept", "reject", "keep", "crash"]
SELDOM = ["filter", "close", "abandon", "work", "take_some", "accept_all"]

steps = st.tuples(
    # Mostly the ordinary, so that the quick way is taken often.
    st.sampled_from([*STEPS, *SELDOM, *["offer", "take", "accept", "work", "work"] * 2]),
    st.integers(0, 6),
    st.sampled_from(["a", "b"]),
)


@pytest.mark.model
@settings(max_examples=settings().max_examples * 10)
@given(
    program=st.lists(steps, min_size=10, max_size=30),
    buffer=st.integers(1, 5),
    buffer_bytes=st.sampled_from([4, 9, 1000]),
    concurrency=st.integers(1, 2),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    deduplicate_for=st.sampled_from([300.0, 0.0]),
    retry=st.booleans(),
    ordering_key=st.sampled_from([None, None, None, "lane"]),
)
async def test_the_quick_way_ends_as_the_careful_one(
    autojump_clock: MockClock, program: list[tuple[str, int, str]], kinds: list[str], **said: Any
) -> None:
    """The same is handed out, refused and counted after every step."""
    policy = DeliveryPolicy(delivery_limit=2, **said)
    quick, careful = sides = [Side(policy, kinds, is_quick=is_quick) for is_quick in (True, False)]
    for what, number, lane in program:
        for side in sides:
            step = getattr(side, what)
            if what == "work":
                await step(number, lane)
            else:
                step(number, lane)
        assert quick.sight() == careful.sight()


@pytest.mark.parametrize("said", [{}, {"id": "1"}, {"receipt": Receipt}, {"size": 9}])
def test_an_event_without_a_deadline_takes_the_quick_way(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]
) -> None:
    """The careful way is not taken, or the comparison would be of the same thing twice."""
    inbox = BoundedInbox("plain", DeliveryPolicy())
    monkeypatch.delattr(Admission, "_screen")
    monkeypatch.delattr(BoundedInbox, "_next")
    monkeypatch.delattr(Endings, "finish")

    async def turn() -> None:
        given = {name: value() if name == "receipt" else value for name, value in said.items()}
        assert inbox.admission.offer(Delivery.of(Step(1), **given)) is Fate.QUEUED
        with trio.CancelScope() as scope:

            async def handle(event: Step) -> None:
                assert event == Step(1)
                scope.cancel()

            await handle_plain(inbox, handle)

    trio.run(turn)
    assert inbox.statistics().handled == 1


@pytest.mark.parametrize("at", [Fate.QUEUED, Fate.IN_FLIGHT, Fate.HANDLED])
async def test_a_publisher_that_is_told_may_look_at_the_inbox(
    autojump_clock: MockClock, at: Fate
) -> None:
    """Accepted events are the sum of their fates whenever a publisher is told of one."""
    inbox = BoundedInbox("looked-at", DeliveryPolicy())
    told: list[Fate] = []

    class Looking(Receipt):
        def settle(self, subscriber: str, fate: Fate) -> None:
            told.append(fate)
            if fate is at:
                seen = inbox.statistics()
                assert (seen.accepted, seen.queued + seen.in_flight + seen.handled) == (1, 1)
                assert getattr(seen, fate.value) == 1

    async def handle(event: Step) -> None:
        pass

    inbox.admission.offer(Delivery.of(Step(1), receipt=Looking()))
    with trio.move_on_after(1):
        await handle_plain(inbox, handle)
    assert told == [Fate.QUEUED, Fate.IN_FLIGHT, Fate.HANDLED]


async def test_a_worker_leaves_a_path_that_its_handler_has_closed() -> None:
    """The event behind one whose handler closes the path is left to the careful way."""
    inbox = BoundedInbox("p", DeliveryPolicy())
    handled: list[int] = []

    async def handle(event: Step) -> None:
        handled.append(event.number)
        inbox.fast_path.mind("it has to be minded", event.number >= 1)

    for number in range(3):
        inbox.admission.offer(Delivery.of(Step(number)))
    await handle_plain(inbox, handle)
    assert handled == [0, 1]
    assert inbox.statistics().handled == 2
    assert inbox.statistics().queued == 1
