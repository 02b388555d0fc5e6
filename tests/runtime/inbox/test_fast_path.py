"""The switch of the fast path, and the loop that handles events on it."""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

from trivet import Delivery, Event
from trivet._inbox._counts import Counts
from trivet._inbox._fast_path import FastPath, Slot
from trivet._inbox._readers import Readers


class Step(Event):
    pass


def path_with(stayed: list[Delivery[Any]]) -> FastPath:
    """A path of which it is noted what stays in flight."""

    def nobody_waits(*_: object) -> None:
        raise AssertionError("nobody waits for it, and it has no id")

    ready = deque[Delivery[Any]]()
    return FastPath(
        "p",
        ready=ready,
        readers=Readers(),
        counts=Counts(),
        buffer=1,
        is_timed=False,
        mark=nobody_waits,
        stay=lambda delivery, _: stayed.append(delivery),
    )


def test_the_path_is_open_when_the_last_reason_is_gone() -> None:
    """Each reason closes the path by itself, however often it is said."""
    path = path_with([])
    assert path.is_open
    path.mind("a", True)
    path.mind("a", True)
    path.mind("b", True)
    path.mind("a", False)
    assert not path.is_open
    path.mind("b", False)
    path.mind("c", False)
    assert path.is_open


def test_an_event_that_a_worker_leaves_stays_in_flight() -> None:
    """The event in the slot of a worker that leaves the path is not lost."""
    stayed: list[Delivery[Any]] = []
    path = path_with(stayed)
    empty, busy = path.enter(Slot()), path.enter(Slot())
    busy.delivery = delivery = Delivery.of(Step())
    path.leave(empty)
    assert stayed == []
    path.leave(busy)
    assert stayed == [delivery]
    assert path.slots == []


async def test_a_worker_learns_that_its_event_was_taken() -> None:
    """The slot is empty then, and says so until the worker has seen it."""
    await trio.lowlevel.checkpoint()
    slot = path_with([]).enter(Slot())
    slot.delivery = Delivery.of(Step())
    slot.take()
    assert slot.delivery is None
    assert slot.was_taken
