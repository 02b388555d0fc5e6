"""The publisher: an event's envelope where nobody gives one, and the wait for an event's end."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import pytest
import trio
from msgspec import to_builtins
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import Delivery, Event, EventTypes, Fate, Origin, UnknownEventError
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._bus import Bus, Subscription
from trivet._delivery._publisher import LONG, Publisher
from trivet._events._delivery import current_request, delivery_of_task
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._inbox._quantum import QUANTUM

REQUEST = Origin("1,r", "00-t", "account")


class Ping(Event):
    number: int = 0


class Lonely(Event):
    pass


class Unregistered(Ping):
    pass


class Program:
    """A publisher with two subscribers to one event type, and none to another."""

    def __init__(self, **policy: Any) -> None:
        one, other = (BoundedInbox(name, DeliveryPolicy(**policy)) for name in ("one", "other"))
        self.inboxes = [one, other]
        wishes = [
            Subscription("one", Ping, one, one.policy),
            Subscription("other", Ping, other, other.policy),
        ]
        self.bus = Bus(wishes, [Ping, Lonely])
        self.publisher = Publisher(self.bus, "the service", EventTypes([Ping, Lonely]))

    async def publish(self, event: Any, *, wait: bool = False, **envelope: Any) -> Any:
        return await self.publisher.publish(event, wait=wait, **envelope)

    def queued(self) -> list[int]:
        return [inbox.statistics().queued for inbox in self.inboxes]

    async def handle(self, number: int = 1, *, after: float = 1.0) -> None:
        """Let each subscriber handle some events."""
        for _ in range(number):
            for inbox in self.inboxes:
                delivery = await inbox.receive()
                await trio.sleep(after)
                inbox.accept(delivery)


@contextmanager
def serving(origin: Origin) -> Generator[None]:
    """Run within a request."""
    token = current_request.set(origin)
    try:
        yield
    finally:
        current_request.reset(token)


@contextmanager
def handling(delivery: Delivery[Any]) -> Generator[None]:
    """Run within a handler."""
    token = delivery_of_task.set(delivery)
    try:
        yield
    finally:
        delivery_of_task.reset(token)


# The envelope.


async def test_a_bare_event_is_the_services_and_of_now() -> None:
    """An event without facts comes from the service, happens now, and reaches every subscriber."""
    program = Program()
    before = datetime.now(UTC)
    outcome = await program.publish(Ping(1))
    assert outcome.fates == {"one": Fate.QUEUED, "other": Fate.QUEUED}
    delivery = outcome.delivery
    assert (delivery.event, delivery.source, delivery.origin) == (Ping(1), "the service", Origin())
    assert before <= delivery.time <= datetime.now(UTC)
    assert delivery.receipt is None
    assert program.queued() == [1, 1]


async def test_the_publishers_facts_have_precedence() -> None:
    """The facts that a publisher gives stand in the envelope as they are."""
    time = datetime(2020, 1, 2, tzinfo=UTC)
    given: dict[str, Any] = {"id": "7", "source": "till", "time": time, "key": "k", "deadline": 9.0}
    delivery = (await Program().publish(Ping(), **given)).delivery
    assert {name: getattr(delivery, name) for name in given} == given


@pytest.mark.parametrize("facts", [{}, {"id": "7"}], ids=["bare", "with facts"])
async def test_a_request_is_the_origin_without_its_account(facts: dict[str, Any]) -> None:
    """An event that is published in a request carries on the request's identity, and no
    account: the account is known while the request is served, and to no subscriber."""
    program = Program(buffer=10)
    with serving(REQUEST):
        delivery = (await program.publish(Ping(), **facts)).delivery
        (other,) = await program.publisher.publish_many([Delivery.of(Ping(), **facts)], wait=False)
    assert delivery.origin == other.delivery.origin == Origin("1,r", "00-t")


@pytest.mark.parametrize("facts", [{}, {"id": "7"}], ids=["bare", "with facts"])
async def test_the_handled_event_is_the_origin(facts: dict[str, Any]) -> None:
    """An event that a handler publishes carries on the identity of the event that it handles,
    and no account."""
    with handling(Delivery.of(Ping(), origin=REQUEST)):
        delivery = (await Program().publish(Ping(), **facts)).delivery
    assert delivery.origin == Origin("1,r", "00-t")


async def test_several_events_get_the_same_defaults() -> None:
    """`publish_many` fills in what an envelope leaves out, and keeps what it says."""
    program = Program(buffer=10)
    with serving(REQUEST):
        outcomes = await program.publisher.publish_many(
            [
                Delivery.of(Ping(1)),
                Delivery.of(Ping(2), id="7", source="till", request_id="1,own"),
            ],
            wait=False,
        )
    first, second = [each.delivery for each in outcomes]
    assert (first.source, first.request_id, first.traceparent) == ("the service", "1,r", "00-t")
    assert (second.id, second.source) == ("7", "till")
    assert (second.request_id, second.traceparent) == ("1,own", "00-t")
    assert program.queued() == [2, 2]


async def test_the_publishers_own_delivery_is_not_changed() -> None:
    """A delivery that was given to `publish_many` may be given to it again, as it was."""
    given = Delivery.of(Ping(), id="7")
    before = to_builtins(given)
    with serving(REQUEST):
        await Program().publisher.publish_many([given], wait=False)
    assert to_builtins(given) == before
    assert given.receipt is None


# The hand-over.


async def test_an_event_is_handed_over_between_two_waits() -> None:
    """An event that all subscribers have room for is queued, however many there were; the waits of
    its publisher are the turns of the others."""
    program = Program(buffer=3 * QUANTUM)
    for number in range(2 * QUANTUM):
        assert program.publisher.hand_over(Delivery(Ping(number), size=1))
    assert program.queued() == [2 * QUANTUM] * 2
    assert program.bus.fairness.streak == 0
    assert not program.bus.fairness.owes_turn


@pytest.mark.parametrize("policy", [{"buffer": 1}, {"buffer_bytes": 1024}])
async def test_an_event_that_is_not_handed_over(policy: dict[str, Any]) -> None:
    """Nothing is done where one subscriber has no room, in events or in bytes, or needs care."""
    program = Program(**policy)
    assert program.publisher.hand_over(Delivery(Ping(), size=600))
    assert not program.publisher.hand_over(Delivery(Ping(), size=600))
    assert program.queued() == [1, 1]
    program = Program()
    program.inboxes[1].fast_path.mind("a reason", True)
    assert not program.publisher.hand_over(Delivery(Ping(), size=1))
    assert program.queued() == [0, 0]


async def test_an_event_is_handed_over_to_nobody() -> None:
    """An event that nobody listens to is unrouted."""
    program = Program()
    assert program.publisher.hand_over(Delivery(Lonely(), size=1))
    assert program.bus.unrouted == {"lonely": 1}
    assert program.publisher.all_queued(Lonely) == {}
    assert program.publisher.all_queued(Ping) == {"one": Fate.QUEUED, "other": Fate.QUEUED}


# The wait.


async def test_an_event_that_nobody_waits_for(autojump_clock: MockClock) -> None:
    """Publishing without a wait returns before anything was handled."""
    program = Program()
    outcome = await program.publish(Ping())
    assert trio.current_time() == 0
    await program.handle()
    assert outcome.fates == {"one": Fate.QUEUED, "other": Fate.QUEUED}


async def test_a_wait_ends_with_the_last_subscriber(autojump_clock: MockClock) -> None:
    """Publishing with a wait returns when the event has ended everywhere, with its fates."""
    program = Program()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.handle)
        outcome = await program.publish(Ping(), wait=True)
        assert trio.current_time() == 2
    assert outcome.fates == {"one": Fate.HANDLED, "other": Fate.HANDLED}


async def test_a_wait_for_several_ends_with_the_last_event(autojump_clock: MockClock) -> None:
    """`publish_many` with a wait returns when all events have ended, each with its own fates."""
    program = Program(buffer=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.handle, 3)
        outcomes = await program.publisher.publish_many(
            [Delivery.of(Ping(number)) for number in range(3)], wait=True
        )
        assert trio.current_time() == 6
    assert [outcome.worst for outcome in outcomes] == [Fate.HANDLED] * 3


async def test_a_wait_for_nobody_ends_at_once(autojump_clock: MockClock) -> None:
    """An event without a subscriber has no end to wait for, and is counted as unrouted."""
    program = Program()
    outcome = await program.publish(Lonely(), wait=True)
    assert (trio.current_time(), outcome.unrouted) == (0, True)
    assert program.bus.unrouted == {"lonely": 1}


async def test_a_long_wait_is_told_once(autojump_clock: MockClock) -> None:
    """After half a minute a warning names the subscribers that the publisher still waits for."""
    program = Program()
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(program.handle, after=LONG * 0.8))
            outcome = await program.publish(Ping(), wait=True, id="7")
    assert outcome.worst is Fate.HANDLED
    (line,) = [log for log in logs if log["event"] == "a publisher still waits"]
    assert (line["waits_for"], line["event_type"], line["event_id"]) == (["other"], "ping", "7")


# Faults, and turns.


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (Ping, r"`Ping\(…\)`"),
        ("ping", "derive a class from Event"),
        (Delivery.of(Ping()), r"`delivery\.event`"),
        (Unregistered(), "event_types"),
    ],
)
async def test_mistakes(mistake: Any, says: str) -> None:
    """An object that is no event of the program is refused, with what to write instead."""
    program = Program()
    with pytest.raises(UnknownEventError, match=says):
        await program.publish(mistake)
    with pytest.raises(UnknownEventError, match=says):
        await program.publish(mistake, wait=True, id="7")
    assert program.queued() == [0, 0]


@pytest.mark.parametrize("mistake", [Ping(), Delivery.of(Unregistered())])
@pytest.mark.parametrize("wait", [False, True])
async def test_one_mistake_among_several(mistake: Any, wait: bool) -> None:
    """If one of several events is refused, none of them is published."""
    program = Program(buffer=10)
    with pytest.raises(UnknownEventError):
        await program.publisher.publish_many(
            [Delivery.of(Ping()), cast("Delivery[Event]", mistake)], wait=wait
        )
    assert program.queued() == [0, 0]


@pytest.mark.parametrize("event", [Ping(), Lonely()])
async def test_a_publisher_that_never_waits_gives_others_their_turn(event: Event) -> None:
    """A publisher of very many events passes a checkpoint once in a while."""
    program = Program(buffer=10 * QUANTUM)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(10 * QUANTUM):
            await program.publish(event)
        assert turns >= 5
        nursery.cancel_scope.cancel()


async def test_an_offer_needs_no_wait_where_there_is_room(autojump_clock: MockClock) -> None:
    """An event that is offered has its envelope and its place, and there is nothing to wait for."""
    program = Program(buffer=10)
    await program.publish(Ping())  # After a quiet time, readers have their turn.
    with serving(REQUEST):
        assert program.publisher.offer(Ping(1)) is None
    assert program.queued() == [2, 2]
    await program.inboxes[0].receive()
    delivery = await program.inboxes[0].receive()
    assert (delivery.request_id, delivery.source) == ("1,r", "the service")


async def test_an_offer_waits_for_room(autojump_clock: MockClock) -> None:
    """An event that finds an inbox full is there when the wait that `offer` returns has ended."""
    program = Program(buffer=1, block_for=5.0)
    await program.publish(Ping())
    async with trio.open_nursery() as nursery:
        wait = program.publisher.offer(Ping(1))
        assert wait is not None
        nursery.start_soon(program.handle, 1)
        await wait
    assert program.queued() == [1, 1]


async def test_an_offer_lets_others_have_their_turn(autojump_clock: MockClock) -> None:
    """A publisher that offers events without a pause waits for others now and then."""
    program = Program(buffer=10 * QUANTUM)
    waits = [wait for _ in range(2 * QUANTUM) if (wait := program.publisher.offer(Ping()))]
    for wait in waits:
        await wait
    assert waits
    assert program.queued() == [2 * QUANTUM] * 2
