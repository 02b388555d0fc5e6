"""Tasks and threads, by plugin, and where each stands.

Owns the mark that a plugin's tasks carry, and the description of tasks that have not ended.
Never knows hosts; a plugin is its name here.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from itertools import islice
from types import FrameType
from typing import cast

import trio

from .._faults._stacks import places, places_of

plugin_of_task: ContextVar[str] = ContextVar("trivet_plugin")
"""The plugin's name, set in its root task. Children of the task inherit it, and so do threads and
tasks that it starts in foreign nurseries; system tasks do not."""
STACKS_SHOWN = 24
"""Tasks, and threads, whose stacks are shown; the others are counted."""
OWN_THREADS = "trivet "
"""The beginning of the names of Trivet's own threads."""
TASKS_SEARCHED = 100_000
"""Tasks that are examined, which takes less than a tenth of a second."""


def describe_unfinished(
    root: trio.lowlevel.Task, innocent: Collection[str], homes: Mapping[str, str]
) -> Iterator[str]:
    """Describe what has not ended, part by part: the names, then some of the tasks' stacks.

    If a task holds the event loop now, only that task is named: the others cannot end. If no
    plugin's task is left, tasks are named that neither Trivet nor its libraries have started; if
    there are none either, the threads for which the interpreter's end waits.

    Nothing in here reads a file, recurses, or calls an object of a plugin: the process has to end
    whatever state it is in.

    Args:
        root: the task that all others descend from.
        innocent: plugins whose tasks are not to blame.
        homes: the module, or the package, of each plugin's code.
    """
    tasks = list(islice(descendants(root), TASKS_SEARCHED))
    marked = [task for task in tasks if owner_of(task)]
    holding = [task for task in marked if task.coro.cr_running]
    left = holding or [task for task in marked if owner_of(task) not in innocent]
    if left:
        yield from _names(Counter(f"plugin {owner_of(task)!r}" for task in left))
        told = [(f"plugin {owner_of(task)!r}", task) for task in left[:STACKS_SHOWN]]
    else:
        foreign = [task for task in tasks if not owner_of(task) and _is_foreign(task)]
        told = [(_author_of_task(task, homes), task) for task in foreign[:STACKS_SHOWN]]
        yield from _names(Counter(whose for whose, _ in told))
    for whose, task in told:
        yield f"\n{whose}, task {name_of(task)}:\n{places_of(task)}"
    if not told:
        threads = list(_awaited_threads(homes))
        yield from (f"{whose}, thread {_text(name)!r}\n" for name, whose in threads)
        if not threads:
            yield "nothing of a plugin is left: see the threads\n"


def describe_threads() -> Iterator[str]:
    """Describe where the threads stand, without Trivet's own; the main thread comes first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - documented
    main = threading.main_thread().ident
    for ident in islice(sorted(frames, key=lambda ident: ident != main), STACKS_SHOWN):
        name = _text(names.get(ident, "that is ending"))
        if not name.startswith(OWN_THREADS):
            calls = list(traceback.walk_stack(frames[ident]))[::-1]
            yield f"\nthread {name!r}:\n{places(calls)}"


def _names(counts: Mapping[str, int]) -> Iterator[str]:
    for whose, count in counts.items():
        yield f"{whose}: {count} {'task has' if count == 1 else 'tasks have'} not ended\n"


def breaker_of(error: BaseException, homes: Mapping[str, str]) -> str:
    """The plugin whose code, or else whose task, broke the event loop itself; empty if unknown.

    Args:
        error: the error that Trio has raised.
        homes: the module, or the package, of each plugin's code.
    """
    walks = [traceback.walk_tb(fault.__traceback__) for fault in _chain(error)]
    frames = [frame for walk in walks for frame, _ in walk]
    if author := author_of(map(_module, reversed(frames)), homes):
        return author
    for frame in frames:  # A variable of this name in Trio's loop is the task that it runs.
        task: object = frame.f_locals.get("task")
        if isinstance(task, trio.lowlevel.Task) and owner_of(task):
            return f"plugin {owner_of(task)!r}"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, the oldest first."""
    found: list[BaseException] = []
    ahead = [error]
    while ahead and len(found) < TASKS_SEARCHED:
        error = ahead.pop()
        found.append(error)
        if cause := error.__cause__ or error.__context__:
            ahead.append(cause)
        if isinstance(error, BaseExceptionGroup):
            ahead += cast("BaseExceptionGroup[BaseException]", error).exceptions
    return reversed(found)


def _author_of_task(task: trio.lowlevel.Task, homes: Mapping[str, str]) -> str:
    modules = [_module(frame) for frame, _ in task.iter_await_frames()]
    return author_of(modules, homes) or "nobody's, it seems"


def _awaited_threads(homes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The main thread if it runs a plugin's code, else the threads that it waits for."""
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - documented
    main = threading.main_thread()
    others = [thread for thread in threading.enumerate() if thread is not main]
    for thread in [main, *others]:
        frame = frames.get(thread.ident or 0)
        if frame is None or thread.daemon or thread is threading.current_thread():
            continue
        calls = [_module(call) for call, _ in traceback.walk_stack(frame)]
        # If no line of a plugin's is on the stack, the function that the thread was made for.
        made_for = [getattr(thread, name, None) for name in ("_target", "function")]  # A Timer's.
        start = [getattr(item, "__module__", None) or "" for item in (*made_for, type(thread))]
        if whose := author_of([*calls, *start], homes):
            yield thread.name, whose
            if thread is main:
                return


def author_of(modules: Iterable[str], homes: Mapping[str, str]) -> str:
    """The plugin, or plugins, of the first module that is a plugin's; empty if there is none.

    >>> homes = {"billing": "shop.billing", "audit": "shop", "report": "shop"}
    >>> author_of(["threading", "shop.billing.rates", "shop"], homes), author_of(["json"], homes)
    ("plugin 'billing'", '')
    >>> author_of(["shop.tables"], homes)
    "plugin 'audit' or 'report'"
    """
    plugins = plugins_of(modules, homes)
    return f"plugin {' or '.join(map(repr, plugins))}" if plugins else ""


def plugins_of(modules: Iterable[str], homes: Mapping[str, str]) -> list[str]:
    """The names of the plugins whose home has the first module that is a plugin's."""
    for module in modules:
        around = [home for home in homes.values() if f"{module}.".startswith(f"{home}.")]
        nearest = max(around, key=len, default=None)
        if nearest is not None:
            return [name for name, home in homes.items() if home == nearest]
    return []


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_foreign(task: trio.lowlevel.Task) -> bool:
    package = name_of(task).partition(".")[0]
    return package not in ("<init>", "<TrioToken", "trio", "trivet", "hypercorn")


def name_of(task: trio.lowlevel.Task) -> str:
    """The name of a task; calls no code of a plugin."""
    return _text(task.name)


def _text(name: object) -> str:
    """A name that a plugin may have given, as a plain string; calls no code of the plugin."""
    kind = type(name)
    return str.__str__(cast("str", name)) if issubclass(kind, str) else f"<{kind.__name__}>"


def descendants(root: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """The task and all that descend from it."""
    ahead = [root]
    while ahead:
        task = ahead.pop()
        yield task
        for nursery in list(task.child_nurseries):
            ahead += nursery.child_tasks


def owner_of(task: trio.lowlevel.Task) -> str:
    """The name of the plugin whose task it is; empty if it is no plugin's."""
    return task.context.get(plugin_of_task, "")
