"""A worker with a time limit on the fast path ends each event as the careful one does."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trivet import Delivery, Event, Fate, Receipt, current_delivery
from trivet._delivery._bounded import BoundedInbox
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._inbox import _workers
from trivet._inbox._workers import work
from trivet._inbox._workloads import OneByOne

LIMIT = 2.0
ACTS = [
    "nothing",
    "sleep",
    "late",
    "late and deaf",
    "late and loud",
    "raise",
    "keep",
    "accept, late",
]


class Act(Event):
    what: str


class Told(Receipt):
    """Notes what it is told, and when."""

    def __init__(self, told: list[object], number: int) -> None:
        super().__init__()
        self._told = told
        self._number = number

    def settle(self, subscriber: str, fate: Fate) -> None:
        super().settle(subscriber, fate)
        self._told.append((self._number, fate, trio.current_time()))


async def handle(inbox: BoundedInbox, told: list[object], event: Act) -> None:
    """Do as the event says."""
    told.append((event.what, current_delivery().attempt, trio.current_time()))
    if event.what == "sleep":
        await trio.sleep(1)
    elif event.what == "late":
        await trio.sleep(2 * LIMIT)
    elif event.what == "late and deaf":
        with trio.CancelScope(shield=True):
            await trio.sleep(3.5 * LIMIT)
    elif event.what == "late and loud":
        try:
            await trio.sleep(2 * LIMIT)
        finally:
            raise ValueError("too late")
    elif event.what == "raise":
        raise ValueError("no")
    elif event.what == "keep":
        inbox.keep(current_delivery())
    elif event.what == "accept, late":
        inbox.accept(current_delivery())
        await trio.sleep(2 * LIMIT)


async def outcome(
    policy: DeliveryPolicy, program: list[tuple[str, bool]], *, quick: bool
) -> object:
    """The outcome of some events, some of which have a publisher that is told."""
    inbox, told = BoundedInbox("limited", policy), list[object]()
    if not quick:
        inbox.fast_path.mind("it is the careful one", True)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    work,
                    OneByOne(inbox, partial(handle, inbox, told)),
                    plugin="limited",
                    crew=policy.concurrency,
                    time_limit=policy.time_limit,
                    log=structlog.get_logger(),
                )
            )
            await trio.testing.wait_all_tasks_blocked()
            for number, (what, is_told) in enumerate(program):
                receipt = Told(told, number) if is_told else None
                inbox.admission.offer(Delivery.of(Act(what), id=str(number), receipt=receipt))
                await trio.sleep(0.3)
            await trio.sleep(100)
            inbox.close()
            nursery.cancel_scope.cancel()
    return told, inbox.statistics(), [(line["event"], line.get("event_id")) for line in logs]


@pytest.mark.model
@given(
    program=st.lists(st.tuples(st.sampled_from(ACTS), st.booleans()), min_size=1, max_size=8),
    retry=st.booleans(),
)
async def test_a_limited_worker(
    autojump_clock: MockClock, program: list[tuple[str, bool]], retry: bool
) -> None:
    """The same is told, counted and logged, at the same times."""
    # To back off closes the path, and the first of several attempts is enough to compare.
    policy = DeliveryPolicy(time_limit=LIMIT, retry=retry, max_attempts=2, retry_initial=0.0)
    began = trio.current_time()
    quick = await outcome(policy, program, quick=True)
    took = trio.current_time() - began
    await trio.sleep(1000 - took)
    careful = await outcome(policy, program, quick=False)
    assert at_start(quick, began) == at_start(careful, began + 1000)


def at_start(found: Any, began: float) -> object:
    """The same with the times since the start."""
    told, statistics, logs = found
    return [(*facts, round(time - began, 6)) for *facts, time in told], statistics, logs


async def test_a_limited_worker_takes_the_fast_path(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways are compared, and not one with itself."""
    handled: list[str] = []
    quantum = _workers._quantum  # pyright: ignore[reportPrivateUsage]

    async def noted(*args: Any) -> None:
        handled.append("quick")
        await quantum(*args)

    monkeypatch.setattr(_workers, "_quantum", noted)
    policy = DeliveryPolicy(time_limit=LIMIT, retry=True)
    await outcome(policy, [("nothing", False), ("sleep", False)], quick=True)
    assert handled == ["quick", "quick"]
    await outcome(policy, [("nothing", False)], quick=False)
    assert handled == ["quick", "quick"]
