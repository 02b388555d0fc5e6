"""One plugin's lifetimes: start, failure, restart, stop."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
import structlog
import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    CriticalPluginError,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Runtime,
    ShutdownSettings,
    StartError,
    StartupSettings,
    Status,
    SupervisionSettings,
    current_delivery,
)
from trivet.testing import open_plugins


class Ping(Event):
    number: int = 0


def status(runtime: Runtime, plugin: str) -> str:
    """How the plugin is now."""
    return runtime.hosts[plugin].status


class Recorder(BackgroundPlugin):
    """Notes what happens to it; a test's plugin derives from it."""

    notes: ClassVar[list[str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.notes = []

    async def initialize(self) -> None:
        self.notes.append("initialize")

    async def close(self) -> None:
        self.notes.append("close")


async def test_a_lifetime_is_initialize_run_close() -> None:
    """`initialize`, `run` and `close` follow each other, and `run` is cancelled at a stop."""

    class Steady(Recorder):
        async def run(self) -> None:
            self.notes.append("run")
            try:
                await trio.sleep_forever()
            finally:
                self.notes.append("cancelled")

    async with open_plugins(Steady) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        assert status(runtime, "steady") == "running"
        assert Steady.notes == ["initialize", "run"]
    assert Steady.notes == ["initialize", "run", "cancelled", "close"]
    assert status(runtime, "steady") == "stopped"


async def test_entered_resources_are_left_in_reverse_order_after_close() -> None:
    """Entered resources outlive `close()`, and are left the last one first."""
    notes: list[str] = []

    @asynccontextmanager
    async def resource(name: str) -> AsyncGenerator[str]:
        notes.append(f"enter {name}")
        yield name
        await trio.lowlevel.checkpoint()
        notes.append(f"leave {name}")

    class Holder(BackgroundPlugin):
        async def initialize(self) -> None:
            assert await self.enter(resource("a")) == "a"
            await self.enter(resource("b"))

        async def close(self) -> None:
            notes.append("close")

    async with open_plugins(Holder):
        pass
    assert notes == ["enter a", "enter b", "close", "leave b", "leave a"]


async def test_enter_is_refused_outside_of_initialize() -> None:
    """A scope entered in `run` could not be left in order, so `enter` raises there."""

    class Late(BackgroundPlugin):
        supervision = SupervisionSettings(max_restarts=0)

        async def run(self) -> None:
            await self.enter(trio.CancelScope())

    async with open_plugins(Late) as runtime:
        await runtime.hosts["late"].wait_for_status(Status.FAILED)
        assert "enter() is for initialize()" in str(runtime.hosts["late"].error)


async def test_a_nursery_entered_in_initialize_lives_as_long_as_the_plugin() -> None:
    """Tasks of an entered nursery run beside `run()`, and a crash of one fails the plugin."""
    crash = trio.Event()

    class Nursed(BackgroundPlugin):
        supervision = SupervisionSettings(max_restarts=0)

        async def initialize(self) -> None:
            nursery = await self.enter(trio.open_nursery())
            nursery.start_soon(self.work)

        async def work(self) -> None:
            await crash.wait()
            raise ValueError("orphan no more")

    async with open_plugins(Nursed) as runtime:
        crash.set()
        await runtime.hosts["nursed"].wait_for_status(Status.FAILED)
        assert status(runtime, "nursed") == "failed"
        assert isinstance(runtime.hosts["nursed"].failure, ExceptionGroup)


async def test_a_crash_is_followed_by_a_new_lifetime_of_the_same_instance(
    autojump_clock: MockClock,
) -> None:
    """After a failure the plugin is closed, waits, and is initialised and run again."""
    instances: list[int] = []

    class Shaky(Recorder):
        async def run(self) -> None:
            instances.append(id(self))
            if len(instances) == 1:
                raise ValueError("first time")
            await trio.sleep_forever()

    async with open_plugins(Shaky) as runtime:
        host = runtime.hosts["shaky"]
        while host.restarts == 0 or status(runtime, "shaky") != "running":
            await trio.sleep(0.1)
        assert Shaky.notes == ["initialize", "close", "initialize"]
        assert len(set(instances)) == 1
        assert host.error == "ValueError: first time"


async def test_a_crash_loop_backs_off_then_gives_up_and_leaves_the_others_alone(
    autojump_clock: MockClock,
) -> None:
    """The sixth failure ends the plugin as `failed`; another plugin goes on."""

    class Loop(BackgroundPlugin):
        async def run(self) -> None:
            raise ValueError("again")

    class Steady(BackgroundPlugin):
        pass

    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Loop, Steady) as runtime:
            host = runtime.hosts["loop"]
            await host.wait_for_status(Status.FAILED)
            assert (host.status, host.restarts) == ("failed", 5)
            assert status(runtime, "steady") == "running"
    lines = [log for log in logs if log.get("plugin") == "loop" and log["log_level"] == "error"]
    assert [log["event"] for log in lines] == [
        *["plugin failed"] * 5,
        "plugin is given up",
    ]
    assert lines[5]["why"] == "it failed too often"
    assert all(
        0.0 <= line["restart_in"] <= 0.5 * 2**number for number, line in enumerate(lines[:5])
    )


async def test_retry_in_counts_down_while_backing_off(autojump_clock: MockClock) -> None:
    """While a plugin backs off, its host says in how many seconds it starts again."""

    class Loop(BackgroundPlugin):
        supervision = SupervisionSettings(backoff_initial=30.0)

        async def run(self) -> None:
            raise ValueError("again")

    async with open_plugins(Loop) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        host = runtime.hosts["loop"]
        assert host.status == "backing_off"
        before = host.retry_in
        assert before is not None
        await trio.sleep(before / 2)
        assert host.retry_in == pytest.approx(before / 2)


async def test_a_first_start_that_fails_ends_start_up() -> None:
    """StartError names the plugin and the cause, and what had started is stopped."""

    class Steady(Recorder):
        pass

    class Broken(BackgroundPlugin):
        needs = (Steady,)

        async def initialize(self) -> None:
            raise ConnectionError("no broker")

    said = "'broken' did not start: ConnectionError: no broker"
    with pytest.raises(StartError, match=said) as caught:
        async with open_plugins(Steady, Broken):
            pytest.fail("the block must not be entered")
    assert caught.value.plugin == "broken"
    assert Steady.notes == ["initialize", "close"]


async def test_a_first_start_that_fails_may_be_retried(autojump_clock: MockClock) -> None:
    """With on_start_failure = "retry" start-up goes on, and the plugin is tried again."""
    attempts: list[float] = []

    class Late(BackgroundPlugin):
        supervision = SupervisionSettings(on_start_failure="retry")

        async def initialize(self) -> None:
            attempts.append(trio.current_time())
            if len(attempts) < 3:
                raise ConnectionError("not yet")

    async with open_plugins(Late) as runtime:
        assert status(runtime, "late") == "backing_off"
        while status(runtime, "late") != "running":
            await trio.sleep(0.1)
        assert len(attempts) == 3


async def test_a_failed_sibling_ends_a_start_that_hangs() -> None:
    """A plugin that does not start ends the wait for the others of its level."""

    class Hangs(BackgroundPlugin):
        async def initialize(self) -> None:
            await trio.sleep_forever()

    class Broken(BackgroundPlugin):
        async def initialize(self) -> None:
            raise ConnectionError("no broker")

    with pytest.raises(StartError, match="'broken'"):
        async with open_plugins(Hangs, Broken):
            pytest.fail("the block must not be entered")


async def test_a_hanging_start_is_warned_of_and_then_fails_with_its_stack(
    autojump_clock: MockClock,
) -> None:
    """After 10 s there is a warning, after 50 s an error, both with the line that hangs."""

    class Hangs(BackgroundPlugin):
        async def initialize(self) -> None:
            await self.dial_the_broker()

        async def dial_the_broker(self) -> None:
            await trio.sleep_forever()

    with structlog.testing.capture_logs() as logs:
        with pytest.raises(StartError, match="took longer than 50 s") as caught:
            async with open_plugins(Hangs):
                pytest.fail("the block must not be entered")
    assert trio.current_time() == pytest.approx(50.0)
    first = str(caught.value).partition("\n")[0]
    assert re.search(rf"; it stood at {re.escape(__file__)}:\d+$", first)
    assert "dial_the_broker" in str(caught.value)
    assert "_lifetime.py" not in str(caught.value)
    (warning,) = [log for log in logs if log["log_level"] == "warning"]
    assert warning["plugin"] == "hangs"
    assert "dial_the_broker" in warning["stack"]


async def test_a_cancellation_ends_a_start_that_hangs(autojump_clock: MockClock) -> None:
    """An embedder who is cancelled during start-up does not wait for `initialize`."""

    class Hangs(BackgroundPlugin):
        async def initialize(self) -> None:
            await trio.sleep_forever()

    with trio.move_on_after(1) as scope:
        async with open_plugins(Hangs):
            pytest.fail("the block must not be entered")
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1.0)


async def test_a_critical_plugin_that_gives_up_ends_the_program(autojump_clock: MockClock) -> None:
    """The block is cancelled, the others are closed, and the error names the plugin."""

    class Vital(BackgroundPlugin):
        supervision = SupervisionSettings(critical=True, max_restarts=1)

        async def run(self) -> None:
            raise ValueError("gone")

    class Steady(Recorder):
        pass

    with pytest.raises(CriticalPluginError, match="'vital' gave up: ValueError: gone") as caught:
        async with open_plugins(Vital, Steady):
            await trio.sleep_forever()
    assert caught.value.plugin == "vital"
    assert Steady.notes == ["initialize", "close"]


async def test_two_critical_plugins_that_give_up_are_one_error(autojump_clock: MockClock) -> None:
    """The second one, which gives up while the first ends the program, is told in a note."""

    class First(BackgroundPlugin):
        supervision = SupervisionSettings(critical=True, max_restarts=0)

        async def run(self) -> None:
            await trio.sleep(1)
            raise ValueError("one")

    class Second(BackgroundPlugin):
        supervision = SupervisionSettings(critical=True, max_restarts=0)

        async def run(self) -> None:
            await trio.sleep(1)
            raise ValueError("two")

    with pytest.raises(CriticalPluginError, match="gave up") as caught:
        async with open_plugins(First, Second):
            await trio.sleep_forever()
    said = f"{caught.value} {caught.value.__notes__}"
    assert "'first' gave up: ValueError: one" in said
    assert "'second' gave up: ValueError: two" in said


async def test_a_critical_plugin_that_gives_up_as_the_embedder_is_cancelled() -> None:
    """The error comes out by itself, not in a group with the cancellation."""

    class Vital(BackgroundPlugin):
        supervision = SupervisionSettings(critical=True, max_restarts=0)

        async def run(self) -> None:
            scope.cancel()
            raise ValueError("gone")

    with pytest.raises(CriticalPluginError, match="'vital' gave up"), trio.CancelScope() as scope:
        async with open_plugins(Vital):
            await trio.sleep_forever()


async def test_a_cancelled_embedder_gets_an_orderly_stop() -> None:
    """A cancellation from outside drains and closes; it does not cut plugins off."""
    handled: list[int] = []
    begun = trio.Event()

    class Slow(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            begun.set()
            await trio.lowlevel.checkpoint()
            handled.append(event.number)

        async def close(self) -> None:
            await trio.lowlevel.checkpoint()
            handled.append(-1)

    with trio.CancelScope() as scope:
        async with open_plugins(Slow) as runtime:
            for number in range(3):
                await runtime.publish(Ping(number))
            await begun.wait()
            scope.cancel()
            await trio.sleep_forever()
    assert handled == [0, 1, 2, -1]


async def test_a_plugin_that_does_not_read_its_inbox_is_cancelled_at_once(
    autojump_clock: MockClock,
) -> None:
    """A stop waits for the reader of an inbox only; the rest of the events is abandoned."""

    class Deaf(EventPlugin[Ping]):
        async def run(self) -> None:
            await trio.sleep_forever()

    async with open_plugins(Deaf) as runtime:
        await runtime.publish(Ping())
    assert trio.current_time() == 0.0
    assert runtime.statistics()["deaf"].abandoned == 1


async def test_draining_ends_with_its_budget(autojump_clock: MockClock) -> None:
    """A handler that does not end is cancelled when draining is over, and `close` still runs."""
    closed: list[float] = []

    class Stuck(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await trio.sleep_forever()

        async def close(self) -> None:
            await trio.sleep(1)
            closed.append(trio.current_time())

    shutdown = ShutdownSettings(requests=1, drain=2, close=3)
    async with open_plugins(Stuck, shutdown=shutdown) as runtime:
        for _ in range(3):
            await runtime.publish(Ping())
        await trio.testing.wait_all_tasks_blocked()
    assert closed == [pytest.approx(3.0)]
    statistics = runtime.statistics()["stuck"]
    assert (statistics.accepted, statistics.abandoned) == (3, 3)


async def test_hurrying_ends_the_draining_at_once(autojump_clock: MockClock) -> None:
    """A hurried stop skips the inboxes: their events are abandoned, and `close` runs."""
    closed: list[float] = []

    class Stuck(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await trio.sleep_forever()

        async def close(self) -> None:
            await trio.sleep(1)
            closed.append(trio.current_time())

    async def hurry(runtime: Runtime) -> None:
        await runtime.stopping.wait()
        await trio.sleep(2)
        runtime.hurry()

    async with trio.open_nursery() as nursery:
        async with open_plugins(Stuck) as runtime:
            nursery.start_soon(hurry, runtime)  # noqa: ASYNC111 - it is about the end
            await runtime.publish(Ping())
            await trio.testing.wait_all_tasks_blocked()
    assert closed == [pytest.approx(3.0)]
    assert runtime.statistics()["stuck"].abandoned == 1


async def test_a_close_that_hangs_is_cancelled_in_time(autojump_clock: MockClock) -> None:
    """`close()` has its own limit, at a stop as at a restart."""

    class Slow(BackgroundPlugin):
        async def close(self) -> None:
            await trio.sleep_forever()

    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Slow, shutdown=ShutdownSettings(requests=1, drain=2, close=3)):
            pass
    assert trio.current_time() == pytest.approx(3.0)
    (line,) = [log for log in logs if log["log_level"] == "error"]
    assert (line["plugin"], line["event"]) == ("slow", "close() took too long and was cancelled")


async def test_a_needed_plugin_has_time_left_after_one_that_hangs(
    autojump_clock: MockClock,
) -> None:
    """A plugin that uses up its time to close leaves the plugins that it needs their share."""
    closed: list[float] = []

    class Base(BackgroundPlugin):
        async def close(self) -> None:
            await trio.sleep(1)
            closed.append(trio.current_time())

    class Hangs(BackgroundPlugin):
        needs = (Base,)

        async def close(self) -> None:
            await trio.sleep_forever()

    async with open_plugins(Base, Hangs, shutdown=ShutdownSettings(requests=0, drain=0, close=4)):
        pass
    assert closed == [pytest.approx(3.0)]


async def test_a_close_that_raises_is_logged_and_the_stop_goes_on() -> None:
    """A failing `close()` does not keep the resources from being left."""
    left: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncGenerator[None]:
        yield
        left.append("resource")

    class Sour(BackgroundPlugin):
        async def initialize(self) -> None:
            await self.enter(resource())

        async def close(self) -> None:
            raise ValueError("sour")

    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Sour):
            pass
    assert left == ["resource"]
    assert [log["plugin"] for log in logs if log["event"] == "close() failed"] == ["sour"]


async def test_a_stop_during_the_back_off_does_not_wait_for_it(autojump_clock: MockClock) -> None:
    """A plugin that waits for its restart is stopped at once."""

    class Loop(BackgroundPlugin):
        supervision = SupervisionSettings(backoff_initial=1000.0, backoff_max=1000.0)

        async def run(self) -> None:
            raise ValueError("again")

    async with open_plugins(Loop) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        assert status(runtime, "loop") == "backing_off"
    assert trio.current_time() == 0.0
    assert status(runtime, "loop") == "stopped"


async def test_a_restart_that_hangs_in_initialize_is_cancelled_at_a_stop(
    autojump_clock: MockClock,
) -> None:
    """A stop does not wait for a plugin that is starting again."""
    lives: list[str] = []

    class Half(BackgroundPlugin):
        async def initialize(self) -> None:
            lives.append("life")
            if len(lives) > 1:
                await trio.sleep_forever()

        async def run(self) -> None:
            raise ValueError("once")

    async with open_plugins(Half) as runtime:
        while len(lives) < 2:
            await trio.sleep(0.1)
        stopped_at = trio.current_time()
        assert status(runtime, "half") == "starting"
    assert trio.current_time() == stopped_at


async def test_a_run_that_returns_keeps_its_resources_and_routes() -> None:
    """A background plugin whose work is done stays `running`, and is closed at the stop."""

    class Once(Recorder):
        async def run(self) -> None:
            self.notes.append("done")

    async with open_plugins(Once) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        assert status(runtime, "once") == "running"
        assert Once.notes == ["initialize", "done"]
    assert Once.notes == ["initialize", "done", "close"]


async def test_a_run_that_leaves_its_inbox_is_a_failure(autojump_clock: MockClock) -> None:
    """An event plugin's `run()` that returns while events may come is restarted, not forgotten."""

    class Leaves(EventPlugin[Ping]):
        async def run(self) -> None:
            async for _ in self.inbox:
                break

    async with open_plugins(Leaves) as runtime:
        await runtime.publish(Ping())
        while runtime.hosts["leaves"].restarts == 0:
            await trio.sleep(0.1)
        assert "run() returned" in str(runtime.hosts["leaves"].error)


async def test_the_inbox_survives_a_restart_and_redelivers_what_was_in_flight(
    autojump_clock: MockClock,
) -> None:
    """An event that crashes `run()` is delivered again, in order, until the delivery limit."""
    seen: list[tuple[int, int]] = []

    class Crasher(EventPlugin[Ping]):
        async def run(self) -> None:
            async for delivery in self.inbox.deliveries():
                seen.append((delivery.event.number, delivery.attempt))
                if delivery.event.number == 1:
                    raise ValueError("poison")

    async with open_plugins(Crasher) as runtime:
        for number in range(3):
            await runtime.publish(Ping(number))
        while runtime.statistics()["crasher"].queued or len(seen) < 5:
            await trio.sleep(0.1)
    assert seen == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
    statistics = runtime.statistics()["crasher"]
    assert (statistics.handled, statistics.failed, statistics.abandoned) == (2, 1, 0)


async def test_an_event_that_crashed_run_is_not_in_flight_afterwards(
    autojump_clock: MockClock,
) -> None:
    """No event is in flight in the `close` and `initialize` after a crash of `run`."""
    seen: list[bool] = []

    class Crasher(EventPlugin[Ping]):
        async def initialize(self) -> None:
            seen.append(self.has_delivery())

        def has_delivery(self) -> bool:
            try:
                current_delivery()
            except LookupError:
                return False
            return True

        async def run(self) -> None:
            async for _ in self.inbox:
                seen.append(self.has_delivery())
                raise ValueError("once")

        async def close(self) -> None:
            seen.append(self.has_delivery())

    async with open_plugins(Crasher) as runtime:
        await runtime.publish(Ping())
        while len(seen) < 4:
            await trio.sleep(0.1)
    assert seen[:4] == [False, True, False, False]


async def test_events_in_flight_at_the_end_of_a_stop_are_abandoned(
    autojump_clock: MockClock,
) -> None:
    """An event that runs out of time at a stop is abandoned, and has not failed."""

    class Stuck(EventPlugin[Ping]):
        delivery = DeliverySettings(delivery_limit=1)

        async def handle_event(self, event: Ping) -> None:
            await trio.sleep_forever()

    async with open_plugins(Stuck) as runtime:
        await runtime.publish(Ping())
        await trio.testing.wait_all_tasks_blocked()
    statistics = runtime.statistics()["stuck"]
    assert (statistics.abandoned, statistics.failed) == (1, 0)


async def test_a_plugin_that_gave_up_rejects(autojump_clock: MockClock) -> None:
    """Nothing is taken in for a plugin that will never run again; what it had is abandoned."""

    class Gone(EventPlugin[Ping]):
        supervision = SupervisionSettings(max_restarts=0)

        async def run(self) -> None:
            await self.inbox.receive()
            raise ValueError("gone")

    async with open_plugins(Gone) as runtime:
        first = await runtime.publish(Ping(), wait=True)
        second = await runtime.publish(Ping())
    assert first.fates == {"gone": Fate.ABANDONED}
    assert second.fates == {"gone": Fate.REJECTED}


async def test_start_up_limits_are_settings(autojump_clock: MockClock) -> None:
    """`[startup] limit` bounds `initialize`, at a restart too."""
    lives: list[float] = []

    class Half(BackgroundPlugin):
        supervision = SupervisionSettings(backoff_initial=0.0)

        async def initialize(self) -> None:
            lives.append(trio.current_time())
            if len(lives) == 2:
                await trio.sleep_forever()

        async def run(self) -> None:
            if len(lives) == 1:
                raise ValueError("once")
            await trio.sleep_forever()

    async with open_plugins(Half, startup=StartupSettings(limit=7.0)):
        while len(lives) < 3:
            await trio.sleep(0.1)
    assert lives == [0.0, 0.0, pytest.approx(7.0)]
