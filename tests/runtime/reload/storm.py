"""A storm of reloads: a program whose settings and code change under load, and what must hold.

Owns the program, the steps, and the checks after each of them.
Never knows how many programs are tried, nor how steps are chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, Literal

import trio

from trivet import ConfigurationError, ReloadRefusedError, Runtime, Status
from trivet._loop._tasks import plugin_of_task
from trivet._reload._reloader import Reloader

from .programs import Files

Step = tuple[Literal["publish", "sleep", "settings", "code", "plugins", "crash", "reload"], int]
"""An action, and its amount or its choice."""

NOTES = "trivet_storm_notes"
"""The module into which the plugins of a storm write; it outlives their instances."""

WORKING = """
import trivet_storm_notes as notes

class Number(Event):
    value: int

class Working(EventPlugin[Number]):
    pause: float = 0.0

    async def initialize(self) -> None:
        {initialize}
        notes.alive.append(self)

    async def run(self) -> None:
        async for event in self.inbox:
            if event.value in notes.crashes:
                notes.crashes.remove(event.value)
                raise RuntimeError("a crash")
            notes.seen.append(event.value)
            await trio.sleep(self.pause)

    async def close(self) -> None:
        notes.alive.remove(self)
"""
CODE = [
    WORKING.format(initialize="pass"),
    WORKING.format(initialize="await trio.sleep(0.01)"),
    WORKING.format(initialize="raise OSError('no')"),
    WORKING.format(initialize="await trio.sleep_forever()"),
    WORKING.replace("close(self)", "close("),
    WORKING.format(initialize="pass").replace("value: int", "value: int\\n    unit: str = ''"),
]
"""Versions of one file: two that work, one that fails, one that hangs, one that is no Python, and
one with another field."""
LISTENING = """
import trivet_storm_notes as notes

class Listening(EventPlugin[Event]):
    async def handle_event(self, event: Event) -> None:
        notes.heard.append(event.value)
"""
EXTRA = "class Extra(BackgroundPlugin):\n    pass"


async def weather(files: Files, steps: Sequence[Step]) -> None:
    """Run a program through the steps of one storm, and stop it; everything is checked.

    Args:
        files: an empty directory.
        steps: the steps.
    """
    notes: Any = ModuleType(NOTES)
    notes.seen, notes.heard, notes.crashes, notes.alive = [], [], set[int](), []
    sys.modules[NOTES] = notes
    try:
        for name, text in (("working", CODE[0]), ("listening", LISTENING), ("extra", EXTRA)):
            files.plugin(name, text)
        storm = _Storm(files, notes)
        storm.write_settings()
        async with (
            files.running(in_loop=True) as (runtime, reloader),
            trio.open_nursery() as nursery,
        ):
            task = storm.task_of(runtime, "listening")
            for step in steps:
                await storm.take(step, runtime, reloader, nursery)
                storm.check(runtime)
                assert storm.task_of(runtime, "listening") == task
        storm.check_end(runtime)
    finally:
        del sys.modules[NOTES]


class _Storm:
    """The state of one storm: what was published, and what the settings say."""

    def __init__(self, files: Files, notes: Any) -> None:
        self._files = files
        self._notes = notes
        self._published = 0
        self._pause = 0
        self._has_extra = False
        self.accepted: list[int] = []

    def write_settings(self) -> None:
        names = ["working", "listening", *(["extra"] if self._has_extra else [])]
        self._files.settings(
            f"active_plugins = {names}\n"
            "[startup]\nlimit = 0.5\n[stalls]\nenabled = false\n"
            f"[plugins.working]\npause = {self._pause / 1000}\n"
            "[plugins.working.supervision]\nbackoff_initial = 0.01\nmax_restarts = 1000\n"
        )

    async def take(
        self, step: Step, runtime: Runtime, reloader: Reloader, nursery: trio.Nursery
    ) -> None:
        """Take one step."""
        what, amount = step
        if what == "publish":
            for _ in range(amount):
                await self._publish(runtime)
        elif what == "crash":
            self._notes.crashes.add(self._published)
            await self._publish(runtime)
        elif what == "sleep":
            await trio.sleep(amount / 100)
        elif what == "settings":
            self._pause = amount
            self.write_settings()
        elif what == "plugins":
            self._has_extra = not self._has_extra
            self.write_settings()
        elif what == "code":
            self._files.plugin("working", CODE[amount % len(CODE)])
        elif amount % 2:
            nursery.start_soon(self._reload, reloader)
        else:
            await self._reload(reloader)

    async def _publish(self, runtime: Runtime) -> None:
        number: Any = runtime.events["number"]
        outcome = await runtime.publish(number(self._published))
        if outcome.fates["working"].alive:
            self.accepted.append(self._published)
        self._published += 1

    async def _reload(self, reloader: Reloader) -> None:
        with suppress(ConfigurationError, ReloadRefusedError):
            await reloader.reload()

    def task_of(self, runtime: Runtime, plugin: str) -> object:
        """The task and the instance of a plugin that no step changes."""
        host = runtime.hosts[plugin]
        return next(
            task
            for task in runtime.nursery.child_tasks
            if task.context.get(plugin_of_task) == plugin
        ), host.plugin

    def check(self, runtime: Runtime) -> None:
        """Check what must hold at every instant."""
        for counts in runtime.statistics().values():
            fates = (
                counts.handled, counts.failed, counts.filtered, counts.dropped, counts.expired,
                counts.duplicate, counts.dead_lettered, counts.abandoned,
                counts.queued, counts.in_flight, counts.backing_off,
            )  # fmt: skip
            assert counts.accepted == sum(fates)
        seen = self._notes.seen
        assert seen == sorted(set(seen)), "an event came twice, or out of order"
        assert runtime.statistics()["working"].accepted == len(self.accepted)
        assert len(self._notes.alive) <= 2
        assert runtime.hosts["listening"].status is Status.RUNNING

    def check_end(self, runtime: Runtime) -> None:
        """Check what must hold when the program has stopped; a crash at the stop leaves events."""
        seen, abandoned = self._notes.seen, runtime.statistics()["working"].abandoned
        assert seen == self.accepted[: len(seen)]
        assert abandoned == len(self.accepted) - len(seen)
        assert self._notes.heard == list(range(self._published))
        assert self._notes.alive == []
