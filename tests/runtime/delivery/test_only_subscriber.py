"""Publishing to subscribers that need no care, or to the only one, ends as it does with care."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trivet import Delivery, Event, Outcome, current_delivery
from trivet._delivery import _fairness, _publisher
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._bus import Bus, Subscription
from trivet._delivery._publisher import Publisher
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._events._types import EventTypes
from trivet._inbox._quantum import QUANTUM
from trivet._inbox._workers import handle_plain


class Step(Event):
    number: int


class Side:
    """A publisher and its subscribers; and what came of it."""

    def __init__(self, policy: DeliveryPolicy, *, is_quick: bool, subscribers: int = 1) -> None:
        self.inboxes = [BoundedInbox(f"side{number}", policy) for number in range(subscribers)]
        self.inbox = self.inboxes[-1]
        """The one to which something else happens."""
        self.bus = Bus(
            [Subscription(f"side{n}", Step, inbox, policy) for n, inbox in enumerate(self.inboxes)]
        )
        if not is_quick:
            self.bus.routes = {Step: attrs.evolve(self.bus.routes[Step], only=None, paths=())}
        self.publisher = Publisher(self.bus, "service", EventTypes([Step]))
        self.outcomes: list[Outcome] = []
        self.handled: list[int] = []

    async def publish(self, number: int) -> None:
        """Publish several events."""
        for each in range(number):
            self.outcomes.append(await self.publisher.publish(Step(each)))

    async def publish_with_ids(self, number: int) -> None:
        """Publish several events, some of which are repetitions."""
        for each in range(number):
            self.outcomes.append(await self.publisher.publish(Step(each), id=str(each % 3)))

    async def publish_to_the_quantum(self, number: int) -> None:
        """Publish events at the end of the publisher's turn."""
        self.bus.fairness.streak = QUANTUM - 1
        await self.publish(number)

    async def take(self, number: int) -> None:
        """Take an event, and leave it in flight."""
        self.inbox.take()

    async def work(self, number: int) -> None:
        """Handle what is there, while something more is published to the parked worker."""
        async with trio.open_nursery() as nursery:
            for inbox in self.inboxes:
                nursery.start_soon(handle_plain, inbox, self._handle)
            await trio.testing.wait_all_tasks_blocked()
            await self.publish(number)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    async def filter(self, number: int) -> None:
        """Set a filter, or none."""
        self.inbox.admission.wants = (lambda event: event != Step(0)) if number % 2 else None

    async def close(self, number: int) -> None:
        """Let nothing in any more, or something again."""
        self.inbox.close() if number % 2 else self.inbox.reopen()

    async def _handle(self, event: Step) -> None:
        assert current_delivery().event is event
        self.handled.append(event.number)

    def sight(self) -> object:
        """All that is to be seen from outside."""
        outcomes = [(each.fates, each.refusals, each.delivery.source) for each in self.outcomes]
        return outcomes, sorted(self.handled), [each.statistics() for each in self.inboxes]

    async def pass_time(self, number: int) -> None:
        """Let the time pass after which a repetition is not known any more."""
        await trio.sleep(100 * number)


OFTEN = [Side.publish, Side.publish_with_ids]
STEPS = [
    *OFTEN,
    *OFTEN,
    Side.pass_time,
    Side.publish_to_the_quantum,
    Side.take,
    Side.work,
    Side.filter,
    Side.close,
]
steps = st.tuples(st.sampled_from(STEPS), st.integers(0, 4))


@pytest.mark.model
@given(
    program=st.lists(steps, min_size=5, max_size=15),
    buffer=st.integers(1, 9),
    overflow=st.sampled_from(["drop_oldest", "drop_newest", "reject"]),
    window=st.sampled_from([300.0, 0.0]),
    subscribers=st.integers(1, 3),
)
async def test_the_quick_way_ends_as_the_careful_one(
    autojump_clock: MockClock,
    program: list[tuple[Any, int]],
    buffer: int,
    overflow: Any,
    window: float,
    subscribers: int,
) -> None:
    """After every step, the outcomes and the counts are the same."""
    policy = DeliveryPolicy(buffer=buffer, overflow=overflow, deduplicate_for=window)
    quick, careful = sides = [
        Side(policy, is_quick=is_quick, subscribers=subscribers) for is_quick in (True, False)
    ]
    with pytest.MonkeyPatch.context() as patch:
        # Whether a reader that is woken has its turn at once depends on the machine's clock.
        patch.setattr(_publisher, "wall_time", lambda: 1.0)
        patch.setattr(_fairness, "time", lambda: 1.0)
        for step, number in program:
            for side in sides:
                await step(side, number)
            assert quick.sight() == careful.sight()


async def test_the_quick_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain event for the only subscriber does without the bus."""
    side = Side(DeliveryPolicy(), is_quick=True)
    monkeypatch.delattr(Bus, "offer")
    await side.publish(1)
    assert side.inbox.statistics().queued == 1


async def test_a_publisher_sees_a_cancellation() -> None:
    """A publisher that never waits is cancelled after its quantum at the latest."""
    side = Side(DeliveryPolicy(buffer=10 * QUANTUM), is_quick=True)
    with trio.CancelScope() as scope:
        scope.cancel()
        await side.publish(10 * QUANTUM)
    assert scope.cancelled_caught
    assert len(side.outcomes) <= QUANTUM


async def test_the_envelope_by_default() -> None:
    """The source is the service, and what an event is published from is its origin."""
    side = Side(DeliveryPolicy(), is_quick=True)
    outcome = await side.publisher.publish(Step(1))
    named = await side.publisher.publish(Step(1), source="other", request_id="r-1")
    found: list[Delivery[Any] | None] = [side.inbox.take(), side.inbox.take()]
    assert found == [outcome.delivery, named.delivery]
    assert (outcome.delivery.source, outcome.delivery.request_id) == ("service", None)
    assert (named.delivery.source, named.delivery.request_id) == ("other", "r-1")


async def test_a_misspelt_fact_is_an_error() -> None:
    """A keyword that is no fact of an envelope is an error, and nothing is published."""
    side = Side(DeliveryPolicy(), is_quick=True)
    with pytest.raises(TypeError, match="'deadlin'"):
        await side.publisher.publish(Step(1), deadlin=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert side.inbox.statistics().accepted == 0
