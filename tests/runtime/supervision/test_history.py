"""The statuses that a plugin has had."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from trivet import BackgroundPlugin, Status, SupervisionSettings
from trivet._supervision._history import KEPT
from trivet.testing import open_plugins


class Frail(BackgroundPlugin):
    supervision = SupervisionSettings(max_restarts=1000, backoff_initial=0.1, backoff_max=0.1)

    async def run(self) -> None:
        await trio.sleep(1)
        raise ValueError("frail")


async def test_the_history_of_a_plugin(autojump_clock: MockClock) -> None:
    """The history has each status with its moment and its reason, the last one at its end; of a
    plugin that crashes for ever the last transitions are kept."""
    async with open_plugins(Frail) as runtime:
        frail = runtime.hosts["frail"]
        await frail.wait_for_status(Status.BACKING_OFF)
        found = runtime.history.of("frail")
        assert [each.status for each in found] == ["running", "stopping", "backing_off"]
        assert found[-1].reason == "ValueError: frail"
        assert found[-1].since == frail.since
        await trio.sleep(100)
        assert len(runtime.history.of("frail")) == KEPT
        assert runtime.history.starts_since("frail", found[0].since) >= KEPT // 4 - 1
        assert runtime.history.of("other") == ()
