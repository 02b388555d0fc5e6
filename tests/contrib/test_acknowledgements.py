"""A message is done when its event has ended everywhere, or is on the disk of who has not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from trivet import Delivery, Event, EventPlugin, Fate, Outcome
from trivet.testing import open_plugins
from trivet_contrib._brokers._acknowledgements import Acknowledgements, InFlight
from trivet_contrib._brokers._client import Received

QUEUED, IN_FLIGHT, HANDLED = Fate.QUEUED, Fate.IN_FLIGHT, Fate.HANDLED


class Ping(Event):
    number: int = 0


def message(deliveries: int = 1) -> Received:
    """A message of the broker."""
    return Received(b"{}", {}, tag="1", deliveries=deliveries)


class Flight:
    """One message in flight, and how its subscribers treat it."""

    def __init__(self, durable: frozenset[str] = frozenset(), deliveries: int = 1) -> None:
        self.acks = Acknowledgements(durable, 2, lambda _message, _reason: None)
        self.record: InFlight = self.acks.add(message(deliveries), Delivery.of(Ping(), size=9), 0.0)

    def published(self, **fates: Fate) -> None:
        """All subscribers have decided."""
        self.record.on_published(Outcome(self.record.delivery, fates))

    def settle(self, subscriber: str, *fates: Fate) -> None:
        """A subscriber reports fates, one after the other."""
        for fate in fates:
            self.record.settle(subscriber, fate)

    @property
    def reports(self) -> str:
        """The list that the message is in."""
        acks = self.acks
        assert acks.bytes == (len(b"{}") + 9 if acks.in_flight else 0)
        lists = {
            "done": acks.done,
            "failed": acks.failed,
            "dead": acks.dead,
            "again": acks.to_publish,
        }
        found = [name for name, each in lists.items() if each]
        assert len(found) + (len(acks.in_flight) - len(acks.to_publish)) == 1
        return found[0] if found else "in flight"


def test_a_message_is_done_when_its_only_subscriber_has_handled_it() -> None:
    """To be queued or in flight is no end."""
    flight = Flight()
    flight.settle("a", QUEUED)
    flight.published(a=QUEUED)
    flight.settle("a", IN_FLIGHT, Fate.BACKING_OFF, IN_FLIGHT)
    assert flight.reports == "in flight"
    flight.settle("a", HANDLED)
    assert flight.reports == "done"
    assert flight.acks.ended == 1


def test_a_message_is_done_when_the_last_of_its_subscribers_has_ended_it() -> None:
    """Another end than `handled`, such as the filter's, counts as well."""
    flight = Flight()
    flight.settle("c", Fate.FILTERED)
    flight.published(a=QUEUED, b=QUEUED, c=Fate.FILTERED)
    flight.settle("a", HANDLED)
    assert flight.reports == "in flight"
    flight.settle("b", HANDLED)
    assert flight.reports == "done"


def test_an_event_may_end_before_all_subscribers_have_decided() -> None:
    """The message is done with the last decision then."""
    flight = Flight()
    flight.settle("a", QUEUED, IN_FLIGHT, HANDLED)
    assert flight.reports == "in flight"
    flight.published(a=QUEUED)
    assert flight.reports == "done"


def test_a_duplicate_is_done_when_the_original_is() -> None:
    """Its outcome says `duplicate` at once, and its receipt is told of the end."""
    flight = Flight()
    flight.settle("a", QUEUED)
    flight.published(a=Fate.DUPLICATE)
    assert flight.reports == "in flight"
    flight.settle("a", Fate.DUPLICATE)
    assert flight.reports == "done"


@pytest.mark.parametrize("fate", [QUEUED, Fate.DUPLICATE])
def test_a_durable_subscriber_is_done_with_the_decision(fate: Fate) -> None:
    """The event is on its disk; the others are waited for, and its own end changes nothing."""
    flight = Flight(frozenset({"disk", "deaf"}))
    flight.settle("disk", QUEUED)
    flight.published(disk=fate, memory=QUEUED)
    assert flight.reports == "in flight"
    flight.settle("disk", HANDLED)
    assert flight.reports == "in flight"
    flight.settle("memory", HANDLED)
    assert flight.reports == "done"


def test_a_durable_subscriber_alone() -> None:
    """The message is done as soon as the event is on its disk."""
    flight = Flight(frozenset({"disk"}))
    flight.settle("disk", QUEUED)
    flight.published(disk=QUEUED)
    assert flight.reports == "done"


def refused(flight: Flight) -> None:
    """One of two subscribers has no room."""
    flight.settle("a", Fate.REJECTED)
    flight.published(a=Fate.REJECTED, b=QUEUED)
    assert flight.reports == "in flight"
    flight.settle("b", HANDLED)


def refused_on_disk(flight: Flight) -> None:
    """The only subscriber cannot store the event."""
    flight.settle("disk", Fate.REJECTED)
    flight.published(disk=Fate.REJECTED)


def abandoned(flight: Flight) -> None:
    """The subscriber stops with the event in memory."""
    flight.published(a=QUEUED)
    flight.settle("a", Fate.ABANDONED)


def unrouted(flight: Flight) -> None:
    """Nobody listens."""
    flight.published()


@pytest.mark.parametrize("fail", [refused, refused_on_disk, abandoned, unrouted])
def test_an_event_that_a_subscriber_has_not_had_is_published_again(
    fail: Callable[[Flight], None],
) -> None:
    """The message stays in flight, and its fates begin anew."""
    flight = Flight(frozenset({"disk"}))
    fail(flight)
    assert flight.reports == "again"
    flight.settle("b", HANDLED)  # A late report changes nothing.
    assert flight.reports == "again"
    assert flight.acks.ended == 0
    flight.acks.to_publish.clear()
    flight.published(a=QUEUED, b=Fate.DUPLICATE)
    flight.settle("b", Fate.DUPLICATE)
    flight.settle("a", HANDLED)
    assert flight.reports == "done"


@pytest.mark.parametrize(("deliveries", "becomes"), [(1, "failed"), (2, "dead")])
def test_a_failed_event_comes_again_up_to_the_limit(deliveries: int, becomes: str) -> None:
    """One subscriber that has failed is enough."""
    flight = Flight(deliveries=deliveries)
    flight.published(a=QUEUED, b=QUEUED)
    flight.settle("a", HANDLED)
    flight.settle("b", Fate.FAILED)
    assert flight.reports == becomes


async def test_an_event_that_fails_in_a_plugin_is_reported() -> None:
    """The plugin's inbox tells of the failure, and neither crashes by it nor tries again."""
    seen: list[Ping] = []

    class Failing(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            """Fail."""
            seen.append(event)
            raise ValueError(event.number)

    acks = Acknowledgements(frozenset(), 2, lambda _message, _reason: None)
    record = acks.add(message(), Delivery.of(Ping(), id="1"), 0.0)
    async with open_plugins(Failing) as runtime:
        (outcome,) = await runtime.publish_many([record.delivery])
        record.on_published(outcome)
        await acks.wait_for_reports()
    assert (acks.failed, seen) == ([record.message], [Ping()])


async def test_a_change_wakes_who_waits() -> None:
    """The first message that ends is a report, and makes room."""
    flight = Flight()
    flight.published(a=QUEUED)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flight.acks.wait_for_reports)
        nursery.start_soon(flight.acks.wait_for_change)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 2
        flight.settle("a", HANDLED)
