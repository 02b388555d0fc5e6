"""Events that are taken, or ended, together come to the same as one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trivet import Delivery, Fate
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._progress import Progress
from trivet._delivery._queue import Queue
from trivet._delivery._repeats import Repeats
from trivet._events._delivery_settings import DeliveryPolicy

from .test_plain import KINDS, Side, Step


class OneByOne(Side):
    """Takes and ends each of them by itself."""

    def take_some(self, number: int, lane: str) -> None:
        for _ in range(number):
            self.take(number, lane)

    def accept_all(self, number: int, lane: str) -> None:
        for each in self.in_flight[:number]:
            if not self.inbox.is_kept(each):
                self.inbox.accept(each)
        self.in_flight = [each for each in self.in_flight if each in self.inbox_in_flight()]


steps = st.tuples(
    st.sampled_from(
        [
            *["offer", "take_some", "accept_all"] * 4,
            *["queue_up", "overflow", "take", "accept", "reject", "keep", "crash", "close"],
        ]
    ),
    st.integers(0, 6),
    st.sampled_from(["a", "b"]),
)


@pytest.mark.model
@settings(max_examples=settings().max_examples * 3)
@given(
    program=st.lists(steps, min_size=10, max_size=30),
    buffer=st.integers(1, 5),
    buffer_bytes=st.sampled_from([4, 9, 1000]),
    concurrency=st.integers(1, 2),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    deduplicate_for=st.sampled_from([300.0, 0.0]),
    retry=st.booleans(),
    ordering_key=st.sampled_from([None, None, None, "lane"]),
    is_quick=st.booleans(),
    in_batches=st.booleans(),
)
async def test_the_same_becomes_of_events_one_by_one(
    autojump_clock: MockClock,
    program: list[tuple[str, int, str]],
    kinds: list[str],
    is_quick: bool,
    in_batches: bool,
    **said: Any,
) -> None:
    """The same is handed out, refused and counted after every step, on each path."""
    policy = DeliveryPolicy(delivery_limit=2, **said)
    sides = [Side(policy, kinds, is_quick=is_quick), OneByOne(policy, kinds, is_quick=is_quick)]
    for side in sides:
        side.inbox.heed(policy, in_batches=in_batches)
    for what, number, lane in program:
        for side in sides:
            getattr(side, what)(number, lane)
            side.told = sorted(side.told, key=str)  # Only their order may differ.
        together, one_by_one = sides
        assert together.sight() == one_by_one.sight()


async def test_several_events_are_taken_at_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """No event is looked at by itself where only the order counts, or the comparison would be of
    one way with itself."""
    inbox = BoundedInbox("batches", DeliveryPolicy(), in_batches=True)
    inbox.fast_path.mind("it is stored, say", True)
    for number in range(5):
        assert inbox.admission.offer(Delivery.of(Step(number), id=str(number))) is Fate.QUEUED
    monkeypatch.delattr(Queue, "take")
    monkeypatch.delattr(Repeats, "ended")
    taken = inbox.take_some(5)
    assert [each.event for each in taken] == [Step(number) for number in range(5)]
    inbox.accept_all(taken)
    assert inbox.statistics().handled == 5


@given(
    pages=st.lists(st.lists(st.integers(1, 30), unique=True, max_size=8).map(sorted), max_size=6),
    ends=st.lists(st.integers(1, 30), max_size=20),
)
def test_a_page_is_begun_as_its_events(pages: list[list[int]], ends: list[int]) -> None:
    """The cursor is the same whether the numbers begin and end together or one by one."""
    together, one_by_one = Progress(), Progress()
    for page in pages:
        together.begin_all(page)
        for number in page:
            one_by_one.begin(number)
        assert together.cursor == one_by_one.cursor
        together.end_all(ends[:3])
        for number in ends[:3]:
            one_by_one.end(number)
        del ends[:3]
        assert (together.cursor, together.last) == (one_by_one.cursor, one_by_one.last)
