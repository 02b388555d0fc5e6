"""Large events, and many events, in a sink: the event loop is held for nobody."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from ipaddress import ip_network
from time import perf_counter, thread_time
from typing import Any

import httpx
import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints

from trivet import BrokerChannel, Delivery, Event
from trivet.testing import open_plugins
from trivet_contrib import _turns
from trivet_contrib._brokers._client import Message, Producer
from trivet_contrib._brokers._sink import BrokerSink
from trivet_contrib._http._poster import Poster, open_poster
from trivet_contrib._turns import LARGE, Turns, off_loop
from trivet_contrib.influx._client import InfluxClient
from trivet_contrib.webhook import Webhook
from trivet_contrib.webhook._addresses import CheckedBackend
from trivet_contrib.webhook._client import WebhookClient

pytestmark = pytest.mark.real_time

LIMIT = 0.05
"""Seconds of processor time for which nothing that a client sends may hold the event loop."""


class Measured(Event):
    values: list[Any]


class Loop(trio.abc.Instrument):
    """An instrument that finds the longest time from one look at the sockets to the next."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._since = thread_time()

    def after_io_wait(self, timeout: float) -> None:
        """Begin a turn."""
        self._since = thread_time()

    def before_io_wait(self, timeout: float) -> None:
        """End a turn."""
        self.longest = max(self.longest, thread_time() - self._since)


@contextmanager
def held() -> Generator[Loop]:
    """Measure while the block runs."""
    loop = Loop()
    trio.lowlevel.add_instrument(loop)
    yield loop
    loop.before_io_wait(0)  # The last turn has not ended yet.
    trio.lowlevel.remove_instrument(loop)


class Broker(Producer):
    """A broker that takes everything."""

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """See `Producer`."""
        await trio.lowlevel.checkpoint()


class Post(BrokerSink):
    def describe_channels(self) -> list[BrokerChannel]:
        return []

    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """Connect to the broker that takes everything."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Producer]:
        yield Broker()


class Receiver(httpx.AsyncBaseTransport):
    """A receiver that takes everything."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer 204."""
        return httpx.Response(204, stream=httpx.ByteStream(b""))


def poster() -> AbstractAsyncContextManager[Poster]:
    """A poster whose every request is taken."""
    return open_poster(Receiver(), httpx.URL("http://127.0.0.1:9/"), timeout=10.0, headers={})


@asynccontextmanager
async def taking(*_: object, **__: object) -> AsyncGenerator[WebhookClient]:
    """A webhook's client, in place of `open_client`."""
    async with poster() as made:
        backend = CheckedBackend([ip_network("127.0.0.0/8")])
        yield WebhookClient(made, backend, [b"k" * 32] * 4)


def events(count: int, values: int, size: int) -> list[Delivery[Event]]:
    """Events of a client, each with as many numbers, and of this size by the estimate."""
    return [Delivery.of(Measured([0.1] * values), size=size) for _ in range(count)]


SENT = {"one large": (1, 2_000_000, 1_000_000), "many small": (200, 20_000, LARGE)}


@pytest.mark.parametrize("what", SENT)
@pytest.mark.parametrize("sink", [Post, Webhook])
async def test_events_are_written_in_turns(
    what: str, sink: type[Post | Webhook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large event is written in a thread, and many events are written in turns."""
    monkeypatch.setattr("trivet_contrib.webhook._plugin.open_client", taking)
    table: dict[str, Any] = {"delivery": {"batch_size": 256}}
    if sink is Webhook:
        table |= {"url": "http://127.0.0.1:9/", "allowed_networks": ["127.0.0.0/8"]}
    deliveries = events(*SENT[what])
    async with open_plugins(sink, event_types=[Measured], settings={sink.name: table}) as runtime:
        with held() as loop:
            outcomes = await runtime.publish_many(deliveries, wait=True)
    assert {outcome.worst.value for outcome in outcomes if outcome.worst} == {"handled"}
    assert loop.longest < LIMIT


async def test_a_large_body_is_signed_in_a_thread() -> None:
    """The body of many documents is put together, and signed, in a thread."""
    documents = [b"x" * 1_000_000] * 60
    async with taking() as hook:
        await hook.post_batch(documents[:1], ["a"])
        with held() as loop:
            await hook.post_batch(documents, ["a"])
    assert loop.longest < LIMIT


async def test_many_points_are_compressed_in_a_thread() -> None:
    """The lines of many points are compressed in a thread."""
    lines = b"".join(b"requests,route=%d time=%d\n" % (n % 7, n * n) for n in range(600_000))
    async with poster() as made:
        influx = InfluxClient(made, {}, compressed=True)
        await influx.write(lines[:100])
        with held() as loop:
            await influx.write(lines)
    assert loop.longest < LIMIT


async def test_a_turn_ends_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn ends when its time is over, and not before."""
    now = perf_counter()
    monkeypatch.setattr(_turns, "perf_counter", lambda: now)
    turns = Turns()
    with assert_no_checkpoints():
        await turns.next()
    now += _turns.TURN
    with assert_checkpoints():
        await turns.next()
    with assert_no_checkpoints():
        await turns.next()


async def test_small_work_is_done_at_once() -> None:
    """Work on a small event needs no thread, and no turn."""
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await off_loop(LARGE, lambda: "done") == "done"
        await off_loop(LARGE + 1, lambda: "done")
    assert scope.cancelled_caught
