"""The list of the live tasks."""

from __future__ import annotations

import math
from time import thread_time

import trio
from trio.testing import wait_all_tasks_blocked

from trivet._inbox._readers import Readers
from trivet._loop._meter import StallMeter
from trivet._loop._task_list import ALL_SHOWN, COUNTED, SHOWN, live_tasks
from trivet._loop._tasks import plugin_of_task
from trivet._loop._usage import SERVICE

LOOP_LIMIT = 0.05
"""Seconds of processor time for which the list may hold the event loop."""


async def wait_for_tea() -> None:
    """Wait as a plugin's task does."""
    await trio.sleep_forever()


async def plugin(name: str, tasks: int) -> None:
    """Be the root task of a plugin with more tasks."""
    plugin_of_task.set(name)
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(wait_for_tea, name="brewing")


async def test_tasks_are_listed_by_plugin() -> None:
    """A task stands below its plugin with its name, its depth, and the author's line."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plugin, "kitchen", 1)
        await wait_all_tasks_blocked()
        root = trio.lowlevel.current_task()
        listed = live_tasks(root, {"kitchen": __name__}, {}, 0.0)
        nursery.cancel_scope.cancel()
    assert (listed[SERVICE].count, listed["kitchen"].count) == (1, 2)
    outer, inner = listed["kitchen"].tasks
    assert (outer.depth, inner.depth) == (0, 1)
    assert inner.name == "brewing"
    assert inner.at.startswith(f"{__file__}:")
    assert inner.at.endswith(" in wait_for_tea")
    assert inner.stack[0] == inner.at
    assert any(call.endswith(" in sleep_forever") for call in inner.stack)
    assert (inner.age, inner.deadline, inner.cancelled) == (None, None, False)


async def test_a_task_that_is_about_to_end() -> None:
    """A task that is cancelled, and one that will be, say so."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plugin, "kitchen", 1)
        await wait_all_tasks_blocked()
        root = trio.lowlevel.current_task()
        nursery.cancel_scope.deadline = trio.current_time() + 1000
        _, task = live_tasks(root, {}, {}, 0.0)["kitchen"].tasks
        assert task.deadline is not None
        assert 990 < task.deadline <= 1000
        nursery.cancel_scope.cancel()
        _, task = live_tasks(root, {}, {}, 0.0)["kitchen"].tasks
        assert (task.cancelled, task.deadline) == (True, 0.0)


async def test_the_age_of_a_task() -> None:
    """The age is counted from the start of the task; that of an older one is not known."""
    meter = StallMeter(1.0)
    trio.lowlevel.add_instrument(meter)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plugin, "kitchen", 1)
            await wait_all_tasks_blocked()
            root = trio.lowlevel.current_task()
            listed = live_tasks(root, {}, meter.started, max(meter.started.values()) + 60)
            nursery.cancel_scope.cancel()
        assert [task.age is not None and task.age >= 60 for task in listed["kitchen"].tasks] == [
            True,
            True,
        ]
        assert listed[SERVICE].tasks[0].age is None
        assert not meter.started
    finally:
        trio.lowlevel.remove_instrument(meter)


async def test_many_tasks() -> None:
    """The first of many tasks are described, the others are counted, and nobody waits."""
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(plugin, f"plugin-{number}", 3000)
        await wait_all_tasks_blocked()
        root, took = trio.lowlevel.current_task(), math.inf
        listed = live_tasks(root, {}, {}, 0.0)
        for _ in range(3):  # The garbage collector may come between, with all the tests' objects.
            begun = thread_time()
            listed = live_tasks(root, {}, {}, 0.0)
            took = min(took, thread_time() - begun)
        name = next(name for name, found in listed.items() if found.count == 3001)
        only = live_tasks(root, {}, {}, 0.0, name)
        nursery.cancel_scope.cancel()
    assert took < LOOP_LIMIT
    assert sum(found.count for found in listed.values()) == COUNTED
    shown = [len(found.tasks) for found in listed.values()]
    assert sum(shown) == ALL_SHOWN
    assert max(shown) == SHOWN
    assert {name: len(each.tasks) for name, each in only.items() if each.tasks} == {name: SHOWN}
    assert only[name].count == 3001


async def test_a_task_of_trivets_own() -> None:
    """A task without a line of an author's stands at Trivet's innermost line."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Readers().park)
        await wait_all_tasks_blocked()
        *_, task = live_tasks(trio.lowlevel.current_task(), {}, {}, 0.0)[SERVICE].tasks
        nursery.cancel_scope.cancel()
    assert task.at.endswith(" in Readers.park")
