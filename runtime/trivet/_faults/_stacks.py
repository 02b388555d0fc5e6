"""The stack of a task that waits.

Owns the walk along the awaited objects, through Trio's code and on through asyncio's.
Never knows the task's plugin.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import asyncio

TASK = "asyncio_task"
"""The local variable by which code on Trio's side waits for a task of asyncio's."""
CORO = "asyncio_coro"
"""The local variable of code that runs a coroutine step by step."""
CALLS_SHOWN = 32
"""The innermost calls of a stack, which are shown where nothing may take long."""


def stack_of(task: trio.lowlevel.Task) -> str:
    """The stack of a task that waits, outermost call first, in a traceback's form.

    If the task waits for a task of asyncio's, the stack of that task follows.
    """
    return _formatted(calls_of(task))


def asyncio_stack_of(task: asyncio.Task[object]) -> str:
    """The stack of a task of asyncio's, in the same form."""
    return _formatted(_await_frames(task.get_coro()))


def places_of(task: trio.lowlevel.Task) -> str:
    """The innermost calls of a task's stack, in the form of `places`."""
    return places(calls_of(task))


def places(calls: Iterable[tuple[FrameType, int]]) -> str:
    """The last of these calls, each with its file, line number and function.

    The text of the lines is left out, so that no file is read: nothing waits for a disk, and a
    thread that spins costs as little time as possible.
    """
    return "".join(
        f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n'
        for frame, line in deque(calls, maxlen=CALLS_SHOWN)
    )


def _formatted(frames: Iterator[tuple[FrameType, int]]) -> str:
    return "".join(traceback.StackSummary.extract(frames).format())


def calls_of(task: trio.lowlevel.Task) -> Iterator[tuple[FrameType, int]]:
    """The calls of a task that waits, each with its line, the outermost first."""
    waits_for: asyncio.Task[object] | None = None
    for frame, line in task.iter_await_frames():
        yield frame, line
        waits_for = frame.f_locals.get(TASK, waits_for)
    if waits_for is not None:
        yield from _await_frames(waits_for.get_coro())


def _await_frames(awaited: object) -> Iterator[tuple[FrameType, int]]:
    """The frames of a coroutine and of the objects that it awaits; a future has none."""
    while awaited is not None:
        frame = _first(awaited, "cr_frame", "gi_frame", "ag_frame")
        run: object = None
        if isinstance(frame, FrameType):
            yield frame, frame.f_lineno
            run = frame.f_locals.get(CORO)
        awaited = run or _first(awaited, "cr_await", "gi_yieldfrom", "ag_await")


def _first(owner: object, *names: str) -> object:
    return next((found for name in names if (found := getattr(owner, name, None))), None)
