from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from trivet import BackgroundPlugin, Status
from trivet.testing import open_plugins
from trivet_contrib._brokers._client import BrokerRefusedError, BrokerUnavailableError, Client
from trivet_contrib._brokers._reconnecting import Reconnector


class Broker:
    """A broker that takes every connection, and notes when."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Client]:
        """Take one more connection."""
        self.times.append(trio.current_time())
        yield Client()


class Idle(BackgroundPlugin):
    async def run(self) -> None:
        await trio.sleep_forever()


async def refused(_: Client) -> None:
    """A request that the broker refuses."""
    raise BrokerUnavailableError("full")


async def granted(_: Client) -> None:
    """A request that the broker answers."""


async def test_a_broker_that_refuses_requests_is_asked_ever_less(
    autojump_clock: MockClock,
) -> None:
    """A broker that takes connections and refuses requests is no reason to hurry."""
    broker = Broker()
    async with open_plugins(Idle) as runtime, trio.open_nursery() as nursery:
        reconnector = Reconnector(runtime.get(Idle), broker.connect, at_most=10)
        nursery.start_soon(reconnector.run)

        async def ask_in_vain() -> None:
            await reconnector.call(refused)

        async def ask() -> None:
            while True:
                await reconnector.call(granted)
                await trio.sleep(0.05)

        nursery.start_soon(ask_in_vain)
        nursery.start_soon(ask)
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    # Each wait is up to ten seconds, five on average, once it has doubled from 0.1 that often.
    assert 10 < len(broker.times) < 100


async def test_a_connection_that_has_lasted_is_made_again_soon(autojump_clock: MockClock) -> None:
    """After a long connection the back-off begins again with its first wait."""
    broker = Broker()
    async with open_plugins(Idle) as runtime, trio.open_nursery() as nursery:
        reconnector = Reconnector(runtime.get(Idle), broker.connect, at_most=10)
        nursery.start_soon(reconnector.run)
        began = trio.current_time()
        for _ in range(20):
            await trio.sleep(11)
            with trio.move_on_after(0.11):  # The first wait is at most a tenth of a second.
                await reconnector.call(refused)
            await reconnector.call(granted)
        assert trio.current_time() - began < 20 * 11.5
        nursery.cancel_scope.cancel()
    assert len(broker.times) > 20


@asynccontextmanager
async def closed() -> AsyncGenerator[Client]:
    """A broker that knows the user no longer."""
    raise BrokerRefusedError("password", "no such user")
    yield Client()


async def test_a_broker_that_refuses_the_settings(autojump_clock: MockClock) -> None:
    """The plugin says which setting is to be corrected, where the broker refuses one."""
    async with open_plugins(Idle) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(Reconnector(runtime.get(Idle), closed, at_most=10).run)
        await runtime.host("idle").wait_for_status(Status.DEGRADED)
        host = runtime.host("idle")
        assert host.trouble == "password: no such user"
        assert host.remedy == "correct `password` in [plugins.idle], or its broker"
        nursery.cancel_scope.cancel()
