"""Calls from Trio to asyncio and back: results, errors, cancellation, context."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    AsyncioPlugin,
    BackgroundPlugin,
    EventPlugin,
    Fate,
)
from trivet.testing import open_plugins

from .parts import Ping, library


async def test_one_plugin_on_asyncio_may_call_another() -> None:
    """A call from one plugin on asyncio to another is made on the other's loop."""
    loops: list[asyncio.AbstractEventLoop] = []

    class Cache(AsyncioPlugin, BackgroundPlugin):
        async def look_up(self, key: int) -> int:
            return await self.run_on_asyncio(self._look_up, key)

        async def _look_up(self, key: int) -> int:
            await asyncio.sleep(0)
            loops.append(asyncio.get_running_loop())
            return key + 1

    class Asker(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            loops.append(asyncio.get_running_loop())
            assert await self.app.get(Cache).look_up(1) == 2

    async with open_plugins(Cache, Asker) as runtime:
        outcome = await runtime.publish(Ping(), wait=True)
    assert outcome.worst is Fate.HANDLED
    assert len({id(loop) for loop in loops}) == 2


async def test_run_on_trio(autojump_clock: MockClock) -> None:
    """`run_on_trio` awaits a function of Trio's, such as the wait for the stop."""
    notes: list[str] = []

    class Watcher(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            self.watch = asyncio.create_task(self._watch())

        async def _watch(self) -> None:
            await self.run_on_trio(self.stopping.wait)
            notes.append("stopping")

        async def close(self) -> None:
            await self.watch

    async with open_plugins(Watcher):
        await trio.sleep(1)
        assert not notes
    assert notes == ["stopping"]


async def test_cancelled_by_asyncio(autojump_clock: MockClock) -> None:
    """A time-out of asyncio's cancels the awaited function on Trio; errors cross as they are."""
    notes: list[str] = []

    class Impatient(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await self.run_on_trio(self._linger)
            with pytest.raises(ValueError, match="on Trio"):
                await self.run_on_trio(self._crash)

        async def _linger(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                notes.append(f"cancelled on {library()} at {trio.current_time() - begun:g}")

        async def _crash(self) -> None:
            await trio.lowlevel.checkpoint()
            raise ValueError("on Trio")

    async with open_plugins(Impatient) as runtime:
        begun = trio.current_time()
        outcome = await runtime.publish(Ping(), wait=True)
    assert (outcome.worst, notes) == (Fate.HANDLED, ["cancelled on trio at 1"])


async def test_cancelled_too_late(
    autojump_clock: MockClock,
) -> None:
    """A cancellation by asyncio ends the call even where the function on Trio is shielded."""

    class Impatient(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await self.run_on_trio(self._linger)

        async def _linger(self) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    async with open_plugins(Impatient) as runtime:
        assert (await runtime.publish(Ping(), wait=True)).worst is Fate.HANDLED


async def test_context() -> None:
    """`initialize` and `run` have one context, as on Trio, and it is the plugin's own."""
    place = ContextVar("place", default="nowhere")
    places: list[str] = []

    class Settled(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await asyncio.sleep(0)
            place.set("here")

        async def run(self) -> None:
            await asyncio.sleep(0)
            places.append(place.get())

    async with open_plugins(Settled):
        await trio.testing.wait_all_tasks_blocked()
    assert places == ["here"]
    assert place.get() == "nowhere"


@pytest.mark.parametrize("in_task", [False, True])
async def test_trio_awaited_on_asyncio(in_task: bool, autojump_clock: MockClock) -> None:
    """Awaiting Trio on asyncio raises an error with the remedy, and leaves Trio unharmed."""

    class Wrong(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            wait = self.stopping.wait()
            await (asyncio.create_task(wait) if in_task else wait)

    with capture_logs() as logs:
        async with open_plugins(Wrong) as runtime:
            outcome = await runtime.publish(Ping(), wait=True)
    assert outcome.worst is Fate.FAILED
    (error,) = [log["exc_info"] for log in logs if log["log_level"] == "error"]
    assert "run_on_trio" in str(error)


async def test_stray_cancellation() -> None:
    """A `CancelledError` of a library's own is a failure, and no cancellation of Trivet's."""

    class Cancelling(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            if event.number == 0:
                raise asyncio.CancelledError

    async with open_plugins(Cancelling) as runtime:
        first = await runtime.publish(Ping(0), wait=True)
        second = await runtime.publish(Ping(1), wait=True)
        assert runtime.hosts["cancelling"].restarts == 0
    assert (first.worst, second.worst) == (Fate.FAILED, Fate.HANDLED)


async def test_cancelled_unbegun() -> None:
    """A call in a cancelled scope never begins on asyncio."""
    notes: list[str] = []

    class Idle(AsyncioPlugin, BackgroundPlugin):
        async def note(self) -> None:
            notes.append("begun")

    async with open_plugins(Idle) as runtime:
        idle = runtime.get(Idle)
        with trio.CancelScope() as scope:
            scope.cancel()
            await idle.run_on_asyncio(idle.note)
        assert scope.cancelled_caught
    assert notes == []
