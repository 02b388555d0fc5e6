"""Lanes so long that their ends are on disk only."""

from __future__ import annotations

import trio

from trivet import Delivery, DeliverySettings, Event, EventPlugin
from trivet._delivery._beyond import WINDOW
from trivet._delivery._queue import LOADED
from trivet.testing import open_plugins


class Step(Event):
    number: int
    key: str


async def test_a_later_page_does_not_overtake_an_earlier_one(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A page read for one key leaves the events of another, long key in their order."""
    handled: list[tuple[str, int]] = []
    all_are_busy, ahead_is_done = trio.Event(), trio.Event()

    class Walker(EventPlugin[Step]):
        delivery = DeliverySettings(
            durable=True, ordering_key="key", concurrency=3, time_limit=0, deduplicate_for=0
        )

        async def handle_event(self, event: Step) -> None:
            if event.number == ahead[0]:
                await all_are_busy.wait()
            elif event.number in (long[0], quick[0]):
                if event.number == quick[0]:
                    all_are_busy.set()
                await ahead_is_done.wait()
            elif event.number in quick:
                await trio.sleep(0.01)
            handled.append((event.key, event.number))

    # Two pages of the one that goes ahead, of which the second is held back on disk; then so many
    # of the long one that what follows is held back too, but some stand behind the quick ones.
    keys = ["ahead"] * 2 * WINDOW
    keys += ["long"] * (LOADED + 1) + ["quick"] * 50 + ["long"] * (WINDOW - LOADED - 51)
    keys += ["long"] * 20
    numbered = list(enumerate(keys))
    ahead, long, quick = (
        [number for number, key in numbered if key == name] for name in ("ahead", "long", "quick")
    )
    async with open_plugins(Walker) as runtime:
        steps = [
            Step(number=number, key=f"quick {number}" if key == "quick" else key)
            for number, key in numbered
        ]
        await runtime.publish_many([Delivery.of(step) for step in steps])
        await trio.sleep(10)
        ahead_is_done.set()
    assert [number for key, number in handled if key == "ahead"] == ahead
    assert [number for key, number in handled if key == "long"] == long


async def test_a_slow_key_does_not_hold_up_those_that_are_on_disk(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Idle handlers get events on disk where all in memory wait for one in flight."""
    handled: list[int] = []
    never = trio.Event()

    class Walker(EventPlugin[Step]):
        delivery = DeliverySettings(durable=True, ordering_key="key", concurrency=2, time_limit=0)

        async def handle_event(self, event: Step) -> None:
            if event.key == "slow":
                await never.wait()
            handled.append(event.number)

    async with open_plugins(Walker) as runtime:
        for number in range(2 * WINDOW):
            await runtime.publish(Step(number=number, key="slow"))
        for number in range(3):
            await runtime.publish(Step(number=number, key="quick"))
        await trio.sleep(1)
        assert handled == [0, 1, 2]
        never.set()
