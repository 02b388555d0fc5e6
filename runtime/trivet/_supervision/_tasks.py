"""Where a task stands: its stack, as text.

Owns the walk through a task's await frames.
Never knows whose task it is.
"""

from __future__ import annotations

import traceback

import trio


def stack_of(task: trio.lowlevel.Task) -> str:
    """The stack of a task that waits, outermost call first, in a traceback's form."""
    frames = [(frame, line) for frame, line in task.iter_await_frames()]
    return "".join(traceback.StackSummary.extract(iter(frames)).format())
