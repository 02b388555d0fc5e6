"""A stop that comes while a program starts."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trivet import BackgroundPlugin, StartError, StartupSettings
from trivet.testing import open_plugins

happened: list[str] = []


class Quick(BackgroundPlugin):
    """A plugin whose start has no wait, so that no cancellation reaches it."""

    async def initialize(self) -> None:
        happened.append(f"{self.name} initialize")

    async def close(self) -> None:
        await trio.sleep(0.1)
        happened.append(f"{self.name} close")


class Late(Quick):
    """A plugin that needs the one before, so that it starts after it."""

    needs = (Quick,)


class Holding(Quick):
    """A plugin that holds the loop until the limit of its start is over."""

    async def initialize(self) -> None:
        happened.append(f"{self.name} initialize")
        stop.cancel()


stop = trio.CancelScope()


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Begin with nothing."""
    global stop  # noqa: PLW0603
    stop = trio.CancelScope()
    happened.clear()


async def test_a_stop_that_was_there_before_begins_nothing(autojump_clock: MockClock) -> None:
    """No plugin starts, since each would have to be closed again."""
    stop.cancel()
    with stop:
        async with open_plugins(Quick, Late):
            pytest.fail("it has started")
    assert happened == []


async def test_what_has_started_is_closed_and_nothing_more_is_begun(
    autojump_clock: MockClock,
) -> None:
    """A stop between two plugins finds the first to be closed, and the second not begun."""
    with stop:
        async with open_plugins(Holding, LateHolding):
            pytest.fail("it has started")
    assert happened == ["holding initialize", "holding close"]


class LateHolding(Quick):
    """A plugin that needs the one that asks for the stop."""

    needs = (Holding,)


async def test_a_start_that_is_over_too_late_is_closed(autojump_clock: MockClock) -> None:
    """Resources that `initialize` has entered are left, although the start has failed."""

    class Slow(Quick):
        async def initialize(self) -> None:
            happened.append("slow initialize")
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    with pytest.raises(StartError):
        async with open_plugins(Slow, startup=StartupSettings(limit=1)):
            pytest.fail("it has started")
    assert happened == ["slow initialize", "slow close"]
