"""The events that are with a plugin: noted one by one, or in the slot of a worker."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from trivet import Delivery, Event
from trivet._delivery._in_flight import InFlight
from trivet._events._history import FIRST
from trivet._inbox._counts import Counts
from trivet._inbox._fast_path import FastPath, Slot
from trivet._inbox._readers import Readers


class Step(Event):
    number: int = 0


def an_event(size: int = 0) -> Delivery[Any]:
    """An event."""
    return Delivery.of(Step(), size=size)


@pytest.fixture
def path() -> FastPath:
    """The path of an inbox."""
    ready = deque[Delivery[Any]]()

    def nothing(*_: object) -> None:
        pass

    return FastPath(
        "p",
        ready=ready,
        readers=Readers(),
        counts=Counts(),
        buffer=1,
        is_timed=False,
        mark=nothing,
        stay=nothing,
    )


@pytest.fixture
def in_flight(path: FastPath) -> InFlight:
    """The events in flight of that inbox."""
    return InFlight(path)


def hold(path: FastPath, in_flight: InFlight, *, in_slot: bool, size: int = 0) -> Delivery[Any]:
    """Have one more event in flight."""
    delivery = an_event(size)
    if in_slot:
        slot = path.enter(Slot())
        slot.delivery, slot.since = delivery, 0.0
    else:
        in_flight.add(delivery, 7.0)
    return delivery


def test_an_event_in_a_slot_knows_since_when(path: FastPath, in_flight: InFlight) -> None:
    """The time at which a worker's event was handed out is known, and outlives its slot."""
    handled = hold(path, in_flight, in_slot=True)
    path.slots[0].since = 5.0
    assert in_flight.since(handled) == 5.0
    in_flight.keep(handled)
    assert path.slots[0].delivery is None
    assert in_flight.since(handled) == 5.0


def test_events_in_slots_are_in_flight_too(path: FastPath, in_flight: InFlight) -> None:
    """Number, bytes and members are those of both; to ask changes nothing."""
    noted = hold(path, in_flight, in_slot=False, size=10)
    handled = hold(path, in_flight, in_slot=True, size=5)
    for _ in range(2):
        assert list(in_flight) == [noted, handled]
        assert (len(in_flight), in_flight.bytes) == (2, 15)
        assert noted in in_flight
        assert handled in in_flight
        assert an_event() not in in_flight
        assert (in_flight.since(noted), in_flight.since(handled)) == (7.0, 0.0)
    assert path.slots[0].delivery is handled
    assert not path.slots[0].was_taken


@pytest.mark.parametrize("in_slot", [False, True])
def test_an_event_is_released_once(path: FastPath, in_flight: InFlight, in_slot: bool) -> None:
    """An event is in flight no longer once it was released, and its worker learns of it."""
    other = hold(path, in_flight, in_slot=in_slot)
    delivery = hold(path, in_flight, in_slot=in_slot)
    assert in_flight.release(delivery)
    assert not in_flight.release(delivery)
    assert list(in_flight) == [other]
    assert in_flight.since(delivery) is None
    assert [slot.was_taken for slot in path.slots] == [False, True][: len(path.slots)]


@pytest.mark.parametrize("in_slot", [False, True])
def test_a_kept_event_closes_the_fast_path(
    path: FastPath, in_flight: InFlight, in_slot: bool
) -> None:
    """The path is closed as long as one is kept; the worker goes on without it."""
    first, second = (hold(path, in_flight, in_slot=in_slot) for _ in range(2))
    in_flight.keep(first)
    in_flight.keep(second)
    assert all(slot.was_taken for slot in path.slots)
    assert in_flight.is_kept(first)
    in_flight.release(first)
    assert not path.is_open
    in_flight.release(second)
    assert path.is_open
    assert len(in_flight) == 0


def test_an_event_that_is_not_in_flight_is_not_kept(path: FastPath, in_flight: InFlight) -> None:
    """Keeping an event that is not in flight changes nothing."""
    delivery = an_event()
    in_flight.keep(delivery)
    assert not in_flight.is_kept(delivery)
    assert path.is_open


def test_everything_is_taken_out(path: FastPath, in_flight: InFlight) -> None:
    """After all events are taken out, none is in flight or kept."""
    noted = hold(path, in_flight, in_slot=False)
    handled = hold(path, in_flight, in_slot=True)
    in_flight.keep(noted)
    assert in_flight.clear() == [noted, handled]
    assert len(in_flight) == 0
    assert path.is_open


def test_the_attempts_of_an_event_are_kept_until_they_are_deleted(in_flight: InFlight) -> None:
    """An event that is not in flight has its history, too."""
    delivery = an_event()
    assert in_flight.history(delivery) == FIRST
    in_flight.remember(delivery, FIRST.crashed())
    assert in_flight.history(delivery).crashes == 1
    del in_flight.histories[delivery]
    assert in_flight.history(delivery) == FIRST
