"""The live tasks of a program, by plugin, each with the place at which it waits.

Owns the walk through the tasks, and what is said of one.
Never knows hosts; a plugin is its name here. No file is read, and nothing of a plugin's is called.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

import attrs
import trio

from .._faults._frames import Authors, Line
from .._faults._masking import mask_beginning
from .._faults._stacks import CALLS_SHOWN, calls_of
from ._inside import deadline_of, is_cancelled
from ._tasks import name_of, owner_of
from ._usage import SERVICE

SHOWN = 100
"""Tasks of one plugin that are described; the others are counted."""
ALL_SHOWN = 500
"""Tasks that are described."""
COUNTED = 20_000
"""Tasks that are looked at. All this together holds the event loop for less than 50 ms."""
LONGEST_NAME = 200
"""Characters of a task's name that are shown."""


@attrs.frozen(kw_only=True)
class LiveTask:
    """One task, as it stands."""

    name: str
    """The name that Trio, or its author, has given it: by default its function."""
    depth: int
    """The number of tasks around it that are the same plugin's; in a list, those come before it."""
    age: float | None
    """Seconds since it was started; None for one that is older than the measurement."""
    at: str
    """The plugin's innermost line that it stands at, `file:line in function`; else the innermost
    of Trivet's, or of any."""
    cancelled: bool
    """Whether a cancellation has reached it, so that it is about to end."""
    deadline: float | None
    """Seconds after which it will be cancelled; None for no limit."""
    stack: list[str]
    """The innermost calls, outermost first, each in the form of `at`."""


@attrs.frozen(kw_only=True)
class LiveTasks:
    """The tasks of one plugin, or of the service itself."""

    count: int
    """All of them."""
    tasks: list[LiveTask]
    """The first of them, each followed by the tasks within it."""


def live_tasks(
    root: trio.lowlevel.Task,
    homes: Mapping[str, str],
    started: Mapping[trio.lowlevel.Task, float],
    now: float,
    only: str | None = None,
) -> dict[str, LiveTasks]:
    """The tasks by plugin; those of no plugin are the service's own.

    Args:
        root: the task that all others descend from.
        homes: the module, or the package, of each plugin's code.
        started: the moments at which tasks were started, on the clock of `now`.
        now: the moment.
        only: the only plugin whose tasks are described; the others are counted.
    """
    counts: Counter[str] = Counter()
    shown: dict[str, list[LiveTask]] = {}
    left = ALL_SHOWN
    for task, depth in islice(_descendants(root), COUNTED):
        plugin = owner_of(task) or SERVICE
        counts[plugin] += 1
        if counts[plugin] <= SHOWN and only in (None, plugin) and left:
            left -= 1
            began = started.get(task)
            age = None if began is None else now - began
            shown.setdefault(plugin, []).append(_described(task, depth, age, homes.get(plugin, "")))
    return {
        plugin: LiveTasks(count=count, tasks=shown.get(plugin, []))
        for plugin, count in counts.items()
    }


def _descendants(root: trio.lowlevel.Task) -> Iterator[tuple[trio.lowlevel.Task, int]]:
    """Every task with its depth within its plugin, each before the tasks within it."""
    ahead = [(root, 0)]
    while ahead:
        task, depth = ahead.pop()
        yield task, depth
        plugin = owner_of(task)
        for nursery in list(task.child_nurseries):
            children = list(nursery.child_tasks)
            ahead += ((each, depth + 1 if owner_of(each) == plugin else 0) for each in children)


def _described(task: trio.lowlevel.Task, depth: int, age: float | None, home: str) -> LiveTask:
    calls: list[Line] = [*calls_of(task)]
    left = deadline_of(task) - trio.current_time()
    return LiveTask(
        name=mask_beginning(name_of(task), LONGEST_NAME),
        depth=depth,
        age=None if age is None else round(age, 3),
        at=_place(Authors(home).nearest(calls)),
        cancelled=is_cancelled(task),
        deadline=None if left == math.inf else round(max(0.0, left), 3),
        stack=[_place(call) for call in calls[-CALLS_SHOWN:]],
    )


def _place(line: Line | None) -> str:
    if line is None:
        return ""
    code = line[0].f_code
    return f"{code.co_filename}:{line[1]} in {code.co_qualname}"
