"""A sink whose broker fails at some messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trivet import BrokerChannel, Delivery, Event, Fate, Runtime
from trivet.testing import open_plugins
from trivet_contrib._brokers._client import (
    BrokerUnavailableError,
    ConnectionLostError,
    Message,
    MessageRefusedError,
    Producer,
    UnsendableMessagesError,
)
from trivet_contrib._brokers._sink import LOST_CONNECTIONS, SENT_TOGETHER, BrokerSink


class Letter(Event):
    """The event that is sent."""

    text: str


class Broker(Producer):
    """A broker that takes messages in order, up to the first one that it fails at."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        """The messages of each call, whether taken or not."""
        self.has: list[str] = []
        self.fails_at: dict[str, Exception] = {}
        self.answers = True
        """Whether the broker confirms the messages before a failure."""

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """See `Producer`."""
        texts = [each.body.decode()[9:-2] for each in messages]
        self.sent.append(texts)
        for place, text in enumerate(texts):
            if text in self.fails_at:
                raise self.fails_at[text]
            self.has.append(text)
            if self.answers:
                taken.add(place)


class Post(BrokerSink):
    broker = Broker()

    def describe_channels(self) -> list[BrokerChannel]:
        return []

    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """Connect to the test's broker."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Producer]:
        yield self.broker


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker for a test."""
    made = Broker()
    monkeypatch.setattr(Post, "broker", made)
    return made


def sending(**delivery: object) -> AbstractAsyncContextManager[Runtime]:
    """A program with the sink."""
    chosen = {"events": ["letter"], "batch_age": 0.5, **delivery}
    table = {"format": "json", "reconnect_max": 1.0, "delivery": chosen}
    return open_plugins(Post, event_types=[Letter], settings={"post": table})


async def publish(runtime: Runtime, *texts: str) -> str:
    """Publish events, and wait for their ends; returns the texts of the handled ones."""
    deliveries = [Delivery[Event].of(Letter(text)) for text in texts]
    outcomes = await runtime.publish_many(deliveries, wait=True)
    ended = zip(texts, outcomes, strict=True)
    return "".join(text for text, outcome in ended if outcome.worst is Fate.HANDLED)


async def test_taken_events_are_not_sent_again(broker: Broker, autojump_clock: MockClock) -> None:
    """After a failure only the messages are sent again that the broker has not confirmed."""
    broker.fails_at["c"] = BrokerUnavailableError("full")
    async with sending() as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(publish, runtime, "a", "b", "c", "d")
        await trio.sleep(10)
        assert runtime.statistics()["post"].handled == 2  # The broker is waited for.
        broker.fails_at.clear()
    assert broker.has == ["a", "b", "c", "d"]
    assert broker.sent[:2] == [["a", "b", "c", "d"], ["c", "d"]]


async def test_an_event_that_is_refused_is_found(broker: Broker, autojump_clock: MockClock) -> None:
    """If the broker does not say which event it refuses, the events are sent one at a time."""
    broker.fails_at["c"] = MessageRefusedError("no")
    async with sending() as runtime:
        assert await publish(runtime, "a", "b", "c", "d") == "abd"
    assert broker.sent == [["a", "b", "c", "d"], ["c"], ["d"]]


async def test_a_poison_event_that_breaks_the_connection_is_found(
    broker: Broker, autojump_clock: MockClock
) -> None:
    """A poison event is sent alone until its limit, and the others at most twice more."""
    broker.fails_at["c"], broker.answers = ConnectionLostError("gone"), False
    async with sending() as runtime:
        assert await publish(runtime, "a", "b", "c", "d") == "abd"
    assert broker.sent == [["a", "b", "c", "d"]] * 2 + [
        ["a"],
        ["b"],
        *[["c"]] * LOST_CONNECTIONS,
        ["d"],
    ]


async def test_an_event_that_has_failed_before_is_sent_alone(
    broker: Broker, autojump_clock: MockClock
) -> None:
    """An event that is tried again costs no other event any more."""
    broker.fails_at["c"], broker.answers = ConnectionLostError("gone"), False
    again = {"retry": True, "max_attempts": 3, "retry_initial": 0.1, "retry_max": 0.1}
    async with sending(**again) as runtime:
        assert await publish(runtime, "a", "b", "c", "d") == "abd"
    alone = [each for each in broker.sent if "c" in each][2:]
    assert alone == [["c"]] * (3 * LOST_CONNECTIONS)
    assert broker.has.count("a") == 3


async def test_events_that_can_never_be_sent(broker: Broker, autojump_clock: MockClock) -> None:
    """Unsendable events are given up with the client's reason, and the others are sent."""
    broker.fails_at["b"] = UnsendableMessagesError({1: "too large", 3: "too large"})
    async with sending() as runtime:
        assert await publish(runtime, "a", "b", "c", "d") == "ac"
    assert broker.has == ["a", "c"]


async def test_large_events_are_sent_alone(broker: Broker, autojump_clock: MockClock) -> None:
    """Messages that are sent together are bounded in bytes, and in order."""
    large = "x" * (SENT_TOGETHER + 1)
    async with sending() as runtime:
        await publish(runtime, "a", "b", large, "c", "d")
    assert broker.sent == [["a", "b"], [large], ["c", "d"]]
