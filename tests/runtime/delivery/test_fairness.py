"""A flooded plugin has its turn, and no more: other plugins and HTTP have theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock

from trivet import DeliverySettings, Event, EventPlugin, Runtime, create_app, open_runtime
from trivet._delivery import _fairness
from trivet._delivery._fairness import Fairness
from trivet._inbox import _workers
from trivet._inbox._quantum import CATCH_UP, CHECK_EVERY, QUANTUM, QUIET, SECONDS


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
        for number in range(100 * QUANTUM):
            await runtime.publish(Drop(number))
        Flooded.gate.set()
        nursery.start_soon(flood, runtime)
        for _ in range(10):
            begun = Flooded.handled
            await runtime.publish(Letter(), wait=True)
            assert seen.pop() <= begun + 2 * CATCH_UP
        assert Flooded.handled > QUANTUM  # Which went on meanwhile.
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
    """A quantum ends early where handlers take their time without waiting."""
    now = 0.0
    monkeypatch.setattr(_workers, "perf_counter", lambda: now)
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

        for number in range(2 * QUANTUM):
            await runtime.publish(Drop(number))
        nursery.start_soon(watch)
        await runtime.publish(Drop(0), wait=True)
        nursery.cancel_scope.cancel()
    # The last of one round of the tasks may be the first of the next.
    assert 0 < max(turns) <= 2 * CHECK_EVERY


# The account


async def turns_during(fairness: Fairness, publish: Callable[[], Awaitable[None]]) -> int:
    """How many turns another task has while one publishes."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.cancel_shielded_checkpoint()
        await trio.lowlevel.cancel_shielded_checkpoint()
        turns = 0
        await publish()
        had = turns
        nursery.cancel_scope.cancel()
    return had


async def test_a_fast_publisher_leaves_a_turn_once_in_a_quantum() -> None:
    """A publisher that never waits leaves a turn, though it is neither slow nor cancelled."""
    fairness = Fairness()

    async def publish() -> None:
        for number in range(4 * QUANTUM + 1):
            if fairness.streak >= QUANTUM:
                await fairness.before_publish()
            fairness.streak += 1
            fairness.note(number / 1e6)
            assert not fairness.owes_turn

    # The first event comes after a quiet time, for which the streak is begun anew; of four turns
    # one may be another task's second in a row.
    assert 2 <= await turns_during(fairness, publish) <= 5


async def test_a_slow_publisher_learns_of_a_cancellation_at_its_next_event() -> None:
    """A slow publisher is cancelled although it has published far fewer events than a quantum."""
    fairness = Fairness()
    fairness.streak += 1
    fairness.note(1.0)
    with trio.CancelScope() as scope:
        scope.cancel()
        assert fairness.streak >= QUANTUM
        await fairness.before_publish()
    assert scope.cancelled_caught


async def test_to_look_for_a_cancellation_is_no_turn() -> None:
    """A slow publisher that is not cancelled goes on, and so does its streak."""
    fairness = Fairness()
    fairness.streak = 7
    fairness.note(1.0)

    async def publish() -> None:
        await fairness.before_publish()

    assert await turns_during(fairness, publish) == 0
    assert fairness.streak == 7


async def test_a_reader_that_is_woken_after_a_quiet_time_has_its_turn() -> None:
    """A reader that is woken within a burst waits for the end of the quantum."""
    fairness = Fairness()
    fairness.woke_reader(1.0)
    assert fairness.owes_turn
    assert await turns_during(fairness, fairness.after_publish) >= 1
    assert not fairness.owes_turn
    fairness.woke_reader(1.0001)
    assert not fairness.owes_turn


async def test_a_publisher_that_has_waited_owes_nothing() -> None:
    """A publisher that has waited for room owes the others no turn."""
    await trio.lowlevel.checkpoint()
    fairness = Fairness()
    fairness.streak = QUANTUM - 1
    fairness.woke_reader(1.0)
    fairness.has_waited()
    assert fairness.streak == 0
    assert not fairness.owes_turn


async def test_the_turn_of_many_readers_is_no_quiet_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher whose many readers took long owes no turn for the very next event."""
    fairness = Fairness()
    fairness.woke_reader(1.0)
    later = 1.0 + 10 * QUIET
    monkeypatch.setattr(_fairness, "time", lambda: later)
    await fairness.after_publish()
    fairness.woke_reader(later)
    assert not fairness.owes_turn
