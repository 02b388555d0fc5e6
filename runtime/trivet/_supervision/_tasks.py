"""Whose task it is, and where it stands.

Owns the mark that a plugin's tasks carry, and the account of what has not ended.
Never knows hosts; a plugin is its name here.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator
from contextvars import ContextVar

import trio

plugin_of_task: ContextVar[str] = ContextVar("trivet_plugin")
"""Set in a plugin's root task. Its children inherit it, and so do threads and tasks that it starts
in foreign nurseries; system tasks do not."""


def stack_of(task: trio.lowlevel.Task) -> str:
    """The stack of a task that waits, outermost call first, in a traceback's form."""
    frames = [(frame, line) for frame, line in task.iter_await_frames()]
    return "".join(traceback.StackSummary.extract(iter(frames)).format())


def account(root: trio.lowlevel.Task, innocent: Collection[str]) -> str:
    """What has not ended: the tasks of plugins, each with its stack.

    Where a task holds the event loop now it is the only one named: the others cannot end. Where no
    plugin's task is left, a task is named that neither Trivet nor its libraries have started.
    """
    tasks = list(_descendants(root))
    marked = [task for task in tasks if _owner(task)]
    holding = [task for task in marked if task.coro.cr_running]
    left = [task for task in marked if _owner(task) not in innocent]
    foreign = [task for task in tasks if not _owner(task) and _is_foreign(task)]
    lines = [
        f"{_whose(task)}, task {task.name}:\n{stack_of(task)}"
        for task in holding or left or foreign
    ]
    return "\n".join(lines) or "nothing of a plugin is left: see the threads\n"


def _whose(task: trio.lowlevel.Task) -> str:
    return f"plugin {_owner(task)!r}" if _owner(task) else "nobody's, it seems"


def _is_foreign(task: trio.lowlevel.Task) -> bool:
    package = task.name.partition(".")[0]
    return package not in ("<init>", "<TrioToken", "trio", "trivet", "hypercorn")


def _descendants(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in list(task.child_nurseries):
        for child in list(nursery.child_tasks):
            yield from _descendants(child)


def _owner(task: trio.lowlevel.Task) -> str:
    return task.context.get(plugin_of_task, "")
