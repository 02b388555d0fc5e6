"""Code of one plugin that is imported anew while a program runs."""

from __future__ import annotations

import gc
import operator
import sys
import threading
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import pytest
import trio

from trivet import ConfigurationError, ReloadRefusedError, Runtime, UnknownEventError

from .programs import COUNTING, Files, plugin


def slowly(seconds: float) -> str:
    """The plugin whose handler takes its time."""
    pause = f"await trio.sleep({seconds})"
    return COUNTING.replace("self.seen.append", f"{pause}\n        self.seen.append")


@pytest.fixture
def counting(files: Files) -> Files:
    """A program of one plugin."""
    files.plugin("counting", COUNTING)
    files.settings('active_plugins = ["counting"]')
    return files


async def test_new_code_takes_over_with_inbox_and_counters(counting: Files) -> None:
    """The class is another one, the events go on, and the versions tell the new file."""
    async with counting.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        before = plugin(runtime, "counting")
        digest = runtime.code[type(before)].sha256
        await runtime.publish(number(1), wait=True)
        counting.plugin("counting", COUNTING.replace("self.step", "1000"))
        changes = await reloader.reload_plugin("counting")
        after = plugin(runtime, "counting")
        await runtime.publish(runtime.events["number"](2), wait=True)  # type: ignore[call-arg]
        assert [(each.what, each.result) for each in changes] == [("plugins.counting", "replaced")]
        assert type(after) is not type(before)
        assert (before.seen, after.seen) == ([1], [2000])
        assert runtime.statistics()["counting"].handled == 2
        assert runtime.code[type(after)].sha256 != digest


async def test_a_reload_of_all_finds_the_files_that_differ(counting: Files) -> None:
    """A file that was written again with the same text is no other file."""
    counting.plugin("other", COUNTING.replace("Number", "Word").replace("Counting", "Other"))
    counting.settings('active_plugins = ["counting", "other"]')
    async with counting.running() as (runtime, reloader):
        other = runtime.hosts["other"]
        counting.plugin("other", COUNTING.replace("Number", "Word").replace("Counting", "Other"))
        counting.plugin("counting", COUNTING.replace("step: int = 1", "step: int = 7"))
        changes = await reloader.reload()
        assert [each.what for each in changes] == ["plugins.counting"]
        assert plugin(runtime, "counting").step == 7
        assert runtime.hosts["other"] is other
        assert await reloader.reload() == ()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("class Counting(", "counting.py:4: SyntaxError"),
        ("import nothing_of_this_name", "counting.py:4: ModuleNotFoundError"),
        (COUNTING.replace("handle_event", "handle_evnt"), "handle_event"),
        (COUNTING.replace("self.seen = []", "raise OSError('no')"), "did not start: OSError: no"),
    ],
)
async def test_the_old_code_runs_on_where_the_new_has_a_fault(
    counting: Files, text: str, fault: str
) -> None:
    """The fault is told with file and line; instance, modules and events are as before."""
    async with counting.running() as (runtime, reloader):
        host, module = runtime.hosts["counting"], sys.modules["trivet_plugins.counting"]
        counting.plugin("counting", text)
        with pytest.raises((ConfigurationError, ReloadRefusedError), match=fault):
            await reloader.reload_plugin("counting")
        assert runtime.hosts["counting"] is host
        assert sys.modules["trivet_plugins.counting"] is module
        await runtime.publish(runtime.events["number"](3), wait=True)  # type: ignore[call-arg]
        assert plugin(runtime, "counting").seen == [3]


async def test_files_that_import_from_it_are_imported_anew_too(files: Files) -> None:
    """A helper has changed: the plugins that import it are replaced, and no other."""
    files.plugin("helper", "WORD = 'old'")
    files.plugin(
        "using",
        """
        from .helper import WORD

        class Using(BackgroundPlugin):
            word = WORD
        """,
    )
    files.plugin("alone", "class Alone(BackgroundPlugin):\n    pass")
    files.settings('active_plugins = ["using", "alone"]')
    async with files.running() as (runtime, reloader):
        alone = runtime.hosts["alone"]
        files.plugin("helper", "WORD = 'new'")
        await reloader.reload()
        assert plugin(runtime, "using").word == "new"
        assert runtime.hosts["alone"] is alone
        files.plugin("helper", "WORD = 'newer'")
        await reloader.reload_plugin("using")
        assert plugin(runtime, "using").word == "newer"


async def test_events_that_wait_are_carried_into_the_new_class(counting: Files) -> None:
    """Queued events are of the new class when they are handled, and in their order."""
    counting.plugin("counting", slowly(0.01))
    async with counting.running() as (runtime, reloader):
        old: Any = runtime.events["number"]
        before = plugin(runtime, "counting")
        for value in range(20):
            await runtime.publish(old(value))
        kept = COUNTING.replace("event.value * self.step", "event")
        counting.plugin("counting", kept)
        await reloader.reload_plugin("counting")
        new = runtime.events["number"]
        await runtime.publish(old(20), wait=True)  # A publisher that has not noticed.
        after = plugin(runtime, "counting")
        assert new is not old
        assert {type(event) for event in after.seen} == {new}
        assert before.seen + [event.value for event in after.seen] == list(range(21))


async def test_other_fields_are_refused_while_events_wait_that_do_not_fit(
    counting: Files,
) -> None:
    """The refusal names the event and the field; without such an event the class is taken."""
    counting.plugin("counting", slowly(1))
    other = COUNTING.replace("value: int", "value: int\n    unit: str")
    async with counting.running() as (runtime, reloader):
        old: Any = runtime.events["number"]
        await runtime.publish(old(1))
        await runtime.publish(old(2))
        counting.plugin("counting", other)
        with pytest.raises(ReloadRefusedError, match=r"waits for 'counting', does not fit.*unit"):
            await reloader.reload_plugin("counting")
        await runtime.publish(old(3), wait=True)
        await reloader.reload_plugin("counting")
        with pytest.raises(UnknownEventError, match="unit"):
            await runtime.publish(old(4))
        new: Any = runtime.events["number"]
        await runtime.publish(new(5, unit="m"), wait=True)
        assert plugin(runtime, "counting").seen == [5]


async def test_other_fields_are_refused_while_stored_events_do_not_fit(counting: Files) -> None:
    """The store has events of the old form, which the new class could not read."""
    counting.plugin("counting", slowly(1))
    counting.settings('active_plugins = ["counting"]\n[plugins.counting.delivery]\ndurable = true')
    async with counting.running() as (runtime, reloader):
        old: Any = runtime.events["number"]
        for value in range(600):
            await runtime.publish(old(value))
        counting.plugin("counting", slowly(1).replace("value: int", "value: int\n    unit: str"))
        with pytest.raises(ReloadRefusedError, match=r"'number'|does not fit"):
            await reloader.reload_plugin("counting")
        assert runtime.events["number"] is old
        runtime.hurry()


async def test_a_neighbour_that_listens_to_other_fields_is_named(counting: Files) -> None:
    """A plugin that did not change and listens to the type keeps a class that would not fit it."""
    counting.plugin(
        "listening",
        """
        class Listening(EventPlugin[Event]):
            async def handle_event(self, event: Event) -> None:
                pass
        """,
    )
    counting.settings('active_plugins = ["counting", "listening"]')
    async with counting.running() as (_, reloader):
        counting.plugin("counting", COUNTING.replace("value: int", "value: int\n    unit: str"))
        with pytest.raises(ReloadRefusedError, match="'listening' listens to it"):
            await reloader.reload_plugin("counting")


async def test_a_new_requirement_needs_a_restart(counting: Files, tmp_path: Path) -> None:
    """A library that was not imported before is refused before any code runs."""
    (tmp_path / "brand_new_library.py").write_text("raise AssertionError")
    sys.path.append(str(tmp_path))
    try:
        async with counting.running() as (runtime, reloader):
            counting.plugin("counting", "import brand_new_library\n" + COUNTING)
            with pytest.raises(ConfigurationError, match=r"'brand_new_library' is.*restart"):
                await reloader.reload_plugin("counting")
            counting.plugin("helper", "import brand_new_library")
            counting.plugin("counting", "from . import helper\n" + COUNTING)
            with pytest.raises(
                ConfigurationError, match=r"helper.py: 'brand_new_library'.*restart"
            ):
                await reloader.reload_plugin("counting")
            assert runtime.hosts["counting"].is_up
    finally:
        sys.path.remove(str(tmp_path))


async def test_a_plugin_that_did_not_change_misses_no_beat(counting: Files) -> None:
    """Its task is the same one after a hundred reloads of another, and its sequence has no gap."""
    counting.plugin(
        "beating",
        """
        class Beat(Event):
            number: int

        class Beating(BackgroundPlugin):
            async def run(self) -> None:
                number = 0
                while True:
                    await self.app.publish(Beat(number))
                    number += 1
                    await trio.sleep(0.001)

        class Hearing(EventPlugin[Beat]):
            async def initialize(self) -> None:
                self.heard = []

            async def handle_event(self, event: Beat) -> None:
                self.heard.append(event.number)
        """,
    )
    counting.settings('active_plugins = ["counting", "beating"]')
    async with counting.running() as (runtime, reloader):
        hosts = runtime.hosts["beating"], runtime.hosts["hearing"]
        tasks = [task for task in runtime.nursery.child_tasks if "supervise" in task.name]
        reached: list[int] = []
        for _ in range(100):
            await reloader.reload_plugin("counting")
            reached.append(len(plugin(runtime, "hearing").heard))
        heard = plugin(runtime, "hearing").heard
        assert (runtime.hosts["beating"], runtime.hosts["hearing"]) == hosts
        assert len(runtime.nursery.child_tasks & set(tasks)) == 2
        assert heard == list(range(len(heard)))
        assert reached[-1] > reached[0]
        assert runtime.hosts["counting"].restarts == 0


async def test_a_hundred_reloads_leave_nothing_behind(counting: Files) -> None:
    """Modules, threads, descriptors and tasks are as many as after the tenth; old code is freed.

    An event class may stay in the cache of `typing`, which has 128 places.
    """
    async with counting.running() as (runtime, reloader):
        old: list[weakref.ref[object]] = []
        after_ten = (0, 0, 0, 0)
        for reload in range(100):
            number: Any = runtime.events["number"]
            await runtime.publish(number(reload), wait=True)
            kind: type[object] = plugin(runtime, "counting").__class__
            old.append(weakref.ref(kind))
            old.append(weakref.ref(sys.modules[kind.__module__]))
            del kind
            await reloader.reload_plugin("counting")
            if reload == 9:
                after_ten = counts(runtime)
        # A thread of Trio's may hold the last reload, or a file of it, for a moment.
        with trio.move_on_after(30):
            while not all(map(operator.le, counts(runtime), after_ten)):
                await trio.sleep(0.02)
        assert [*map(max, counts(runtime), after_ten)] == [*after_ten]
        with trio.fail_after(30):
            while len([each for each in old if each() is not None]) > 2:
                gc.collect()
                await trio.sleep(0.02)


async def test_a_hundred_reloads_need_no_more_memory(files: Files) -> None:
    """The bytes after a hundred reloads are those after the tenth, but for fewer than one module
    has: no generation of the code is left."""
    ballast = 4 << 20
    counting = COUNTING + f"\n\nBALLAST = b'x' * {ballast}\n"
    files.plugin("counting", counting)
    files.settings('active_plugins = ["counting"]')
    async with files.running() as (_, reloader):
        tracemalloc.start()
        try:
            before = 0
            for reload in range(100):
                await reloader.reload_plugin("counting")
                if reload == 9:
                    before = await settled_bytes(ballast)
            assert await settled_bytes(ballast) - before < ballast // 2
        finally:
            tracemalloc.stop()


async def settled_bytes(ballast: int) -> int:
    """The bytes that are traced when nothing more is freed."""
    least, rounds = 1 << 62, 0
    while rounds < 5:  # A thread of Trio's may hold the last reload for a moment.
        gc.collect()
        now = tracemalloc.get_traced_memory()[0]
        rounds = 0 if now < least - ballast // 4 else rounds + 1
        least = min(least, now)
        await trio.sleep(0.02)
    return least


def counts(runtime: Runtime) -> tuple[int, int, int, int]:
    """The number of modules, threads, descriptors and tasks."""
    ours = [name for name in sys.modules if name.startswith("trivet_plugins")]
    tasks, descriptors = len(runtime.nursery.child_tasks), len([*Path("/proc/self/fd").iterdir()])
    return len(ours), threading.active_count(), descriptors, tasks
