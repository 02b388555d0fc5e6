"""The table of statuses, and the events about transitions."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    PluginStatusEvent,
    Status,
    SupervisionSettings,
)
from trivet._plugins._status import TRANSITIONS, diagram
from trivet.testing import open_plugins

PAGE = Path(__file__).parents[3] / "docs" / "supervision.md"


def reachable(origin: Status) -> set[Status]:
    """The statuses that can be reached from this one."""
    found: set[Status] = set()
    edge = {origin}
    while edge:
        found |= edge
        edge = {target for status in edge for target in TRANSITIONS[status]} - found
    return found


def test_every_status_has_its_row() -> None:
    """The table knows all statuses, and none goes to itself."""
    assert set(TRANSITIONS) == set(Status)
    assert not [status for status, targets in TRANSITIONS.items() if status in targets]


def test_no_dead_end() -> None:
    """Every status can be reached from the start, and the start from every status."""
    assert reachable(Status.STARTING) == set(Status)
    assert all(Status.STARTING in reachable(status) for status in Status)


def test_way_through_running() -> None:
    """`running` follows `starting` or `degraded`; every way out leads through `stopping`."""
    origins = {
        target: {origin for origin in Status if target in TRANSITIONS[origin]} for target in Status
    }
    assert origins[Status.RUNNING] == {Status.STARTING, Status.DEGRADED}
    assert origins[Status.DEGRADED] == {Status.RUNNING}
    for status in (Status.RUNNING, Status.DEGRADED):
        assert set(TRANSITIONS[status]) - {Status.RUNNING, Status.DEGRADED} == {Status.STOPPING}


def test_the_documents_draw_this_table() -> None:
    """The diagram in the documents is the one that the table makes."""
    assert f"```mermaid\n{diagram()}\n```" in PAGE.read_text("utf-8")


class Observer(EventPlugin[PluginStatusEvent]):
    seen: ClassVar[list[PluginStatusEvent]]

    async def initialize(self) -> None:
        type(self).seen = []

    async def handle_event(self, event: PluginStatusEvent) -> None:
        self.seen.append(event)

    @classmethod
    def ways(cls, plugin: str) -> list[str]:
        """The statuses of this plugin, in order."""
        return [event.status for event in cls.seen if event.plugin == plugin]


async def test_every_transition_is_an_event(autojump_clock: MockClock) -> None:
    """A subscriber of `plugin_status_event` gets every status in order, with reasons."""

    class Frail(BackgroundPlugin):
        supervision = SupervisionSettings(max_restarts=1, critical=False)

        async def run(self) -> None:
            self.degrade("thin ice")
            self.recover()
            raise ValueError("broke in")

    async with open_plugins(Frail, Observer) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.FAILED)
    once = ["running", "degraded", "running", "stopping"]
    assert Observer.ways("frail") == [*once, "backing_off", "starting", *once, "failed"]
    events = [event for event in Observer.seen if event.plugin == "frail"]
    assert all(after.previous == before.status for before, after in pairwise(events))
    reasons = {event.status: event.reason for event in events}
    assert reasons[Status.DEGRADED] == "thin ice"
    assert reasons[Status.BACKING_OFF] == reasons[Status.FAILED] == "ValueError: broke in"
    assert [event.restarts for event in events if event.status == "stopping"] == [0, 1]


async def test_earlier_transitions() -> None:
    """Events from before the observer itself ran wait in its inbox."""

    class Early(BackgroundPlugin):
        pass

    async with open_plugins(Early, Observer):
        pass
    assert Observer.ways("early")[0] == "running"


async def test_listening_to_everything() -> None:
    """A subscriber of `Event` does not get the events about statuses."""

    class Forwards(EventPlugin[Event]):
        async def handle_event(self, event: Event) -> None:
            pytest.fail("nothing was published")

    async with open_plugins(Forwards) as runtime:
        runtime.get(Forwards).degrade("bad password: s3cret")
    assert runtime.statistics()["forwards"].accepted == 0


async def test_no_transition_waits_for_an_observer(autojump_clock: MockClock) -> None:
    """A full inbox that would make a publisher wait refuses a status at once."""

    class Stuck(EventPlugin[PluginStatusEvent]):
        delivery = DeliverySettings(buffer=1, overflow="block", block_for=1000)

        async def run(self) -> None:
            await trio.sleep_forever()

    class Quick(BackgroundPlugin):
        pass

    async with open_plugins(Stuck, Quick) as runtime:
        plugin = runtime.get(Quick)
        for _ in range(10):
            plugin.degrade("busy")
            plugin.recover()
        assert runtime.statistics()["stuck"].rejected >= 10
    assert trio.current_time() == 0.0


async def test_degraded_and_restarted() -> None:
    """A degraded plugin is `running` after a restart; `degrade` in `initialize` counts."""

    class Moody(BackgroundPlugin):
        lives: ClassVar[int] = 0

        async def initialize(self) -> None:
            type(self).lives += 1
            if self.lives == 2:
                self.degrade("bad start")

    async with open_plugins(Moody) as runtime:
        host = runtime.hosts["moody"]
        assert host.status is Status.RUNNING
        runtime.restart("moody")
        await host.wait_for_status(Status.DEGRADED)
        assert (host.restarts, host.trouble) == (1, "bad start")
        runtime.restart("moody")
        await host.wait_for_status(Status.RUNNING)
        assert (host.restarts, host.trouble) == (2, None)


@pytest.mark.parametrize("repeated", ["no broker", None])
async def test_repeated_reports(repeated: str | None) -> None:
    """`degrade` and `recover` may be called again and again without a transition."""

    class Chatty(BackgroundPlugin):
        pass

    async with open_plugins(Chatty, Observer) as runtime:
        plugin = runtime.get(Chatty)
        plugin.degrade("no broker")
        for _ in range(3):
            plugin.degrade(repeated) if repeated else plugin.recover()
        while Observer.ways("chatty")[0] != "running" or runtime.statistics()["observer"].queued:
            await trio.lowlevel.checkpoint()
    said = ["degraded"] if repeated else ["degraded", "running"]
    assert Observer.ways("chatty")[1:] == [*said]
