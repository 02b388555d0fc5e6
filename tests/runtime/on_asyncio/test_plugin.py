"""Plugins on asyncio live, fail and end as others do."""

from __future__ import annotations

import asyncio
import sys

import pytest
import trio
from quart import request
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    AsyncioPlugin,
    BackgroundPlugin,
    Batch,
    BatchPlugin,
    DeliverySettings,
    EventPlugin,
    Fate,
    MonitoringEvent,
    MonitoringPlugin,
    MonitoringPoint,
    SourcePlugin,
    StartError,
    StartupSettings,
    current_delivery,
    route,
)
from trivet._loop._tasks import plugin_of_task
from trivet.testing import client, open_plugins

from .parts import NEVER, Ping, Pong, Recorder, failed, library


async def test_methods_run_on_asyncio(autojump_clock: MockClock) -> None:
    """`initialize`, `run` and `close` are coroutines of asyncio, on one loop for each lifetime."""
    notes: list[tuple[str, str, asyncio.AbstractEventLoop]] = []

    def note(what: str) -> None:
        notes.append((what, library(), asyncio.get_running_loop()))

    class Worker(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await asyncio.sleep(1)
            note("initialize")

        async def run(self) -> None:
            note("run")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                note("cancelled")
                raise

        async def close(self) -> None:
            await asyncio.sleep(1)
            note("close")

    async with open_plugins(Worker):
        await trio.sleep(1)
    assert [what for what, _, _ in notes] == ["initialize", "run", "cancelled", "close"]
    assert {side for _, side, _ in notes} == {"asyncio"}
    assert len({id(loop) for _, _, loop in notes}) == 1


async def test_kinds(autojump_clock: MockClock) -> None:
    """Events, batches, monitoring points and sources: the author's method runs on asyncio."""
    sides: dict[str, str] = {}

    class OneByOne(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0.1)
            sides["event"] = library()

    class ByBatch(AsyncioPlugin, BatchPlugin[Ping]):
        async def handle_batch(self, events: Batch[Ping]) -> None:
            await asyncio.sleep(0.1)
            sides["batch"] = library()

    class ByPoint(AsyncioPlugin, MonitoringPlugin):
        async def flush_points(self, points: list[MonitoringPoint]) -> None:
            await asyncio.sleep(0.1)
            sides["points"] = library()

    class Source(AsyncioPlugin, SourcePlugin):
        async def run(self) -> None:
            sides["source"] = library()
            await self.app.publish(Ping())
            await self.app.publish(MonitoringEvent([]), wait=True)
            await asyncio.sleep(3600)

    async with open_plugins(OneByOne, ByBatch, ByPoint, Source):
        await trio.sleep(5)
    assert sides == dict.fromkeys(("event", "batch", "points", "source"), "asyncio")


async def test_order_of_bases() -> None:
    """The order of the two base classes does not matter."""
    sides: list[str] = []

    class Backwards(EventPlugin[Ping], AsyncioPlugin):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            sides.append(library())

    async with open_plugins(Backwards) as runtime:
        outcome = await runtime.publish(Ping(), wait=True)
    assert (outcome.worst, sides) == (Fate.HANDLED, ["asyncio"])


async def test_inherited_methods() -> None:
    """An inherited method stays on Trio; a method that calls `super()` may be on asyncio."""
    sides: dict[str, str] = {}

    class Native(EventPlugin[Ping]):
        async def initialize(self) -> None:
            await trio.lowlevel.checkpoint()
            sides["initialize"] = library()

        async def handle_event(self, event: Ping) -> None:
            sides["base"] = library()

    class Mixed(AsyncioPlugin, Native):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            sides["handle_event"] = library()
            await super().handle_event(event)

    async with open_plugins(Mixed) as runtime:
        await runtime.publish(Ping(), wait=True)
    assert sides == {"initialize": "trio", "handle_event": "asyncio", "base": "asyncio"}


async def test_route() -> None:
    """A route runs on Trio, where Quart's request is, and crosses by `run_on_asyncio`."""

    class Echo(AsyncioPlugin, BackgroundPlugin):
        @route("/echo", methods=["POST"])
        async def echo(self) -> dict[str, object]:
            text = await request.get_data()
            return {"sides": [library(), await self.run_on_asyncio(self._shout, str(text))]}

        async def _shout(self, text: str) -> str:
            await asyncio.sleep(0)
            return f"{library()}: {text.upper()}"

    async with open_plugins(Echo) as runtime:
        answer = await client(runtime).post("/echo", data="tea")
        assert await answer.get_json() == {"sides": ["trio", "asyncio: B'TEA'"]}


async def test_publishing() -> None:
    """An event that is published on asyncio carries on the request of the event in flight."""
    ids: list[str | None] = []

    class Relay(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            ids.append(current_delivery().request_id)
            outcomes = await asyncio.gather(
                *(self.app.publish(Pong(number), wait=True) for number in range(2))
            )
            assert [outcome.worst for outcome in outcomes] == [Fate.HANDLED] * 2

    async with open_plugins(Relay, Recorder) as runtime:
        await runtime.publish(Ping(), wait=True, request_id="r-1")
        seen = runtime.get(Recorder).seen
    assert ids == ["r-1"]
    assert seen == [(0, "r-1"), (1, "r-1")]


async def test_a_handler_that_raises_costs_that_event_alone() -> None:
    """A handler that raises fails that event alone; the traceback leads to the line on asyncio."""

    class Picky(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            if event.number == 0:
                raise ValueError("no zero")

    with capture_logs() as logs:
        async with open_plugins(Picky) as runtime:
            first = await runtime.publish(Ping(0), wait=True)
            second = await runtime.publish(Ping(1), wait=True)
            assert runtime.hosts["picky"].restarts == 0
    assert (first.worst, second.worst) == (Fate.FAILED, Fate.HANDLED)
    (error,) = [log["exc_info"] for log in logs if log["log_level"] == "error"]
    frames: list[str] = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert frames[-1] == "handle_event"


async def test_time_limit(
    autojump_clock: MockClock,
) -> None:
    """A handler beyond its limit gets a `CancelledError`; the error names its line."""
    notes: list[str] = []

    class Slow(AsyncioPlugin, EventPlugin[Ping]):
        delivery = DeliverySettings(time_limit=1.0)

        async def handle_event(self, event: Ping) -> None:
            if event.number == 0:
                try:
                    await self._linger()
                except asyncio.CancelledError:
                    notes.append(f"cancelled at {trio.current_time():g}")
                    raise

        async def _linger(self) -> None:
            await asyncio.sleep(3600)

    with capture_logs() as logs:
        async with open_plugins(Slow) as runtime:
            begun = trio.current_time()
            first = await runtime.publish(Ping(0), wait=True)
            second = await runtime.publish(Ping(1), wait=True)
            assert runtime.statistics()["slow"].timed_out == 1
    assert (first.worst, second.worst) == (Fate.FAILED, Fate.HANDLED)
    assert notes == [f"cancelled at {begun + 1:g}"]
    (error,) = [log["exc_info"] for log in logs if log["log_level"] == "error"]
    assert "in _linger" in "".join(error.__notes__)


async def test_deadline(autojump_clock: MockClock) -> None:
    """An event that is not handled by its deadline is expired."""

    class Slow(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(3600)

    async with open_plugins(Slow) as runtime:
        deadline = trio.current_time() + 2
        outcome = await runtime.publish(Ping(), wait=True, deadline=deadline)
        assert (outcome.worst, trio.current_time()) == (Fate.EXPIRED, deadline)


async def test_swallowed_cancellation(
    autojump_clock: MockClock,
) -> None:
    """A warning names a handler that does not end when cancelled; its event fails when it ends."""

    class Stubborn(AsyncioPlugin, EventPlugin[Ping]):
        delivery = DeliverySettings(time_limit=1.0)

        async def handle_event(self, event: Ping) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await asyncio.sleep(5)

    with capture_logs() as logs:
        async with open_plugins(Stubborn) as runtime:
            outcome = await runtime.publish(Ping(), wait=True)
    assert outcome.worst is Fate.FAILED
    assert "handler does not end although it was cancelled" in [log["event"] for log in logs]


async def test_hanging_initialize(autojump_clock: MockClock) -> None:
    """The limit of a start holds on asyncio, and the error names the line."""

    class Hanging(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await self._connect()

        async def _connect(self) -> None:
            await asyncio.sleep(3600)

    with pytest.raises(StartError, match=r"longer than 2 s(?s:.*)in _connect"):
        async with open_plugins(Hanging, startup=StartupSettings(limit=2.0)):
            pass


async def test_crash_and_restart(
    autojump_clock: MockClock,
) -> None:
    """A restart keeps the instance and makes a new loop; tasks of the old loop were cancelled."""
    notes: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    class Crashing(AsyncioPlugin, BackgroundPlugin):
        async def run(self) -> None:
            loops.append(asyncio.get_running_loop())
            self.left = asyncio.create_task(self._linger())
            await asyncio.sleep(1)
            if len(loops) < 3:
                raise OSError("the connection is gone")
            await asyncio.sleep(3600)

        async def _linger(self) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.1)
                notes.append("ended")

    async with open_plugins(Crashing) as runtime:
        await trio.sleep(60)
        assert runtime.hosts["crashing"].restarts == 2
        assert notes == ["ended", "ended"]
    assert len({id(loop) for loop in loops}) == 3
    assert all(loop.is_closed() for loop in loops)


async def test_failed_start() -> None:
    """A failed start raises the error of `initialize`; the error of a task is logged."""

    class Doomed(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            self.task = asyncio.create_task(self._crash())
            await asyncio.sleep(0)
            raise OSError("no address")

        async def _crash(self) -> None:
            raise ValueError("no broker")

    with capture_logs() as logs:
        with pytest.raises(StartError, match="OSError: no address"):
            async with open_plugins(Doomed):
                pass
    errors = [log for log in logs if log["log_level"] == "error"]
    assert [log["event"] for log in errors] == [
        "plugin failed while it stopped",
        "plugin did not start",
    ]
    assert [str(log["exc_info"]) for log in errors] == ["no broker", "no address"]


@pytest.mark.parametrize("in_task", [False, True])
async def test_exit(in_task: bool, autojump_clock: MockClock) -> None:
    """`sys.exit()` on asyncio is a crash of the plugin, whose `close` still has the loop."""
    notes: list[str] = []

    class Exiting(AsyncioPlugin, BackgroundPlugin):
        supervision = NEVER

        async def run(self) -> None:
            await asyncio.sleep(1)
            if not in_task:
                sys.exit(3)
            self.task = asyncio.create_task(self._exit())

        async def _exit(self) -> None:
            sys.exit(3)

        async def close(self) -> None:
            await asyncio.sleep(1)
            notes.append("closed")

    async with open_plugins(Exiting, Recorder) as runtime:
        error = await failed(runtime, "exiting")
        assert isinstance(error, SystemExit)
        assert (await runtime.publish(Pong(), wait=True)).worst is Fate.HANDLED
    assert notes == ["closed"]


async def test_stack() -> None:
    """The stack of a plugin shows the frames on asyncio too."""

    class Waiting(AsyncioPlugin, BackgroundPlugin):
        async def run(self) -> None:
            await self._deeper()

        async def _deeper(self) -> None:
            await asyncio.Event().wait()

    async with open_plugins(Waiting) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        assert "in _deeper" in runtime.hosts["waiting"].stack()


async def test_usage() -> None:
    """Time that asyncio code takes counts as the plugin's, and not as the service's."""

    class Busy(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            owners.add(plugin_of_task.get())

    owners: set[str] = set()
    async with open_plugins(Busy) as runtime:
        await runtime.publish(Ping(), wait=True)
    assert owners == {"busy"}


async def test_crossing_to_a_dead_plugin() -> None:
    """`run_on_asyncio` raises where the plugin is not alive, since its loop is gone."""

    class Idle(AsyncioPlugin, BackgroundPlugin):
        async def work(self) -> None:
            await asyncio.sleep(0)

    async with open_plugins(Idle) as runtime:
        idle = runtime.get(Idle)
        await idle.run_on_asyncio(idle.work)
    with pytest.raises(RuntimeError, match="'idle' is not alive"):
        await idle.run_on_asyncio(idle.work)
