"""Settings that are read anew while a program runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trivet import ConfigurationError, ReloadRefusedError, Status
from trivet._program._difference import FIXED
from trivet._program._settings import KEYS
from trivet._supervision import _orders

from .programs import COUNTING, Files, plugin

RELOADING = Path(__file__).parents[3] / "docs" / "reloading.md"


async def test_a_plugin_whose_settings_changed_is_replaced(files: Files) -> None:
    """Another setting makes another instance, which has the inbox and its counters."""
    files.plugin("counting", COUNTING)
    files.settings('active_plugins = ["counting"]')
    async with files.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        before = plugin(runtime, "counting")
        await runtime.publish(number(1), wait=True)
        files.settings('active_plugins = ["counting"]\n[plugins.counting]\nstep = 10')
        changes = await reloader.reload()
        await runtime.publish(number(2), wait=True)
        after = plugin(runtime, "counting")
        assert after is not before
        assert (before.seen, after.seen) == ([1], [20])
        assert runtime.statistics()["counting"].handled == 2
    assert [(each.what, each.result) for each in changes] == [("plugins.counting", "replaced")]


async def test_a_replacement_is_no_restart(files: Files) -> None:
    """The restarts of a plugin go over to its new instance, and are no more by that."""
    files.plugin("counting", COUNTING)
    files.settings('active_plugins = ["counting"]')
    async with files.running() as (runtime, reloader):
        runtime.hosts["counting"].restart()
        while runtime.hosts["counting"].restarts == 0 or not runtime.hosts["counting"].is_up:
            await runtime.hosts["counting"].changed()
        for step in (10, 20):
            await reloader.change_settings({"plugins": {"counting": {"step": step}}}, None)
        assert runtime.hosts["counting"].restarts == 1


def test_each_setting_can_change_or_needs_a_restart() -> None:
    """The document says for each key what a reload does; it names the keys that need a restart."""
    rows = [line for line in RELOADING.read_text().splitlines() if line.startswith("| ")]
    keys = {row: set(re.findall(r"`\[?([a-z_]+)\]?`", row.split("|")[1])) for row in rows}
    stay = [
        keys.pop(row) for row in rows if re.search(r"\| (they stay as they are|the same;)", row)
    ]
    assert set[str]().union(*stay) == FIXED.keys()
    assert set[str]().union(*keys.values()) & {*KEYS} == {*KEYS} - FIXED.keys()


async def test_traces_need_a_restart(files: Files) -> None:
    """Spans are made, or not made, from the start on; a reload says so, and nothing is applied."""
    files.settings("")
    async with files.running() as (runtime, reloader):
        files.settings("[traces]\nenabled = true")
        (change,) = await reloader.reload()
        assert (change.what, change.result) == ("traces", "needs a restart")
        assert not runtime.program.settings.traces.enabled
        assert runtime.tracing is None


async def test_nothing_happens_where_nothing_has_changed(files: Files) -> None:
    """A reload of the same settings leaves every instance and its task alone."""
    files.plugin("counting", COUNTING)
    files.settings('active_plugins = ["counting"]')
    async with files.running() as (runtime, reloader):
        before = runtime.hosts["counting"]
        assert await reloader.reload() == ()
        assert runtime.hosts["counting"] is before


async def test_all_faults_are_told_and_nothing_changes(files: Files) -> None:
    """Two faults are two lines, and the plugin that has none is left alone, too."""
    files.plugin("counting", COUNTING)
    files.settings('active_plugins = ["counting"]\n[plugins.counting]\nstep = 1')
    async with files.running() as (runtime, reloader):
        before = runtime.hosts["counting"]
        files.settings(
            'active_plugins = ["counting"]\nmax_body = -1\n[plugins.counting]\nstep = "ten"'
        )
        with pytest.raises(ConfigurationError) as refused:
            await reloader.reload()
        assert "max_body" in str(refused.value)
        assert runtime.hosts["counting"] is before


async def test_a_plugin_that_was_added_starts_and_one_that_was_removed_drains(files: Files) -> None:
    """The new one is up at the end, and the old one has handled what it had accepted."""
    files.plugin("counting", COUNTING)
    files.plugin(
        "slow",
        """
        from .counting import Number

        class Slow(EventPlugin[Number]):
            async def initialize(self) -> None:
                self.seen = []

            async def handle_event(self, event: Number) -> None:
                await trio.sleep(0.01)
                self.seen.append(event.value)
        """,
    )
    files.settings('active_plugins = ["slow"]')
    async with files.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        slow = plugin(runtime, "slow")
        for value in range(5):
            await runtime.publish(number(value))
        files.settings('active_plugins = ["counting"]')
        changes = await reloader.reload()
        assert slow.seen == [0, 1, 2, 3, 4]
        assert list(runtime.hosts) == ["counting"]
        assert runtime.hosts["counting"].is_up
        assert (await runtime.publish(number(9), wait=True)).fates.keys() == {"counting"}
    assert [(each.what, each.result) for each in changes] == [
        ("plugins.counting", "started"),
        ("plugins.slow", "stopped"),
    ]


async def test_the_old_instance_runs_on_where_the_new_one_does_not_start(files: Files) -> None:
    """A failing `initialize` changes nothing: not the other plugins, and not the settings."""
    files.plugin("counting", COUNTING)
    files.plugin(
        "picky",
        """
        class Picky(BackgroundPlugin):
            size: int = 1

            async def initialize(self) -> None:
                if self.size > 1:
                    raise OSError("too large")
        """,
    )
    files.settings('active_plugins = ["counting", "picky"]')
    async with files.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        before = dict(runtime.hosts)
        files.settings(
            """
            active_plugins = ["counting", "picky"]
            [plugins.counting]
            step = 10
            [plugins.picky]
            size = 2
            """
        )
        with pytest.raises(ReloadRefusedError, match=r"'picky' did not start.*too large"):
            await reloader.reload()
        assert runtime.hosts == before
        await runtime.publish(number(1), wait=True)
        assert plugin(runtime, "counting").seen == [1]
        assert not runtime.hosts["picky"].restarts


NEEDING = """
from .counting import Counting

class Needing(BackgroundPlugin):
    needs = (Counting,)
    size: int = 1

    async def initialize(self) -> None:
        self.needed = self.app.get(Counting)
"""


async def test_a_plugin_that_needs_a_replaced_one_sees_the_new_instance(files: Files) -> None:
    """Its own instance stays, in another lifetime, in which `app.get` returns the new one."""
    files.plugin("counting", COUNTING.replace("EventPlugin[Number]", "BackgroundPlugin"))
    files.plugin("needing", NEEDING)
    files.settings('active_plugins = ["counting", "needing"]')
    async with files.running() as (runtime, reloader):
        needing = runtime.hosts["needing"]
        files.settings('active_plugins = ["counting", "needing"]\n[plugins.counting]\nstep = 2')
        await reloader.reload()
        await needing.wait_for_status(Status.RUNNING)
        assert runtime.hosts["needing"] is needing
        assert needing.restarts == 1
        assert plugin(runtime, "needing").needed is plugin(runtime, "counting")


async def test_two_that_need_one_another_are_replaced_together(files: Files) -> None:
    """The new one is initialized with the new one that it needs, and not with the old one."""
    files.plugin("counting", COUNTING.replace("EventPlugin[Number]", "BackgroundPlugin"))
    files.plugin("needing", NEEDING)
    files.settings('active_plugins = ["counting", "needing"]')
    async with files.running() as (runtime, reloader):
        files.settings(
            """
            active_plugins = ["counting", "needing"]
            [plugins.counting]
            step = 2
            [plugins.needing]
            size = 2
            """
        )
        await reloader.reload()
        assert plugin(runtime, "needing").needed is plugin(runtime, "counting")
        assert plugin(runtime, "needing").needed.step == 2
        assert runtime.hosts["needing"].is_up


async def test_what_is_in_flight_is_finished_by_the_old_instance(files: Files) -> None:
    """Nothing is handled twice, and what waits is handled by the new instance, in order."""
    files.plugin(
        "counting",
        COUNTING.replace("self.seen.append", "await trio.sleep(0.02)\n        self.seen.append"),
    )
    files.settings('active_plugins = ["counting"]')
    async with files.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        before = plugin(runtime, "counting")
        for value in range(20):
            await runtime.publish(number(value))
        await wait_all_tasks_blocked()
        files.settings('active_plugins = ["counting"]\n[plugins.counting]\nstep = 100')
        await reloader.reload()
        await runtime.publish(number(20), wait=True)
        after = plugin(runtime, "counting")
        old, new = before.seen, [value // 100 for value in after.seen]
        assert old + new == list(range(21))
        assert old
        assert new


async def test_a_key_that_cannot_change_is_named(files: Files) -> None:
    """The rest is applied, and what needs a restart stays as it is."""
    files.settings("max_body = 1000")
    async with files.running() as (runtime, reloader):
        files.settings(
            'max_body = 2000\nbind = "127.0.0.1:9"\nbuffer_bytes = 1_000_000\n[shutdown]\ndrain = 1'
        )
        changes = await reloader.reload()
        assert runtime.program.settings.max_body == 2000
        assert runtime.program.settings.shutdown.drain == 1.0
    assert [(each.what, each.result) for each in changes] == [
        ("bind", "needs a restart"),
        ("buffer_bytes", "needs a restart"),
        ("max_body", "changed"),
        ("shutdown", "changed"),
    ]


async def test_a_secret_in_a_file_is_read_again(files: Files) -> None:
    """A plugin whose secret was rotated gets another instance with it."""
    secret = files.path / "secret"
    secret.write_text("the first one")
    files.plugin("keeper", "class Keeper(BackgroundPlugin):\n    password: Secret")
    files.settings(f'active_plugins = ["keeper"]\n[plugins.keeper]\npassword.file = "{secret}"')
    async with files.running() as (runtime, reloader):
        secret.write_text("another one")
        await reloader.reload()
        assert plugin(runtime, "keeper").password.reveal() == "another one"


async def test_the_stop_ends_a_reload_whose_plugin_hangs(files: Files) -> None:
    """A new instance that hangs in `initialize` is cancelled, and the program ends in time."""
    files.plugin(
        "hanging",
        """
        class Hanging(BackgroundPlugin):
            hangs: bool = False

            async def initialize(self) -> None:
                if self.hangs:
                    await trio.sleep_forever()
        """,
    )
    files.settings('active_plugins = ["hanging"]')
    refused: list[str] = []

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, files.running() as (runtime, reloader):
            files.settings('active_plugins = ["hanging"]\n[plugins.hanging]\nhangs = true')

            async def reload() -> None:
                try:
                    await reloader.reload()
                except ReloadRefusedError as error:
                    refused.append(str(error))

            nursery.start_soon(reload)
            while len(runtime.nursery.child_tasks) < 2:
                await trio.sleep(0.01)
    assert refused == ["the program stops"]
    assert runtime.hosts["hanging"].status == "stopped"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("concurrency = 1", "concurrency = 4"),
        ("concurrency = 4", 'ordering_key = "value"\nconcurrency = 4'),
        ('ordering_key = "value"\nconcurrency = 4', "concurrency = 1"),
        ("buffer = 100", "buffer = 1\noverflow = 'reject'"),
        ("retry = true\nretry_initial = 0", "filter = {value = [1, 2]}"),
    ],
)
async def test_the_delivery_of_a_plugin_changes_with_its_inbox(
    files: Files, before: str, after: str
) -> None:
    """Events that were accepted under one policy are handled under the other, none is lost."""
    files.plugin(
        "counting",
        COUNTING.replace("self.seen.append", "await trio.sleep(0.001)\n        self.seen.append"),
    )
    files.settings(f'active_plugins = ["counting"]\n[plugins.counting.delivery]\n{before}')
    async with files.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        for value in range(50):
            await runtime.publish(number(value))
        files.settings(f'active_plugins = ["counting"]\n[plugins.counting.delivery]\n{after}')
        await reloader.reload()
        while runtime.statistics()["counting"].handled < 50:
            await trio.sleep(0.01)
        counts = runtime.statistics()["counting"]
        assert (counts.accepted, counts.handled) == (50, 50)
        assert "concurrency = 4" not in after or runtime.hosts["counting"].is_up


@pytest.mark.parametrize(
    ("before", "after"),
    [("durable = false", "durable = true"), ("durable = true", "durable = true\nconcurrency = 2")],
)
async def test_what_stored_events_depend_on_needs_a_restart(
    files: Files, before: str, after: str
) -> None:
    """The reload is refused, and the plugin goes on as it was."""
    files.plugin("counting", COUNTING)
    files.settings(f'active_plugins = ["counting"]\n[plugins.counting.delivery]\n{before}')
    async with files.running() as (runtime, reloader):
        host = runtime.hosts["counting"]
        files.settings(f'active_plugins = ["counting"]\n[plugins.counting.delivery]\n{after}')
        with pytest.raises(ReloadRefusedError, match="'counting' needs a restart"):
            await reloader.reload()
        assert runtime.hosts["counting"] is host
        assert host.is_up


async def test_a_durable_inbox_goes_over_to_the_new_instance(files: Files) -> None:
    """Events that are stored for the old instance are handled by the new one, once, in order."""
    files.plugin("counting", COUNTING)
    delivery = "[plugins.counting.delivery]\ndurable = true"
    files.settings(f'active_plugins = ["counting"]\n{delivery}')
    async with files.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        before = plugin(runtime, "counting")
        for value in range(1, 400):
            await runtime.publish(number(value))
            if value == 200:
                files.settings(
                    f'active_plugins = ["counting"]\n[plugins.counting]\nstep = 1000\n{delivery}'
                )
                await reloader.reload()
        await runtime.publish(number(400), wait=True)
        after = plugin(runtime, "counting")
        assert before.seen + [value // 1000 for value in after.seen] == list(range(1, 401))
        assert runtime.statistics()["counting"].handled == 400


async def test_a_plugin_that_was_disabled_is_replaced_and_stays_so(files: Files) -> None:
    """An operator's order outlives the reload; the new instance starts when it is enabled."""
    files.plugin("counting", COUNTING)
    files.settings('active_plugins = ["counting"]')
    async with files.running() as (runtime, reloader):
        _orders.disable(runtime.hosts["counting"], runtime.program.settings.shutdown)
        await runtime.hosts["counting"].wait_for_status(Status.DISABLED)
        files.settings('active_plugins = ["counting"]\n[plugins.counting]\nstep = 10')
        await reloader.reload()
        host = runtime.hosts["counting"]
        await host.wait_for_status(Status.DISABLED)
        _orders.enable(host)
        await host.wait_for_status(Status.RUNNING)
        assert plugin(runtime, "counting").step == 10


async def test_a_plugin_that_ended_the_program_stays_disabled(files: Files) -> None:
    """A plugin to which deaths of the program were put down starts when an operator enables it."""
    files.plugin("counting", COUNTING)
    files.settings('active_plugins = ["counting"]')
    async with files.running(disabled={"counting": "three deaths"}) as (runtime, reloader):
        await runtime.hosts["counting"].wait_for_status(Status.DISABLED)
        files.settings(
            'max_body = 2000\nactive_plugins = ["counting"]\n[plugins.counting]\nstep = 10'
        )
        await reloader.reload()
        assert runtime.program.settings.max_body == 2000
        host = runtime.hosts["counting"]
        await host.wait_for_status(Status.DISABLED)
        _orders.enable(host)
        await host.wait_for_status(Status.RUNNING)
        assert plugin(runtime, "counting").step == 10
