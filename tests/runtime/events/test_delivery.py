"""Envelopes, fates, receipts, outcomes, and the event in flight in a task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trivet import CloudEvent, Delivery, Event, Fate, Outcome, current_delivery
from trivet._events._delivery import (
    Origin,
    Receipt,
    current_origin,
    current_request,
    delivery_of_task,
)
from trivet._events._fates import ALIVE, ENDED, REFUSED, SEVERITY


class Ping(Event):
    pass


@pytest.fixture(autouse=True)
def empty_handed() -> Iterator[None]:
    """Each test begins and ends without an event in flight."""
    delivery_of_task.set(None)
    yield
    delivery_of_task.set(None)


# Fates


def test_a_fate_is_alive_ended_or_refused() -> None:
    """Every fate is in exactly one of three groups."""
    assert {Fate.QUEUED, Fate.IN_FLIGHT, Fate.BACKING_OFF} == ALIVE
    assert {
        Fate.HANDLED,
        Fate.FILTERED,
        Fate.DUPLICATE,
        Fate.EXPIRED,
        Fate.DROPPED,
        Fate.ABANDONED,
        Fate.DEAD_LETTERED,
        Fate.FAILED,
    } == ENDED
    assert {Fate.REJECTED, Fate.UNACCEPTABLE} == REFUSED
    assert set(Fate) == ALIVE | ENDED | REFUSED


@pytest.mark.parametrize("fate", Fate)
def test_alive_and_accepted(fate: Fate) -> None:
    """A fate is alive while the event waits or is in flight; only refused ones are not accepted."""
    assert fate.alive == (fate in ALIVE)
    assert fate.accepted == (fate not in REFUSED)


def test_fates_have_an_order() -> None:
    """The good fates come first, then those that may change, then losses, then refusals."""
    order = [
        "handled",
        "filtered",
        "duplicate",
        "queued",
        "in_flight",
        "backing_off",
        "expired",
        "dropped",
        "abandoned",
        "dead_lettered",
        "failed",
        "rejected",
        "unacceptable",
    ]
    assert [fate.value for fate in sorted(Fate, key=SEVERITY.__getitem__)] == order


# Deliveries


def test_an_envelope_is_filled_in() -> None:
    """The defaults: an id of its own, the present moment, no deadline, the first attempt."""
    delivery, other = Delivery.of(Ping()), Delivery.of(Ping())
    assert delivery.id != other.id
    assert abs(datetime.now(UTC) - delivery.time) < timedelta(seconds=10)
    assert delivery.time.tzinfo is UTC
    assert (delivery.deadline, delivery.attempt, delivery.receipt) == (math.inf, 1, None)


def test_the_next_attempt_is_at_the_same_event() -> None:
    """The next attempt has the same id and time, whether or not they were asked for before."""
    delivery = Delivery.of(Ping())
    again = delivery.again()
    assert (again.id, again.time, again.attempt) == (delivery.id, delivery.time, 2)


def test_deliveries_of_equal_events_are_two() -> None:
    """Two deliveries are never equal, whatever is in them."""
    delivery = Delivery.of(Ping(), id="1")
    assert delivery != copy(delivery)
    assert len({delivery, copy(delivery)}) == 2


def test_identity_is_what_a_log_line_says() -> None:
    """The identity is the event's type and id, and the request's id where there is one."""
    delivery = Delivery.of(Ping(), id="7")
    assert delivery.identity() == {"event_type": "ping", "event_id": "7"}
    requested = Delivery.of(Ping(), id="7", request_id="1,r")
    assert requested.identity() == {
        "event_type": "ping",
        "event_id": "7",
        "request_id": "1,r",
    }


# Receipts


@pytest.mark.parametrize(("seconds", "year"), [(-1e15, "0001"), (1e15, "9999")])
async def test_deadline_beyond_the_calendar(seconds: float, year: str) -> None:
    """A deadline before or after all dates is written as the first or the last date."""
    delivery = Delivery.of(Ping(), deadline=trio.current_time() + seconds)
    assert CloudEvent.attributes_of(delivery)["ce-expirytime"].startswith(year)


async def test_a_receipt_waits_for_the_last_subscriber() -> None:
    """`ended` returns when no fate is alive any more, in whatever order they end."""
    delivery = Delivery.of(Ping(), receipt=(receipt := Receipt()))
    delivery.settle("a", Fate.QUEUED)
    delivery.settle("b", Fate.QUEUED)
    ended = trio.Event()

    async def wait() -> None:
        await receipt.ended()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for subscriber, fate in [
            ("b", Fate.IN_FLIGHT),
            ("b", Fate.FAILED),
            ("a", Fate.IN_FLIGHT),
            ("a", Fate.QUEUED),
        ]:
            await wait_all_tasks_blocked()
            delivery.settle(subscriber, fate)
        await wait_all_tasks_blocked()
        assert not ended.is_set()
        delivery.settle("a", Fate.EXPIRED)
        await wait_all_tasks_blocked()
        assert ended.is_set()
    assert receipt.fates == {"a": Fate.EXPIRED, "b": Fate.FAILED}


async def test_a_receipt_that_has_ended_does_not_wait() -> None:
    """`ended` returns at once where no subscriber is left to wait for."""
    receipt = Receipt()
    with trio.fail_after(0):
        await receipt.ended()
    receipt.settle("a", Fate.REJECTED)
    with trio.fail_after(0):
        await receipt.ended()


def test_settling_without_a_receipt_is_nothing() -> None:
    """`settle` does nothing where no publisher waits."""
    Delivery.of(Ping()).settle("a", Fate.HANDLED)


# Outcomes


def test_no_subscriber_is_an_outcome() -> None:
    """An outcome without subscribers is unrouted and not accepted, and has no worst fate."""
    outcome = Outcome(Delivery.of(Ping()), {})
    assert (outcome.unrouted, outcome.accepted, outcome.worst) == (True, False, None)


@pytest.mark.parametrize("fate", Fate)
def test_one_subscriber_decides_alone(fate: Fate) -> None:
    """An outcome of one subscriber has its fate as the worst, and is accepted unless refused."""
    outcome = Outcome(Delivery.of(Ping()), {"a": fate})
    assert (outcome.unrouted, outcome.worst) == (False, fate)
    assert outcome.accepted == (fate not in REFUSED)


def test_acceptance_and_worst_fate() -> None:
    """One acceptance makes an outcome accepted; a rejection beside it is the worst fate."""
    outcome = Outcome(
        Delivery.of(Ping()), {"a": Fate.HANDLED, "b": Fate.REJECTED, "c": Fate.QUEUED}
    )
    assert (outcome.accepted, outcome.worst) == (True, Fate.REJECTED)
    assert not Outcome(Delivery.of(Ping()), {"a": Fate.REJECTED, "b": Fate.REJECTED}).accepted


# What is in flight, and where it came from


def test_outside_of_a_handler_nothing_is_in_flight() -> None:
    """Outside of a handler `current_delivery` raises, and `delivery_of_task` is None."""
    assert delivery_of_task.get() is None
    with pytest.raises(LookupError, match="handlers and loops over an inbox"):
        current_delivery()


async def test_each_task_has_its_own_delivery_in_flight() -> None:
    """A task's delivery in flight is seen by later children, and not by siblings."""
    seen: dict[str, Delivery[Event] | None] = {}
    first, second = Delivery.of(Ping()), Delivery.of(Ping())

    async def look(name: str) -> None:
        await trio.lowlevel.checkpoint()
        seen[name] = delivery_of_task.get()

    async def handle(name: str, delivery: Delivery[Event]) -> None:
        delivery_of_task.set(delivery)
        await look(name)
        async with trio.open_nursery() as nursery:
            for child in ("child", "other child"):
                nursery.start_soon(look, f"{name}'s {child}")
        assert current_delivery() is delivery

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle, "first", first)
        nursery.start_soon(handle, "second", second)
        nursery.start_soon(look, "neither")
    assert seen == {
        "first": first,
        "first's child": first,
        "first's other child": first,
        "second": second,
        "second's child": second,
        "second's other child": second,
        "neither": None,
    }


def test_the_origin_is_the_event_in_flight() -> None:
    """An event that a handler publishes has the request and trace of the event in flight."""
    assert current_origin() == Origin(None, None)
    delivery_of_task.set(Delivery.of(Ping(), request_id="1,r", traceparent="00-t"))
    assert current_origin() == Origin("1,r", "00-t")


def test_the_origin_is_the_request_first() -> None:
    """An event that a request's task publishes has that request, before any event in flight."""
    delivery_of_task.set(Delivery.of(Ping(), request_id="1,event"))
    token = current_request.set(Origin("1,request"))
    try:
        assert current_origin() == Origin("1,request", None)
    finally:
        current_request.reset(token)
    assert current_origin() == Origin("1,event", None)
