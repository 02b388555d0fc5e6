"""What a sink makes of a broker that fails at some messages, and does as it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trivet import Delivery, Event, Fate, Runtime
from trivet.testing import open_plugins
from trivet_contrib._brokers._client import (
    AwayError,
    CutOffError,
    Message,
    MessageRefusedError,
    Producer,
    UnsendableError,
)
from trivet_contrib._brokers._sink import CUTS, TOGETHER, BrokerSink


class Letter(Event):
    """What is sent."""

    text: str


class Broker(Producer):
    """Takes messages, in order, until it comes to one that it fails at."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        """What was sent together, whatever became of it."""
        self.has: list[str] = []
        self.fails_at: dict[str, Exception] = {}
        self.answers = True
        """Whether it says which it has, where it fails."""

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

    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """To the one that there is."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Producer]:
        yield self.broker


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """One for a test."""
    made = Broker()
    monkeypatch.setattr(Post, "broker", made)
    return made


def sending(**delivery: object) -> AbstractAsyncContextManager[Runtime]:
    """A program with the sink."""
    chosen = {"events": ["letter"], "batch_age": 0.5, **delivery}
    table = {"format": "json", "reconnect_max": 1.0, "delivery": chosen}
    return open_plugins(Post, event_types=[Letter], settings={"post": table})


async def publish(runtime: Runtime, *texts: str) -> str:
    """Publish them, and wait for the end of all; the texts of those that were handled."""
    deliveries = [Delivery[Event].of(Letter(text)) for text in texts]
    outcomes = await runtime.publish_many(deliveries, wait=True)
    ended = zip(texts, outcomes, strict=True)
    return "".join(text for text, outcome in ended if outcome.worst is Fate.HANDLED)


async def test_what_was_taken_is_not_sent_again(broker: Broker, autojump_clock: MockClock) -> None:
    """Of a batch that fails the broker is sent what it does not say that it has."""
    broker.fails_at["c"] = AwayError("full")
    async with sending() as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(publish, runtime, "a", "b", "c", "d")
        await trio.sleep(10)
        assert runtime.statistics()["post"].handled == 2  # The broker is waited for.
        broker.fails_at.clear()
    assert broker.has == ["a", "b", "c", "d"]
    assert broker.sent[:2] == [["a", "b", "c", "d"], ["c", "d"]]


async def test_an_event_that_is_refused_is_found(broker: Broker, autojump_clock: MockClock) -> None:
    """Where a broker does not say which one it is they are sent one at a time, at once."""
    broker.fails_at["c"] = MessageRefusedError("no")
    async with sending() as runtime:
        assert await publish(runtime, "a", "b", "c", "d") == "abd"
    assert broker.sent == [["a", "b", "c", "d"], ["c"], ["d"]]


async def test_an_event_at_which_the_connection_breaks_is_found(
    broker: Broker, autojump_clock: MockClock
) -> None:
    """The others are sent twice more, at most, and it alone until it has failed so often."""
    broker.fails_at["c"], broker.answers = CutOffError("gone"), False
    async with sending() as runtime:
        assert await publish(runtime, "a", "b", "c", "d") == "abd"
    assert broker.sent == [["a", "b", "c", "d"]] * 2 + [["a"], ["b"], *[["c"]] * CUTS, ["d"]]


async def test_an_event_that_has_failed_before_is_sent_alone(
    broker: Broker, autojump_clock: MockClock
) -> None:
    """Tried again, it costs nobody any more."""
    broker.fails_at["c"], broker.answers = CutOffError("gone"), False
    again = {"retry": True, "max_attempts": 3, "retry_initial": 0.1, "retry_max": 0.1}
    async with sending(**again) as runtime:
        assert await publish(runtime, "a", "b", "c", "d") == "abd"
    alone = [each for each in broker.sent if "c" in each][2:]
    assert alone == [["c"]] * (3 * CUTS)
    assert broker.has.count("a") == 3


async def test_events_that_can_never_be_sent(broker: Broker, autojump_clock: MockClock) -> None:
    """They are given up as the broker's client says, and the others are sent on."""
    broker.fails_at["b"] = UnsendableError({1: "too large", 3: "too large"})
    async with sending() as runtime:
        assert await publish(runtime, "a", "b", "c", "d") == "ac"
    assert broker.has == ["a", "c"]


async def test_large_events_are_sent_alone(broker: Broker, autojump_clock: MockClock) -> None:
    """What is sent together is bounded in bytes, and in order."""
    large = "x" * (TOGETHER + 1)
    async with sending() as runtime:
        await publish(runtime, "a", "b", large, "c", "d")
    assert broker.sent == [["a", "b"], [large], ["c", "d"]]
