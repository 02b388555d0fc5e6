"""The effect of a plugin's failure on the plugins that need it."""

from __future__ import annotations

from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    CriticalPluginError,
    Event,
    EventPlugin,
    Fate,
    OrderRefusedError,
    PluginNotActiveError,
    Runtime,
    SourcePlugin,
    Status,
    SupervisionSettings,
)
from trivet.testing import open_plugins

notes: list[str] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    """Begin each test with empty notes."""
    notes.clear()


class Noted(BackgroundPlugin):
    """Notes its lives; runs until it is told to crash."""

    _crash: trio.Event

    async def initialize(self) -> None:
        self._crash = trio.Event()
        notes.append(f"+{self.name}")

    async def run(self) -> None:
        await self._crash.wait()
        raise ValueError(f"{self.name} broke")

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        notes.append(f"-{self.name}")

    def crash(self) -> None:
        """Make `run` fail."""
        self._crash.set()


class Disk(Noted):
    pass


class Buffer(Noted):
    needs = (Disk,)


class Index(Noted):
    needs = (Disk,)


class Export(Noted):
    needs = (Buffer, Index)


class Bystander(Noted):
    pass


async def restarted(runtime: Runtime, plugin: str, times: int = 1) -> None:
    """Wait until the plugin is up after so many restarts."""
    host = runtime.hosts[plugin]
    while (host.restarts, host.status) != (times, Status.RUNNING):
        await host.changed()


async def crashed(runtime: Runtime, plugin: type[Noted]) -> None:
    """Crash the plugin, and wait until everything is up again."""
    runtime.get(plugin).crash()
    await runtime.hosts[plugin.name].wait_for_status(Status.STOPPING)
    for host in runtime.hosts.values():
        await host.wait_for_status(Status.RUNNING)


async def test_dependents_of_a_failed_plugin_are_restarted_after_it(
    autojump_clock: MockClock,
) -> None:
    """The plugins that need a failed one are closed before it, furthest first, and started after
    it."""
    async with open_plugins(Disk, Buffer, Index, Export, Bystander) as runtime:
        notes.clear()
        await crashed(runtime, Disk)
        assert notes[0] == "-export"
        assert set(notes[1:3]) == {"-buffer", "-index"}
        assert notes[3:5] == ["-disk", "+disk"]
        assert set(notes[5:7]) == {"+buffer", "+index"}
        assert notes[7:] == ["+export"]
        restarts = {name: host.restarts for name, host in runtime.hosts.items()}
        assert restarts == {"disk": 1, "buffer": 1, "index": 1, "export": 1, "bystander": 0}


async def test_needs_of_a_failed_plugin_are_left_alone(autojump_clock: MockClock) -> None:
    """A failure goes to the plugins that need the failed one, and not to its own needs."""
    async with open_plugins(Disk, Buffer, Index, Export) as runtime:
        notes.clear()
        await crashed(runtime, Buffer)
    assert notes[:4] == ["-export", "-buffer", "+buffer", "+export"]


async def test_a_restart_for_another_plugin_is_no_failure(
    autojump_clock: MockClock,
) -> None:
    """A plugin that is restarted for the sake of another is never given up, however often."""

    class Base(Noted):
        supervision = SupervisionSettings(max_restarts=10)

    class Above(Noted):
        needs = (Base,)
        supervision = SupervisionSettings(max_restarts=0)

    async with open_plugins(Base, Above) as runtime:
        for _ in range(5):
            await crashed(runtime, Base)
        assert runtime.hosts["above"].restarts == 5
        assert runtime.hosts["above"].failure is None


class Ping(Event):
    number: int = 0


async def test_an_event_in_flight_is_not_blamed_for_the_failure_of_a_need(
    autojump_clock: MockClock,
) -> None:
    """The event is delivered again after the restart, and its attempt is still the first."""
    attempts: list[tuple[int, int]] = []

    class Handler(EventPlugin[Ping]):
        needs = (Disk,)

        async def run(self) -> None:
            async for delivery in self.inbox.deliveries():
                attempts.append((delivery.event.number, delivery.attempt))
                if len(attempts) <= 4:
                    await trio.sleep_forever()

    async with open_plugins(Disk, Handler) as runtime:
        await runtime.publish(Ping(1))
        await runtime.publish(Ping(2))
        for _ in range(4):
            await trio.testing.wait_all_tasks_blocked()
            await crashed(runtime, Disk)
    assert attempts == [(1, 1)] * 5 + [(2, 1)]


async def test_a_dependent_waits_for_a_plugin_that_starts_late(autojump_clock: MockClock) -> None:
    """With `on_start_failure = "retry"` a dependent waits, and other plugins start."""

    class Late(Noted):
        supervision = SupervisionSettings(on_start_failure="retry")
        attempts: ClassVar[int] = 0

        async def initialize(self) -> None:
            type(self).attempts += 1
            if self.attempts <= 20:
                raise ConnectionError("not yet")
            await super().initialize()

    class Patient(Noted):
        needs = (Late,)

    async with open_plugins(Late, Patient, Bystander) as runtime:
        host = runtime.hosts["patient"]
        assert (host.status, host.waits_for) == (Status.STOPPED, runtime.hosts["late"])
        assert notes == ["+bystander"]
        await host.wait_for_status(Status.RUNNING)
        assert notes == ["+bystander", "+late", "+patient"]


class Fragile(Noted):
    supervision = SupervisionSettings(max_restarts=0)


class Listener(EventPlugin[Ping]):
    needs = (Fragile,)
    handled: ClassVar[list[int]] = []

    async def handle_event(self, event: Ping) -> None:
        self.handled.append(event.number)


async def test_a_dependent_of_a_plugin_that_gave_up_is_stopped(autojump_clock: MockClock) -> None:
    """A dependent stops, names the plugin that gave up, and takes no events, until an operator
    helps."""

    class Feed(SourcePlugin):
        needs = (Listener,)

        async def run(self) -> None:
            await trio.sleep_forever()

    async with open_plugins(Fragile, Listener, Feed) as runtime:
        runtime.get(Fragile).crash()
        await runtime.hosts["fragile"].wait_for_status(Status.FAILED)
        await trio.testing.wait_all_tasks_blocked()
        for name in ("listener", "feed"):
            host = runtime.hosts[name]
            assert (host.status, host.is_given_up) == (Status.STOPPED, True)
            assert host.waits_for is runtime.hosts["fragile"]
            with pytest.raises(OrderRefusedError, match="needs 'fragile', which is failed"):
                runtime.restart(name)
        assert (await runtime.publish(Ping(1))).fates == {"listener": Fate.REJECTED}

        runtime.restart("fragile")
        await runtime.hosts["feed"].wait_for_status(Status.RUNNING)
        assert (await runtime.publish(Ping(2), wait=True)).fates == {"listener": Fate.HANDLED}
    assert Listener.handled == [2]
    assert runtime.hosts["fragile"].failure is not None


async def test_a_plugin_that_gave_up_is_not_restarted_for_another(
    autojump_clock: MockClock,
) -> None:
    """A restart of a needed plugin does not lift the quarantine of a dependent."""

    class Brittle(Noted):
        needs = (Disk,)
        supervision = SupervisionSettings(max_restarts=0)

    async with open_plugins(Disk, Brittle) as runtime:
        runtime.get(Brittle).crash()
        await runtime.hosts["brittle"].wait_for_status(Status.FAILED)
        runtime.restart("disk")
        await restarted(runtime, "disk")
        await trio.testing.wait_all_tasks_blocked()
        assert runtime.hosts["brittle"].status is Status.FAILED


async def test_a_critical_plugin_whose_need_gave_up_ends_the_program(
    autojump_clock: MockClock,
) -> None:
    """A critical plugin gives up with a plugin that it needs, and the error says why."""

    class Middle(Noted):
        needs = (Fragile,)

    class Vital(BackgroundPlugin):
        needs = (Middle,)
        supervision = SupervisionSettings(critical=True)

        async def run(self) -> None:
            self.app.get(Fragile).crash()
            await trio.sleep_forever()

    because = "'vital' gave up: it needs 'fragile', which gave up: ValueError: fragile broke"
    with pytest.raises(CriticalPluginError, match=because):
        async with open_plugins(Fragile, Middle, Vital):
            await trio.sleep_forever()
    assert notes == ["+fragile", "+middle", "-middle", "-fragile"]


async def test_an_operator_lifts_a_quarantine(autojump_clock: MockClock) -> None:
    """A plugin that was given up is started again, with no failure of before remembered."""
    async with open_plugins(Fragile) as runtime:
        host = runtime.hosts["fragile"]
        for restarts in (1, 2):
            runtime.get(Fragile).crash()
            await host.wait_for_status(Status.FAILED)
            runtime.restart("fragile")
            await restarted(runtime, "fragile", restarts)


async def test_an_operator_restarts_a_running_plugin(autojump_clock: MockClock) -> None:
    """A healthy plugin and its dependents are closed and started again, without a failure."""
    async with open_plugins(Disk, Buffer) as runtime:
        notes.clear()
        runtime.restart("disk")
        await restarted(runtime, "buffer")
        assert notes == ["-buffer", "-disk", "+disk", "+buffer"]
        assert runtime.hosts["disk"].failure is None
    assert trio.current_time() == 0.0


async def test_an_operator_does_not_wait_for_a_back_off(autojump_clock: MockClock) -> None:
    """A restart of a plugin that backs off begins at once."""

    class Slow(Noted):
        supervision = SupervisionSettings(backoff_initial=1000, backoff_max=1000)

    async with open_plugins(Slow) as runtime:
        runtime.get(Slow).crash()
        await runtime.hosts["slow"].wait_for_status(Status.BACKING_OFF)
        runtime.restart("slow")
        await runtime.hosts["slow"].wait_for_status(Status.RUNNING)
    assert trio.current_time() == 0.0


async def test_an_operator_ends_an_initialize_that_hangs(autojump_clock: MockClock) -> None:
    """A restart of a plugin that is starting begins anew."""

    class Hangs(BackgroundPlugin):
        lives: ClassVar[int] = 0
        supervision = SupervisionSettings(on_start_failure="retry")

        async def initialize(self) -> None:
            type(self).lives += 1
            if self.lives == 1:
                raise ConnectionError("not yet")
            if self.lives == 2:
                await trio.sleep_forever()

    async with open_plugins(Hangs) as runtime:
        host = runtime.hosts["hangs"]
        await host.wait_for_status(Status.STARTING)
        await trio.testing.wait_all_tasks_blocked()
        runtime.restart("hangs")
        await restarted(runtime, "hangs", 2)
    assert Hangs.lives == 3


async def test_a_restart_is_refused_where_it_cannot_be_had() -> None:
    """For a plugin that is not there, with the nearest name, and during the stop."""
    async with open_plugins(Disk) as runtime:
        with pytest.raises(PluginNotActiveError, match="did you mean 'disk'") as missing:
            runtime.restart("dusk")
    with pytest.raises(OrderRefusedError, match="stopping") as refused:
        runtime.restart("disk")
    assert (missing.value.plugin, refused.value.plugin) == ("dusk", "disk")


async def test_a_stop_reaches_plugins_in_every_status(autojump_clock: MockClock) -> None:
    """Plugins that run, wait, back off or were given up end with the program, in no time."""

    class Slow(Noted):
        supervision = SupervisionSettings(backoff_initial=1000, backoff_max=1000)

    class OnSlow(Noted):
        needs = (Slow,)

    class OnFragile(Noted):
        needs = (Fragile,)

    async with open_plugins(Slow, OnSlow, Fragile, OnFragile, Bystander) as runtime:
        runtime.get(Slow).crash()
        runtime.get(Fragile).crash()
        await runtime.hosts["slow"].wait_for_status(Status.BACKING_OFF)
        await runtime.hosts["fragile"].wait_for_status(Status.FAILED)
    ended = {name: str(host.status) for name, host in runtime.hosts.items()}
    assert ended.pop("fragile") == "failed"
    assert set(ended.values()) == {"stopped"}
    assert trio.current_time() == 0.0
