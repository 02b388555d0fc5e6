"""Who is flooded has his turn, and no more: other plugins and HTTP have theirs."""

from __future__ import annotations

from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock

from trivet import DeliverySettings, Event, EventPlugin, Runtime, create_app, open_runtime
from trivet._delivery import _memory
from trivet._delivery._memory import GLANCE, SECONDS, TURN


class Drop(Event):
    number: int


class Letter(Event):
    pass


class Flooded(EventPlugin[Drop]):
    """Never waits for anything once the gate is open."""

    delivery = DeliverySettings(buffer=100_000)
    handled = 0
    gate: ClassVar[trio.Event] = trio.Event()

    async def handle_event(self, event: Drop) -> None:
        if not self.gate.is_set():
            await self.gate.wait()
        type(self).handled += 1


async def flood(runtime: Runtime) -> None:
    """Publish as fast as it can be handled."""
    while True:
        await runtime.publish(Drop(0))


@pytest.fixture(autouse=True)
def nothing_handled() -> None:
    """Every test begins at none."""
    Flooded.handled = 0
    Flooded.gate = trio.Event()
    Flooded.gate.set()


async def test_a_flooded_plugin_does_not_starve_another(autojump_clock: MockClock) -> None:
    """A letter arrives after a few turns of the flooded one, whatever waits for that."""
    seen: list[int] = []

    class Reader(EventPlugin[Letter]):
        async def handle_event(self, event: Letter) -> None:
            seen.append(Flooded.handled)

    async with open_runtime(plugins=[Flooded, Reader]) as runtime, trio.open_nursery() as nursery:
        Flooded.gate = trio.Event()
        for number in range(100 * TURN):
            await runtime.publish(Drop(number))
        Flooded.gate.set()
        nursery.start_soon(flood, runtime)
        for _ in range(10):
            begun = Flooded.handled
            await runtime.publish(Letter(), wait=True)
            assert seen.pop() <= begun + 4 * TURN
        assert Flooded.handled > TURN  # Which went on meanwhile.
        nursery.cancel_scope.cancel()


async def test_a_flooded_plugin_does_not_starve_http(autojump_clock: MockClock) -> None:
    """A request is answered while events keep coming as fast as they can be handled."""
    async with open_runtime(plugins=[Flooded]) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(flood, runtime)
        client = create_app(runtime).test_client()
        for _ in range(3):
            begun = Flooded.handled
            response = await client.get("/readyz")
            assert response.status_code == 200
            assert Flooded.handled > begun
        nursery.cancel_scope.cancel()


async def test_a_turn_of_slow_handlers_is_short(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where handlers take their time without waiting, a turn ends long before so many events."""
    now = 0.0
    monkeypatch.setattr(_memory, "perf_counter", lambda: now)
    turns: list[int] = []

    class Slow(Flooded):
        async def handle_event(self, event: Drop) -> None:
            nonlocal now
            now += SECONDS
            await super().handle_event(event)

    async with open_runtime(plugins=[Slow]) as runtime, trio.open_nursery() as nursery:

        async def watch() -> None:
            while True:
                begun = Slow.handled
                await trio.lowlevel.checkpoint()
                turns.append(Slow.handled - begun)

        for number in range(2 * TURN):
            await runtime.publish(Drop(number))
        nursery.start_soon(watch)
        await runtime.publish(Drop(0), wait=True)
        nursery.cancel_scope.cancel()
    # The last of one round of the tasks may be the first of the next.
    assert 0 < max(turns) <= 2 * GLANCE
