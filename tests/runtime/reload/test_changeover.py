"""The instant at which other instances take over, and what may happen around it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trivet import OrderRefusedError, Status
from trivet._supervision import _orders
from trivet.testing import client

from .programs import COUNTING, Files, plugin

BACKGROUND = COUNTING.replace("EventPlugin[Number]", "BackgroundPlugin")
ACTIVE = 'active_plugins = ["counting"]\n'


async def test_a_new_instance_that_fails_at_the_last_moment(
    files: Files, autojump_clock: MockClock
) -> None:
    """A new instance that fails after it was looked at, while a plugin that needs it closes, takes
    over all the same, and is started again as any plugin that fails."""
    files.plugin("counting", BACKGROUND)
    files.plugin(
        "needing",
        """
        class Needing(BackgroundPlugin):
            needs = ("counting",)

            async def close(self) -> None:
                await trio.sleep(2)
        """,
    )
    files.settings('active_plugins = ["counting", "needing"]')
    fails = """self.seen = []
        (await self.enter(trio.open_nursery())).start_soon(self.fail_late)

    async def fail_late(self) -> None:
        await trio.sleep(1)
        if self.app.hosts["counting"].plugin is not self:
            raise OSError("late")
    """
    async with files.running(in_loop=True) as (runtime, reloader):
        old = runtime.hosts["counting"]
        files.plugin("counting", BACKGROUND.replace("self.seen = []", fails))
        await reloader.reload_plugin("counting")
        new = runtime.hosts["counting"]
        await new.wait_for_status(Status.RUNNING)
        await runtime.hosts["needing"].wait_for_status(Status.RUNNING)
        assert new is not old
        assert "late" in str(new.error)
        assert not new.start_failed


@pytest.mark.parametrize("order", ["disable", "enable", "restart"])
async def test_an_order_during_the_exchange(
    files: Files, autojump_clock: MockClock, order: str
) -> None:
    """An order to an instance that is about to leave is refused, and none is lost: the new
    instance takes the order."""
    closes_slowly = """
        class Needing(BackgroundPlugin):
            needs = ("other",)

            async def close(self) -> None:
                await trio.sleep(2)
        """
    files.plugin("counting", COUNTING)
    files.plugin("other", "class Other(BackgroundPlugin):\n    word: str = 'a'\n")
    files.plugin("leaving", "class Leaving(BackgroundPlugin):\n    pass\n")
    files.plugin("needing", closes_slowly)
    files.settings('active_plugins = ["counting", "other", "needing", "leaving"]')
    async with files.running(in_loop=True) as (runtime, reloader):
        old, leaving = runtime.hosts["counting"], runtime.hosts["leaving"]
        limits = runtime.program.settings.shutdown

        def give() -> None:
            host = runtime.hosts["counting"]
            if order == "disable":
                _orders.disable(host, limits)
            elif order == "enable":
                _orders.enable(host)
            else:
                _orders.restart(host)

        if order == "enable":
            _orders.disable(old, limits)
            await old.wait_for_status(Status.DISABLED)
        changed = '[plugins.counting]\nstep = 3\n[plugins.other]\nword = "b"'
        files.settings(f'active_plugins = ["counting", "other", "needing"]\n{changed}')
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reloader.reload)
            await runtime.hosts["needing"].wait_for_status(Status.STOPPING)
            with pytest.raises(OrderRefusedError, match="'counting' is being replaced"):
                give()
            with pytest.raises(OrderRefusedError, match="'leaving' is being replaced or removed"):
                _orders.disable(leaving, limits)
        new = runtime.hosts["counting"]
        assert new is not old
        assert new.is_disabled is (order == "enable")
        give()
        await new.wait_for_status(Status.DISABLED if order == "disable" else Status.RUNNING)


async def test_an_event_that_is_published_in_initialize(files: Files) -> None:
    """The event is one of the present class, as long as the new one has not taken its place."""
    files.plugin(
        "counting",
        COUNTING.replace(
            "self.seen = []", "self.seen = []\n        await self.app.publish(Number(7))"
        ),
    )
    files.settings(ACTIVE)
    async with files.running() as (runtime, reloader):
        await reloader.reload_plugin("counting")
        number: Any = runtime.events["number"]
        await runtime.publish(number(8), wait=True)
        assert runtime.statistics()["counting"].handled == 3


async def test_a_request_that_the_old_instance_is_answering(
    files: Files, autojump_clock: MockClock
) -> None:
    """The old instance closes when it has answered, and not before."""
    slow = """
    @route("/slow")
    async def slow(self):
        await trio.sleep(1)
        return {"seen": self.seen}

    async def close(self) -> None:
        del self.seen
    """
    files.plugin("counting", COUNTING + slow)
    files.settings(ACTIVE)
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append((await client(runtime).get("/slow")).status_code)

    async with files.running(in_loop=True) as (runtime, reloader):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.5)
            await reloader.reload_plugin("counting")
        assert statuses == [200]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_handler_that_waits_for_another_plugin(
    files: Files, autojump_clock: MockClock, waits: bool
) -> None:
    """The plugin that is waited for goes on, if both are replaced, until the other is at rest, so
    that no event is handled twice; and a plugin that is not replaced may wait as it likes."""
    files.plugin("counting", COUNTING)
    files.plugin(
        "asking",
        """
        from .counting import Number

        class Ask(Event):
            value: int

        class Asking(EventPlugin[Ask]):
            times: int = 1

            async def handle_event(self, event: Ask) -> None:
                await trio.sleep(1)
                await self.app.publish(self.app.events["number"](event.value), wait=True)
        """,
    )
    active = 'active_plugins = ["counting", "asking"]\n'
    files.settings(active)
    async with files.running(in_loop=True) as (runtime, reloader):
        ask: Any = runtime.events["ask"]
        await runtime.publish(ask(1))
        await trio.sleep(0.5)
        tables = [
            "[plugins.counting]\nstep = 2\n",
            "[plugins.asking]\ntimes = 2\n" if waits else "",
        ]
        files.settings(active + "".join(tables))
        begun = trio.current_time()
        await reloader.reload()
        assert trio.current_time() - begun < 2
        await runtime.publish(ask(2), wait=True)
        assert runtime.statistics()["asking"].handled == 2
        assert runtime.statistics()["counting"].handled == 2


async def test_a_crash_while_the_inboxes_come_to_rest(
    files: Files, autojump_clock: MockClock
) -> None:
    """A plugin that crashes has nothing in flight any more: its successor need not wait longer."""
    files.plugin(
        "counting",
        COUNTING.replace(
            "self.seen.append", "await trio.sleep(1)\n        raise SystemExit\n        self"
        ),
    )
    files.settings(
        ACTIVE + "[plugins.counting.supervision]\nbackoff_initial = 10\nmax_restarts = 9"
    )
    async with files.running(in_loop=True) as (runtime, reloader):
        number: Any = runtime.events["number"]
        await runtime.publish(number(5))
        await trio.sleep(0.5)
        files.plugin("counting", COUNTING)
        begun = trio.current_time()
        await reloader.reload_plugin("counting")
        assert trio.current_time() - begun == pytest.approx(0.5)
        await runtime.publish(number(6), wait=True)
        assert plugin(runtime, "counting").seen == [5, 6]


async def test_a_plugin_that_backs_off_is_replaced_at_once(
    files: Files, autojump_clock: MockClock
) -> None:
    """The new instance need not wait for the old one's next start."""
    files.plugin(
        "counting",
        COUNTING.replace("self.seen.append(event.value * self.step)", "raise SystemExit"),
    )
    files.settings(
        ACTIVE + "[plugins.counting.supervision]\nbackoff_initial = 1000\nbackoff_max = 9999"
    )
    async with files.running(in_loop=True) as (runtime, reloader):
        number: Any = runtime.events["number"]
        await runtime.publish(number(5))
        await runtime.hosts["counting"].wait_for_status(Status.BACKING_OFF)
        files.plugin("counting", COUNTING)
        await reloader.reload_plugin("counting")
        await runtime.publish(number(6), wait=True)
        assert plugin(runtime, "counting").seen == [5, 6]


async def test_a_new_type_does_not_touch_who_listens_to_all(files: Files) -> None:
    """A plugin that listens to every event gets those of a type that another file brings, in the
    same lifetime of the same instance."""
    files.plugin("counting", COUNTING)
    files.plugin(
        "hearing",
        """
        class Hearing(EventPlugin[Event]):
            async def handle_event(self, event: Event) -> None:
                pass
        """,
    )
    files.settings('active_plugins = ["counting", "hearing"]')
    async with files.running() as (runtime, reloader):
        hearing = runtime.hosts["hearing"]
        files.plugin("counting", COUNTING + "\nclass Word(Event):\n    text: str\n")
        await reloader.reload_plugin("counting")
        word: Any = runtime.events["word"]
        outcome = await runtime.publish(word("x"), wait=True)
        assert outcome.fates.keys() == {"hearing"}
        assert runtime.hosts["hearing"] is hearing
        assert hearing.restarts == 0
