"""An operator's orders: disable and enable, pause and resume."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import (
    App,
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    InboxStatistics,
    OrderRefusedError,
    Outcome,
    PluginStatusEvent,
    Runtime,
    ShutdownSettings,
    Status,
    StoreSettings,
    SupervisionSettings,
    batched,
)
from trivet._supervision import _orders
from trivet.testing import open_plugins


class Ordered(Event):
    number: int = 0


class Kitchen(EventPlugin[Ordered]):
    """Handles an event when its test lets it."""

    def __init__(self, app: App) -> None:
        self.cooked: list[int] = []
        self.closed = 0
        self.let = trio.Event()
        self.let.set()

    async def handle_event(self, event: Ordered) -> None:
        await self.let.wait()
        self.cooked.append(event.number)

    async def close(self) -> None:
        self.closed += 1


class Safe(Kitchen):
    delivery = DeliverySettings(durable=True)


class Slow(Kitchen):
    delivery = DeliverySettings(concurrency=1)


class Small(Kitchen):
    delivery = DeliverySettings(buffer=2, overflow="reject")


def conserved(counts: InboxStatistics) -> bool:
    """Whether each accepted event has one fate."""
    by_fate: dict[str, int] = attrs.asdict(counts)
    return counts.accepted == sum(by_fate[fate.value] for fate in Fate if fate.accepted)


def disable(runtime: Runtime, name: str) -> bool:
    """Disable a plugin as an operator does."""
    return _orders.disable(runtime.host(name), runtime.program.settings.shutdown)


async def publish(runtime: Runtime, *numbers: int) -> list[Outcome]:
    """Publish events with these numbers."""
    return [await runtime.publish(Ordered(number=number)) for number in numbers]


async def test_a_disabled_plugin_finishes_its_events(autojump_clock: MockClock) -> None:
    """An inbox in memory is drained before its plugin closes; what comes later is refused."""
    async with open_plugins(Slow) as runtime:
        host, plugin = runtime.host("slow"), runtime.get(Slow)
        plugin.let = trio.Event()
        await publish(runtime, 1, 2, 3)
        assert disable(runtime, "slow")
        assert host.status is Status.STOPPING
        plugin.let.set()
        await host.wait_for_status(Status.DISABLED)
        assert (plugin.cooked, plugin.closed) == ([1, 2, 3], 1)
        [outcome] = await publish(runtime, 4)
        assert outcome.fates == {"slow": Fate.REJECTED}
        assert conserved(runtime.statistics()["slow"])


async def test_a_plugin_that_does_not_end_is_cut_off(autojump_clock: MockClock) -> None:
    """A disabled plugin has the limits of a stop; what it has not finished then is abandoned."""
    limits = ShutdownSettings(drain=3.0, close=1.0)
    async with open_plugins(Slow, shutdown=limits) as runtime:
        runtime.get(Slow).let = trio.Event()
        await publish(runtime, 1, 2, 3)
        begun = trio.current_time()
        disable(runtime, "slow")
        await runtime.host("slow").wait_for_status(Status.DISABLED)
        assert trio.current_time() - begun == 3.0
        counts = runtime.statistics()["slow"]
    assert (counts.abandoned, counts.queued, counts.in_flight) == (3, 0, 0)
    assert conserved(counts)


@pytest.mark.parametrize("path", [Path(":memory:"), None])
async def test_durable_events_wait(path: Path | None, tmp_path: Path) -> None:
    """Events of a durable inbox wait while its plugin is disabled, and more come in; only the one
    in flight is finished."""
    store = StoreSettings(path=path or tmp_path / "store.db")
    async with open_plugins(Safe, store=store) as runtime:
        host, plugin = runtime.host("safe"), runtime.get(Safe)
        plugin.let = trio.Event()
        await publish(runtime, 1, 2, 3)
        while runtime.statistics()["safe"].in_flight != 1:
            await trio.lowlevel.checkpoint()
        disable(runtime, "safe")
        plugin.let.set()
        await host.wait_for_status(Status.DISABLED)
        [outcome] = await publish(runtime, 4)
        assert (plugin.cooked, outcome.fates) == ([1], {"safe": Fate.QUEUED})
        assert runtime.statistics()["safe"].queued == 3
        assert _orders.enable(host)
        await host.wait_for_status(Status.RUNNING)
        while len(plugin.cooked) < 4:
            await trio.lowlevel.checkpoint()
        assert plugin.cooked == [1, 2, 3, 4]
        assert conserved(runtime.statistics()["safe"])


async def test_a_publisher_does_not_wait_for_a_disabled_plugin(tmp_path: Path) -> None:
    """`wait=True` does not wait for a durable inbox whose plugin is disabled."""
    store = StoreSettings(path=tmp_path / "store.db")
    async with open_plugins(Safe, store=store) as runtime:
        disable(runtime, "safe")
        await runtime.host("safe").wait_for_status(Status.DISABLED)
        with trio.fail_after(20):
            outcome = await runtime.publish(Ordered(number=1), wait=True)
    assert outcome.fates == {"safe": Fate.QUEUED}


async def test_orders_are_idempotent(autojump_clock: MockClock) -> None:
    """An order that is carried out already changes nothing, and says so."""
    async with open_plugins(Kitchen) as runtime:
        host = runtime.host("kitchen")
        assert (_orders.enable(host), _orders.resume(host)) == (False, False)
        assert (_orders.pause(host), _orders.pause(host)) == (True, False)
        assert (_orders.resume(host), _orders.resume(host)) == (True, False)
        assert (disable(runtime, "kitchen"), disable(runtime, "kitchen")) == (True, False)
        await host.wait_for_status(Status.DISABLED)
        assert not disable(runtime, "kitchen")
        assert (_orders.enable(host), _orders.enable(host)) == (True, False)
        await host.wait_for_status(Status.RUNNING)
        assert host.restarts == 1


async def test_enabled_before_it_has_stopped(autojump_clock: MockClock) -> None:
    """A plugin that is enabled while it drains starts again with all of its events."""
    async with open_plugins(Slow) as runtime:
        host, plugin = runtime.host("slow"), runtime.get(Slow)
        plugin.let = trio.Event()
        await publish(runtime, 1, 2, 3)
        await wait_all_tasks_blocked()
        disable(runtime, "slow")
        _orders.enable(host)
        await host.wait_for_status(Status.RUNNING)
        plugin.let.set()
        await publish(runtime, 4)
        await wait_all_tasks_blocked()
        assert plugin.cooked == [1, 2, 3, 4]
        assert conserved(runtime.statistics()["slow"])


class Disk(BackgroundPlugin):
    pass


class Dusk(BackgroundPlugin):
    needs = (Disk,)


class Important(BackgroundPlugin):
    needs = (Dusk,)
    supervision = SupervisionSettings(critical=True)


class Observer(EventPlugin[PluginStatusEvent]):
    seen: ClassVar[list[tuple[str, str]]]

    async def initialize(self) -> None:
        type(self).seen = []

    async def handle_event(self, event: PluginStatusEvent) -> None:
        self.seen.append((event.plugin, event.status))


async def test_dependents_wait_for_it(autojump_clock: MockClock) -> None:
    """Plugins that need a disabled one end before it, wait, and start after it."""
    async with open_plugins(Disk, Dusk, Observer) as runtime:
        disk, dusk = runtime.host("disk"), runtime.host("dusk")
        await wait_all_tasks_blocked()
        Observer.seen.clear()
        disable(runtime, "disk")
        await disk.wait_for_status(Status.DISABLED)
        await wait_all_tasks_blocked()
        assert (dusk.status, dusk.waits_for, dusk.is_given_up) == (Status.STOPPED, disk, True)
        with pytest.raises(OrderRefusedError, match="needs 'disk', which is disabled"):
            _orders.restart(dusk)
        with pytest.raises(OrderRefusedError, match="'disk' is disabled; enable it"):
            _orders.restart(disk)
        _orders.enable(disk)
        await dusk.wait_for_status(Status.RUNNING)
        await wait_all_tasks_blocked()
    assert Observer.seen[:8] == [
        ("disk", "stopping"),
        ("dusk", "stopping"),
        ("dusk", "stopped"),
        ("disk", "disabled"),
        ("disk", "starting"),
        ("disk", "running"),
        ("dusk", "starting"),
        ("dusk", "running"),
    ]


class Vital(Kitchen):
    supervision = SupervisionSettings(critical=True)


async def test_a_critical_plugin_is_not_disabled(autojump_clock: MockClock) -> None:
    """A critical plugin, and one that a critical one needs, are refused, with the way out."""
    async with open_plugins(Disk, Dusk, Important, Vital) as runtime:
        for name, why in (
            ("important", "plugin 'important' is critical: the service would not be ready; stop"),
            ("disk", "plugin 'disk' is needed by 'important', which is critical: the service"),
            ("vital", "critical: the service would not be ready; pause the delivery to it instead"),
        ):
            with pytest.raises(OrderRefusedError) as refused:
                disable(runtime, name)
            assert why in str(refused.value)
            assert runtime.host(name).status is Status.RUNNING
        with pytest.raises(OrderRefusedError, match=r"nothing is to be paused$"):
            _orders.pause(runtime.host("disk"))


async def test_disabled_while_it_backs_off_or_is_given_up(autojump_clock: MockClock) -> None:
    """A plugin that is down is disabled at once, and starts afresh when it is enabled."""

    class Frail(BackgroundPlugin):
        supervision = SupervisionSettings(max_restarts=1, backoff_initial=60, backoff_max=60)

        async def run(self) -> None:
            raise ValueError("frail")

    async with open_plugins(Frail) as runtime:
        host = runtime.host("frail")
        for status in (Status.BACKING_OFF, Status.FAILED):
            with trio.fail_after(1000):
                await host.wait_for_status(status)
            disable(runtime, "frail")
            await host.wait_for_status(Status.DISABLED)
            await trio.sleep(1000)
            assert host.status is Status.DISABLED
            _orders.enable(host)
            await host.wait_for_status(Status.BACKING_OFF)


async def test_the_status_that_an_order_leads_to(autojump_clock: MockClock) -> None:
    """The next status is known at once, before the plugin's task has come to it."""

    class Frail(BackgroundPlugin):
        supervision = SupervisionSettings(max_restarts=1, backoff_initial=60, backoff_max=60)

        async def initialize(self) -> None:
            await trio.sleep(0.5)

        async def run(self) -> None:
            await trio.sleep(1)
            raise ValueError("frail")

    async with open_plugins(Frail) as runtime:
        host = runtime.host("frail")

        async def leads_to(status: Status) -> None:
            assert _orders.heading_for(host) is status
            with trio.fail_after(1):
                await host.wait_for_status(status)

        _orders.restart(host)
        assert _orders.heading_for(host) is Status.STOPPING  # It is so for an instant.
        await host.wait_for_status(Status.BACKING_OFF)
        _orders.restart(host)
        await leads_to(Status.STARTING)
        await host.wait_for_status(Status.BACKING_OFF)
        disable(runtime, "frail")
        await leads_to(Status.DISABLED)
        _orders.enable(host)
        await leads_to(Status.STARTING)
        await host.wait_for_status(Status.RUNNING)


async def test_a_disabled_start(autojump_clock: MockClock) -> None:
    """A plugin that is disabled while it initializes is cancelled, and not started."""

    class Hangs(BackgroundPlugin):
        async def initialize(self) -> None:
            self._lives: int = getattr(self, "_lives", 0) + 1
            if self._lives > 1:
                await trio.sleep(5)

    async with open_plugins(Hangs) as runtime:
        host = runtime.host("hangs")
        _orders.restart(host)
        await host.wait_for_status(Status.STARTING)
        await wait_all_tasks_blocked()
        disable(runtime, "hangs")
        await host.wait_for_status(Status.DISABLED)
        assert host.failure is None


async def test_a_stop_of_a_disabled_plugin(autojump_clock: MockClock) -> None:
    """A program with a disabled plugin stops at once, and refuses orders then."""
    begun = trio.current_time()
    async with open_plugins(Kitchen, Disk) as runtime:
        disable(runtime, "kitchen")
        await runtime.host("kitchen").wait_for_status(Status.DISABLED)
    assert trio.current_time() == begun
    assert runtime.host("kitchen").status is Status.STOPPED
    for order in (_orders.enable, _orders.pause, _orders.resume, _orders.restart):
        with pytest.raises(OrderRefusedError, match="'kitchen' is stopping with the program"):
            order(runtime.host("kitchen"))
    with pytest.raises(OrderRefusedError, match="'disk' is stopping with the program"):
        disable(runtime, "disk")


async def test_a_paused_plugin_is_handed_nothing(autojump_clock: MockClock) -> None:
    """A pause hands out nothing, lets the event in flight end, and queues what comes, in order."""
    async with open_plugins(Slow) as runtime:
        host, plugin = runtime.host("slow"), runtime.get(Slow)
        plugin.let = trio.Event()
        await publish(runtime, 1, 2)
        await wait_all_tasks_blocked()
        _orders.pause(host)
        plugin.let.set()
        await publish(runtime, 3)
        await trio.sleep(1000)
        counts = runtime.statistics()["slow"]
        assert (plugin.cooked, counts.queued, counts.in_flight) == ([1], 2, 0)
        _orders.resume(host)
        await wait_all_tasks_blocked()
        assert plugin.cooked == [1, 2, 3]
        assert conserved(runtime.statistics()["slow"])


async def test_an_idle_plugin_is_paused(autojump_clock: MockClock) -> None:
    """A plugin whose readers wait when it is paused takes nothing of what comes then."""
    async with open_plugins(Kitchen) as runtime:
        await wait_all_tasks_blocked()
        _orders.pause(runtime.host("kitchen"))
        await publish(runtime, 1)
        await wait_all_tasks_blocked()
        assert runtime.get(Kitchen).cooked == []
        assert runtime.host("kitchen").status is Status.RUNNING


async def test_a_full_inbox_of_a_paused_plugin(autojump_clock: MockClock) -> None:
    """The policy of a paused inbox decides about what finds no room."""
    async with open_plugins(Small) as runtime:
        _orders.pause(runtime.host("small"))
        fates = [each.fates["small"] for each in await publish(runtime, 1, 2, 3)]
    assert fates == [Fate.QUEUED, Fate.QUEUED, Fate.REJECTED]


async def test_a_pause_outlives_restarts(autojump_clock: MockClock) -> None:
    """A plugin that restarts, or is disabled and enabled, is paused still."""
    async with open_plugins(Kitchen) as runtime:
        host = runtime.host("kitchen")
        _orders.pause(host)
        _orders.restart(host)
        await host.wait_until_down()
        await host.wait_for_status(Status.RUNNING)
        await publish(runtime, 1)
        await wait_all_tasks_blocked()
        assert (host.is_paused, runtime.get(Kitchen).cooked) == (True, [])
        disable(runtime, "kitchen")
        await host.wait_for_status(Status.DISABLED)
        assert runtime.get(Kitchen).cooked == [1]
        _orders.enable(host)
        await host.wait_for_status(Status.RUNNING)
        await publish(runtime, 2)
        await wait_all_tasks_blocked()
        assert (host.is_paused, runtime.get(Kitchen).cooked) == (True, [1])


async def test_a_stop_ends_a_pause_in_memory(autojump_clock: MockClock) -> None:
    """A stop has a paused plugin handle what is in memory, which would be lost."""
    async with open_plugins(Kitchen) as runtime:
        _orders.pause(runtime.host("kitchen"))
        await publish(runtime, 1, 2)
        await wait_all_tasks_blocked()
        plugin = runtime.get(Kitchen)
    assert plugin.cooked == [1, 2]


async def test_a_stop_leaves_durable_events_of_a_paused_plugin(tmp_path: Path) -> None:
    """A stop does not wait for a paused durable plugin, whose events are there at the next start,
    where it is not paused."""
    store = StoreSettings(path=tmp_path / "store.db")
    async with open_plugins(Safe, store=store) as runtime:
        _orders.pause(runtime.host("safe"))
        await publish(runtime, 1, 2)
        first = runtime.get(Safe)
        begun = trio.current_time()
    assert trio.current_time() - begun < runtime.program.settings.shutdown.drain / 2
    assert first.cooked == []
    async with open_plugins(Safe, store=store) as runtime:
        with trio.fail_after(20):
            while len(runtime.get(Safe).cooked) < 2:
                await trio.lowlevel.checkpoint()


class Batches(EventPlugin[Ordered]):
    """Reads its inbox by itself."""

    def __init__(self, app: App) -> None:
        self.batches: list[list[int]] = []

    async def run(self) -> None:
        async for batch in batched(self.inbox, size=2, within=10.0):
            self.batches.append([event.number for event in batch])


async def test_a_paused_batch(autojump_clock: MockClock) -> None:
    """A batch that has begun when its plugin is paused is closed by its age."""
    async with open_plugins(Batches) as runtime:
        await publish(runtime, 1)
        await wait_all_tasks_blocked()
        _orders.pause(runtime.host("batches"))
        await publish(runtime, 2, 3)
        await trio.sleep(20)
        assert runtime.get(Batches).batches == [[1]]
        _orders.resume(runtime.host("batches"))
        await wait_all_tasks_blocked()
        assert runtime.get(Batches).batches == [[1], [2, 3]]


async def test_nothing_to_pause(autojump_clock: MockClock) -> None:
    """A plugin without an inbox cannot be paused."""
    async with open_plugins(Disk) as runtime:
        with pytest.raises(OrderRefusedError, match=r"'disk' takes no events.* disable it instead"):
            _orders.pause(runtime.host("disk"))
