"""Whose task or thread it is, and where it stands.

Owns the mark that a plugin's tasks carry, and the account of what has not ended.
Never knows hosts; a plugin is its name here.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import FrameType
from typing import cast

import trio

from .._stacks import stack_of

plugin_of_task: ContextVar[str] = ContextVar("trivet_plugin")
"""Set in a plugin's root task. Its children inherit it, and so do threads and tasks that it starts
in foreign nurseries; system tasks do not."""


def account(root: trio.lowlevel.Task, innocent: Collection[str], homes: Mapping[str, str]) -> str:
    """What has not ended: the tasks of plugins, each with its stack.

    Where a task holds the event loop now it is the only one named: the others cannot end. Where no
    plugin's task is left, a task is named that neither Trivet nor its libraries have started; where
    there is none either, the threads for which the interpreter's end waits.

    Args:
        root: the task that all others descend from.
        innocent: plugins of which something may be left.
        homes: the module in which each plugin's code is, or its package.
    """
    tasks = list(_descendants(root))
    marked = [task for task in tasks if _owner(task)]
    holding = [task for task in marked if task.coro.cr_running]
    left = [task for task in marked if _owner(task) not in innocent]
    foreign = [task for task in tasks if not _owner(task) and _is_foreign(task)]
    lines = [
        f"{_whose(task, homes)}, task {task.name}:\n{stack_of(task)}"
        for task in holding or left or foreign
    ] or [f"{whose}, thread {name!r}\n" for name, whose in _awaited_threads(homes)]
    return "\n".join(lines) or "nothing of a plugin is left: see the threads\n"


def breaker_of(error: BaseException, homes: Mapping[str, str]) -> str:
    """Whose code it was, or else whose task, with which the event loop itself has failed; or empty.

    Args:
        error: what Trio has raised.
        homes: the module in which each plugin's code is, or its package.
    """
    walks = [traceback.walk_tb(fault.__traceback__) for fault in _chain(error)]
    frames = [frame for walk in walks for frame, _ in walk]
    if author := author_of(map(_module, reversed(frames)), homes):
        return author
    for frame in frames:  # Trio's own loop has the task that it runs in a variable of this name.
        task: object = frame.f_locals.get("task")
        if isinstance(task, trio.lowlevel.Task) and _owner(task):
            return f"plugin {_owner(task)!r}"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, the oldest first."""
    for cause in (error.__cause__, error.__context__):
        if cause is not None:
            yield from _chain(cause)
            break
    if isinstance(error, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _chain(part)
    yield error


def _whose(task: trio.lowlevel.Task, homes: Mapping[str, str]) -> str:
    if owner := _owner(task):
        return f"plugin {owner!r}"
    modules = [_module(frame) for frame, _ in task.iter_await_frames()]
    return author_of(modules, homes) or "nobody's, it seems"


def _awaited_threads(homes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The main thread where it is busy with a plugin's code, else those that it waits for."""
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - documented
    main = threading.main_thread()
    others = [thread for thread in threading.enumerate() if thread is not main]
    for thread in [main, *others]:
        frame = frames.get(thread.ident or 0)
        if frame is None or thread.daemon or thread is threading.current_thread():
            continue
        calls = [_module(call) for call, _ in traceback.walk_stack(frame)]
        # Where no line of a plugin's is on the stack: what the thread was made to call.
        made_for = [getattr(thread, name, None) for name in ("_target", "function")]  # A Timer's.
        start = [getattr(item, "__module__", None) or "" for item in (*made_for, type(thread))]
        if whose := author_of([*calls, *start], homes):
            yield thread.name, whose
            if thread is main:
                return


def author_of(modules: Iterable[str], homes: Mapping[str, str]) -> str:
    """Whose the first of these modules is that is a plugin's; empty where none is.

    >>> homes = {"billing": "shop.billing", "audit": "shop", "report": "shop"}
    >>> author_of(["threading", "shop.billing.rates", "shop"], homes), author_of(["json"], homes)
    ("plugin 'billing'", '')
    >>> author_of(["shop.tables"], homes)
    "plugin 'audit' or 'report'"
    """
    for module in modules:
        around = [home for home in homes.values() if f"{module}.".startswith(f"{home}.")]
        nearest = max(around, key=len, default=None)
        if nearest is not None:
            plugins = [repr(name) for name, home in homes.items() if home == nearest]
            return f"plugin {' or '.join(plugins)}"
    return ""


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


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
