from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from trivet import BackgroundPlugin
from trivet.testing import open_plugins
from trivet_contrib._brokers._client import AwayError
from trivet_contrib._brokers._reconnecting import Link


class Connected:
    not_promised = ()


class Broker:
    """Takes every connection, and notes when."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connected]:
        """Take one more."""
        self.times.append(trio.current_time())
        yield Connected()


class Idle(BackgroundPlugin):
    async def run(self) -> None:
        await trio.sleep_forever()


async def refused(_: Connected) -> None:
    """What is asked for is not to be had."""
    raise AwayError("full")


async def had(_: Connected) -> None:
    """What is asked for is there."""


async def test_a_broker_that_refuses_what_it_is_asked_is_asked_ever_less(
    autojump_clock: MockClock,
) -> None:
    """That it takes connections, and answers something else, is no reason to hurry."""
    broker = Broker()
    async with open_plugins(Idle) as runtime, trio.open_nursery() as nursery:
        link = Link(runtime.get(Idle), broker.connect, at_most=10)
        nursery.start_soon(link.run)

        async def ask_in_vain() -> None:
            await link.call(refused)

        async def ask() -> None:
            while True:
                await link.call(had)
                await trio.sleep(0.05)

        nursery.start_soon(ask_in_vain)
        nursery.start_soon(ask)
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    # Each wait is up to ten seconds, five on the average, once it has doubled from 0.1 that often.
    assert 10 < len(broker.times) < 100


async def test_a_connection_that_has_lasted_is_made_again_soon(autojump_clock: MockClock) -> None:
    """After a long time the back-off begins anew."""
    broker = Broker()
    async with open_plugins(Idle) as runtime, trio.open_nursery() as nursery:
        link = Link(runtime.get(Idle), broker.connect, at_most=10)
        nursery.start_soon(link.run)
        began = trio.current_time()
        for _ in range(20):
            await trio.sleep(11)
            with trio.move_on_after(0.11):  # The first wait is at most a tenth of a second.
                await link.call(refused)
            await link.call(had)
        assert trio.current_time() - began < 20 * 11.5
        nursery.cancel_scope.cancel()
    assert len(broker.times) > 20
