"""Envelopes, fates, receipts, outcomes, and what a task knows of the event in its hand."""

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
    """No test begins or ends with something in flight."""
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
def test_what_a_fate_says_of_itself(fate: Fate) -> None:
    """Only what waits or is in flight is alive; only what was refused was not accepted."""
    assert fate.alive == (fate in ALIVE)
    assert fate.accepted == (fate not in REFUSED)


def test_fates_have_an_order() -> None:
    """First what one hopes for, then what may still go well, then what is lost, then refused."""
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
    """An id of its own, the present moment with its offset, no deadline, the first attempt."""
    delivery, other = Delivery.of(Ping()), Delivery.of(Ping())
    assert delivery.id != other.id
    assert abs(datetime.now(UTC) - delivery.time) < timedelta(seconds=10)
    assert delivery.time.tzinfo is UTC
    assert (delivery.deadline, delivery.attempt, delivery.receipt) == (math.inf, 1, None)


def test_the_next_attempt_is_at_the_same_event() -> None:
    """Its id and its time stay, whether or not anybody has asked for them before."""
    delivery = Delivery.of(Ping())
    again = delivery.again()
    assert (again.id, again.time, again.attempt) == (delivery.id, delivery.time, 2)


def test_deliveries_of_equal_events_are_two() -> None:
    """An envelope is itself and no other, whatever is in it."""
    delivery = Delivery.of(Ping(), id="1")
    assert delivery != copy(delivery)
    assert len({delivery, copy(delivery)}) == 2


def test_identity_is_what_a_log_line_says() -> None:
    """The event's type and id, and the request's id where there is one."""
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
async def test_a_deadline_beyond_the_calendar_is_written_as_its_end(
    seconds: float, year: str
) -> None:
    """What was over long ago is not written as what is never over."""
    delivery = Delivery.of(Ping(), deadline=trio.current_time() + seconds)
    assert CloudEvent.attributes_of(delivery)["ce-expirytime"].startswith(year)


async def test_a_receipt_waits_for_the_last_subscriber() -> None:
    """It ends when no fate is alive, whatever the order, and not before."""
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
    """With nobody to wait for, or everything over, it is there at once."""
    receipt = Receipt()
    with trio.fail_after(0):
        await receipt.ended()
    receipt.settle("a", Fate.REJECTED)
    with trio.fail_after(0):
        await receipt.ended()


def test_settling_without_a_receipt_is_nothing() -> None:
    """Where no publisher waits, an inbox may say what it likes."""
    Delivery.of(Ping()).settle("a", Fate.HANDLED)


# Outcomes


def test_no_subscriber_is_an_outcome() -> None:
    """Nobody listens: unrouted, not accepted, and no fate is the worst."""
    outcome = Outcome(Delivery.of(Ping()), {})
    assert (outcome.unrouted, outcome.accepted, outcome.worst) == (True, False, None)


@pytest.mark.parametrize("fate", Fate)
def test_one_subscriber_decides_alone(fate: Fate) -> None:
    """Its fate is the worst, and it accepted whatever it did not reject."""
    outcome = Outcome(Delivery.of(Ping()), {"a": fate})
    assert (outcome.unrouted, outcome.worst) == (False, fate)
    assert outcome.accepted == (fate not in REFUSED)


def test_one_acceptance_is_enough_and_the_worst_fate_is_told() -> None:
    """Accepted by one, rejected by another: accepted, and the worst is the rejection."""
    outcome = Outcome(
        Delivery.of(Ping()), {"a": Fate.HANDLED, "b": Fate.REJECTED, "c": Fate.QUEUED}
    )
    assert (outcome.accepted, outcome.worst) == (True, Fate.REJECTED)
    assert not Outcome(Delivery.of(Ping()), {"a": Fate.REJECTED, "b": Fate.REJECTED}).accepted


# What is in flight, and where it came from


def test_outside_of_a_handler_nothing_is_in_flight() -> None:
    """`current_delivery` raises with an explanation; `delivery_of_task` gives None."""
    assert delivery_of_task.get() is None
    with pytest.raises(LookupError, match="handlers and loops over an inbox"):
        current_delivery()


async def test_each_task_has_its_own_delivery_in_flight() -> None:
    """What a task takes in flight is seen by its later children, not by its siblings."""
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
    """What a handler publishes carries on the request and the trace of what it handles."""
    assert current_origin() == Origin(None, None)
    delivery_of_task.set(Delivery.of(Ping(), request_id="1,r", traceparent="00-t"))
    assert current_origin() == Origin("1,r", "00-t")


def test_the_origin_is_the_request_first() -> None:
    """The task of a request carries on its own request."""
    delivery_of_task.set(Delivery.of(Ping(), request_id="1,event"))
    token = current_request.set(Origin("1,request"))
    try:
        assert current_origin() == Origin("1,request", None)
    finally:
        current_request.reset(token)
    assert current_origin() == Origin("1,event", None)
