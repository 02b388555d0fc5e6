"""A storm of reloads: a program whose settings and code change under load, and what must hold.

Owns the program, the steps, and the checks after each of them.
Never knows how many programs are tried, nor how steps are chosen.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

import trio
import trio.testing

from trivet import ConfigurationError, Fate, ReloadRefusedError, Runtime, Status
from trivet._faults._errors import OrderRefusedError
from trivet._loop._tasks import plugin_of_task
from trivet._reload._reloader import Reloader
from trivet._store._store import Store
from trivet._supervision import _orders

from .programs import Files

Step = tuple[str, int]
"""The name of a method of `Storm`, and its amount or its choice."""

NOTES = "trivet_storm_notes"
"""The module into which the plugins of a storm write; it outlives their instances."""

WORKING = """
import trivet_storm_notes as notes

class Number(Event):
    value: int

class Word(Event):
    value: int

class Working(EventPlugin[Number]):
    VERSION = 0
    FAILS_LATE = False
    pause: float = 0.0

    async def initialize(self) -> None:
        {initialize}
        notes.alive.append(self)

    async def run(self) -> None:
        async for event in self.inbox:
            if type(event) not in (Number, Word):
                notes.wrong.append(event)
            if event.value in notes.crashes:
                notes.crashes.remove(event.value)
                raise RuntimeError("a crash")
            try:
                await trio.sleep(self.pause)
            except trio.Cancelled:
                notes.interrupted.append(event.value)
                raise
            notes.seen.append(event.value)

    async def close(self) -> None:
        notes.alive.remove(self)
"""
GOOD = WORKING.format(initialize="pass")
FAILS_LATE = """\
async def fail() -> None:
            await trio.sleep(0.02)
            if not notes.is_over:
                raise OSError("late")
        (await self.enter(trio.open_nursery())).start_soon(fail)"""
CODE = [
    GOOD,
    WORKING.format(initialize="await trio.sleep(0.01)"),
    GOOD.replace("value: int", "value: int\n    unit: str = ''", 1),
    WORKING.format(initialize="raise OSError('no')"),
    WORKING.format(initialize="await trio.sleep_forever()"),
    GOOD.replace("close(self)", "close("),
    GOOD.replace("value: int", "value: int\n    unit: str", 1),
    GOOD.replace("EventPlugin[Number]", "EventPlugin[Word]"),
    GOOD + "\n    def __init__(self, app):\n        raise SystemExit\n",
    WORKING.format(initialize=FAILS_LATE).replace("FAILS_LATE = False", "FAILS_LATE = True"),
]
"""Versions of one file. Three work; the others fail, hang, are no Python, have a field that old
events lack, listen to another type, cannot be made, or fail soon after their start."""
DELIVERIES = [
    "",
    "buffer = 3\noverflow = 'reject'",
    "buffer = 2\nblock_for = 0.05\non_full = 'drop_newest'",
    "buffer = 4\noverflow = 'drop_oldest'",
    "retry = true\nretry_initial = 0.01",
    "buffer_bytes = 100_000\ndeduplicate_for = 9.0",
]
"""Settings of the delivery, each of which may follow each."""
LISTENING = """
import trivet_storm_notes as notes

class Listening(EventPlugin[Event]):
    async def handle_event(self, event: Event) -> None:
        notes.heard.append(event.value)
"""
KEEPING = """
import trivet_storm_notes as notes

class Kept(Event):
    value: int

class Keeping(EventPlugin[Kept]):
    async def handle_event(self, event: Kept) -> None:
        await trio.sleep(0 if notes.is_over else 1)
        notes.kept.append(event.value)
"""
"""A plugin with a durable inbox, which comes and goes; what it has not handled waits for it."""
EXTRA = "class Extra(BackgroundPlugin):\n    pass"
STOPPED_WITHIN = 60.0
"""Seconds in which a program stops, which is more than the budget of a stop."""
DRAINED_WITHIN = 60.0
"""Seconds in which all events are handled once the weather is fair."""


async def weather(files: Files, steps: Iterator[Step], *, durable: bool) -> None:
    """Run a program through the steps of one storm, and stop it; everything is checked.

    Args:
        files: an empty directory.
        steps: the steps. `("stop", 0)` stops the program, and starts it anew.
        durable: whether events outlive the program.
    """
    notes: Any = ModuleType(NOTES)
    notes.seen, notes.heard, notes.wrong, notes.alive = [], [], [], []
    notes.crashes, notes.is_over = set[int](), False
    notes.kept, notes.interrupted = [], []
    sys.modules[NOTES] = notes
    try:
        with patch("trivet._store._store.Store", partial(Store, in_loop=True)):
            storm = Storm(files, notes, durable=durable)
            while await storm.last_until_stop(steps):
                storm.check_stop()
            storm.check_stop()
    finally:
        del sys.modules[NOTES]


class Storm:
    """The state of one storm: what was published, and what the settings say."""

    def __init__(self, files: Files, notes: Any, *, durable: bool) -> None:
        self._files = files
        self._notes = notes
        self._durable = durable
        self._other_store = False
        self._published = 0
        self._heard_before = 0
        self._pause = 0
        self._delivery = 0
        self._version = 0
        self._has_extra = False
        self._has_keeping = False
        self.accepted: list[int] = []
        self._ended_before = 0
        """Events that earlier programs have ended."""
        self._handled_before = 0
        self._dropped_at_once = 0
        """Events for which there was no room, which counts as accepted and dropped."""
        self._kept: list[int] = []
        """Events that the plugin with the durable inbox has accepted."""
        self._reloads_beside = 0
        self._under_load = False
        self._runtime: Runtime
        self._reloader: Reloader
        self._nursery: trio.Nursery
        files.plugin("working", GOOD)
        files.plugin("listening", LISTENING)
        files.plugin("keeping", KEEPING)
        files.plugin("extra", EXTRA)

    async def last_until_stop(self, steps: Iterator[Step]) -> bool:
        """Run a program until the next stop; says whether another one follows."""
        self._calm()
        another = False
        with trio.CancelScope() as patience:
            async with self._files.running(in_loop=True) as (self._runtime, self._reloader):
                async with trio.open_nursery() as self._nursery:
                    task = self._task_of("listening")
                    for name, amount in steps:
                        if name == "stop":
                            another = True
                            break
                        await getattr(self, name)(amount)
                        self.check()
                        assert self._task_of("listening") == task
                if not another:
                    await self._clear_up()
                    assert self._task_of("listening") == task
                patience.deadline = trio.current_time() + STOPPED_WITHIN
        assert not patience.cancelled_caught, "the stop does not end"
        return another

    def _calm(self) -> None:
        """Have a program that can start."""
        self._notes.is_over, self._other_store = False, False
        self._write_code(0)
        self._write_settings()

    def _write_code(self, version: int) -> None:
        self._version += 1
        text = CODE[version].replace("VERSION = 0", f"VERSION = {self._version}")
        self._files.plugin("working", text)

    def _write_settings(self) -> None:
        names = ["working", "listening"]
        names += ["extra"] * self._has_extra + ["keeping"] * self._has_keeping
        store = f'[store]\npath = "{self._files.path / "store.db"}"\nsynchronous = "normal"\n'
        durable = self._durable is not self._other_store
        self._files.settings(
            f"active_plugins = {names}\n"
            "[startup]\nlimit = 0.5\n[stalls]\nenabled = false\n"
            f"{store}"
            f"[plugins.working]\npause = {self._pause / 1000}\n"
            "[plugins.working.supervision]\nbackoff_initial = 0.01\nbackoff_max = 0.01\n"
            "max_restarts = 100000\n"
            f"[plugins.working.delivery]\n{'durable = true' if durable else ''}\n"
            f"{DELIVERIES[self._delivery]}\n"
            "[plugins.keeping.delivery]\ndurable = true\n"
        )

    # The steps.

    async def publish(self, amount: int) -> None:
        """Publish events, one after the other."""
        for _ in range(amount):
            number = self._runtime.events["number"]
            units = {"unit": "m"} if "unit" in inspect.signature(number).parameters else {}
            event: Any = number(value=self._published, **units)  # type: ignore[call-arg]
            outcome = await self._runtime.publish(event)
            fate = outcome.fates.get("working")
            if fate is not None and (fate.alive or fate is Fate.HANDLED):
                self.accepted.append(self._published)
            self._dropped_at_once += fate is Fate.DROPPED
            self._published += 1

    async def publish_to_keep(self, amount: int) -> None:
        """Publish events for the plugin with the durable inbox, if it is there."""
        for _ in range(amount):
            if "keeping" not in self._runtime.hosts:
                return  # The type of the events has gone with it.
            event: Any = self._runtime.events["kept"](value=self._published)  # type: ignore[call-arg]
            fate = (await self._runtime.publish(event)).fates.get("keeping")
            if fate is not None:
                assert fate.alive or fate is Fate.HANDLED
                self._kept.append(self._published)
            self._published += 1

    async def crash(self, _: int) -> None:
        """Publish an event that `run` does not survive, the first time."""
        self._notes.crashes.add(self._published)
        await self.publish(1)

    async def sleep(self, amount: int) -> None:
        """Let time pass, in hundredths of a second."""
        await trio.sleep(amount / 100)

    async def set_pause(self, amount: int) -> None:
        """Write another pause into the settings, in milliseconds."""
        self._pause = amount
        self._write_settings()

    async def set_delivery(self, choice: int) -> None:
        """Write other settings of the delivery."""
        self._delivery = choice % len(DELIVERIES)
        self._write_settings()

    async def toggle_extra(self, _: int) -> None:
        """Add a plugin, or take it away."""
        self._has_extra = not self._has_extra
        self._write_settings()

    async def toggle_keeping(self, _: int) -> None:
        """Add the plugin with the durable inbox, or take it away."""
        self._has_keeping = not self._has_keeping
        self._write_settings()

    async def toggle_durable(self, _: int) -> None:
        """Ask for what needs a restart: an inbox in another place."""
        self._other_store = not self._other_store
        self._write_settings()

    async def write_code(self, choice: int) -> None:
        """Write another version of the file."""
        self._write_code(choice % len(CODE))

    async def reload(self, _: int) -> None:
        """Reload, and wait for it."""
        await trio.testing.wait_all_tasks_blocked()  # An order may just have been given.
        host, others = self._runtime.hosts["working"], self._reloads_beside
        interrupted = len(self._notes.interrupted)
        with suppress(ConfigurationError, ReloadRefusedError):
            changes = await self._reloader.reload()
            assert not self._other_store, "an inbox has gone to another place"
            is_new = self._runtime.hosts["working"] is not host
            if not others:
                assert is_new == ("plugins.working" in [each.what for each in changes])
                has_keeping = "keeping" in self._runtime.hosts
                assert has_keeping == self._has_keeping
        if not type(host.plugin).FAILS_LATE:  # type: ignore[attr-defined]
            assert len(self._notes.interrupted) == interrupted, "an event was cut short"

    async def reload_under_load(self, _: int) -> None:
        """Reload, and wait for it, while events go on coming in."""
        self._under_load = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish_on)
            await self.reload(0)
            self._under_load = False

    async def _publish_on(self) -> None:
        while self._under_load:
            await self.publish(1)
            await trio.sleep(0.01)

    async def reload_beside(self, _: int) -> None:
        """Reload, while the next steps are taken."""
        self._nursery.start_soon(self._reload_quietly)

    async def _reload_quietly(self) -> None:
        self._reloads_beside += 1
        with suppress(ConfigurationError, ReloadRefusedError):
            await self._reloader.reload()
        self._reloads_beside -= 1

    async def order(self, choice: int) -> None:
        """Give an order of an operator's to a plugin: the upper half to the durable one."""
        hosts, limits = self._runtime.hosts, self._runtime.program.settings.shutdown
        orders = (
            partial(_orders.disable, limits=limits),
            _orders.enable,
            _orders.pause,
            _orders.resume,
            _orders.restart,
        )
        of_keeping = choice >= len(orders) and "keeping" in hosts
        with suppress(OrderRefusedError):
            orders[choice % len(orders)](hosts["keeping" if of_keeping else "working"])

    # The checks.

    def _task_of(self, plugin: str) -> object:
        """The task and the instance of a plugin that no step changes."""
        return next(
            task
            for task in self._runtime.nursery.child_tasks
            if task.context.get(plugin_of_task) == plugin
        ), self._runtime.hosts[plugin].plugin

    def check(self) -> None:
        """Check what must hold at every instant."""
        for name, counts in self._runtime.statistics().items():
            ended = (
                counts.handled, counts.failed, counts.filtered, counts.dropped, counts.expired,
                counts.duplicate, counts.dead_lettered, counts.abandoned,
            )  # fmt: skip
            inside = (counts.queued, counts.in_flight, counts.backing_off)
            assert counts.accepted == sum(ended) + sum(inside), name
            if name == "working":
                told = len(self.accepted) + self._dropped_at_once
                assert counts.accepted + self._ended_before == told
        seen = self._notes.seen
        assert seen == sorted(set(seen)), "an event came twice, or out of order"
        assert {*seen} <= {*self.accepted}
        kept = self._notes.kept
        assert kept == self._kept[: len(kept)], "a durable event came twice, not, or out of order"
        assert not self._notes.wrong, "an event is of an old class"
        assert len(self._notes.alive) <= 2
        assert self._runtime.hosts["listening"].status is Status.RUNNING

    async def _clear_up(self) -> None:
        """Have fair weather at last: the code is what the file says, and all events are handled."""
        self._other_store, self._pause, self._delivery = False, 0, 0
        self._has_keeping = self._notes.is_over = True
        self._write_code(0)
        self._write_settings()
        await self._reloader.reload()
        host = self._runtime.hosts["working"]
        for each in (host, self._runtime.hosts["keeping"]):
            _orders.enable(each)
            _orders.resume(each)
        with trio.fail_after(DRAINED_WITHIN):
            await host.wait_for_status(Status.RUNNING)
            while self._inside() or len(self._notes.kept) < len(self._kept):
                await trio.sleep(0.1)
        assert self._version == type(host.plugin).VERSION  # type: ignore[attr-defined]
        assert len(self._notes.alive) == 1
        self.check()
        handled = self._runtime.statistics()["working"].handled
        assert self._handled_before + handled == len(self._notes.seen)

    def _inside(self) -> int:
        counts = self._runtime.statistics()["working"]
        return counts.queued + counts.in_flight + counts.backing_off

    def check_stop(self) -> None:
        """Check what must hold when a program has stopped."""
        counts = self._runtime.statistics()["working"]
        inside = self._inside()
        assert self._durable or not inside, "an event in memory has no end"
        self._ended_before += counts.accepted - inside
        self._handled_before += counts.handled
        assert self._handled_before == len(self._notes.seen)
        assert self._notes.heard == list(range(self._published))
        assert self._notes.alive == []
