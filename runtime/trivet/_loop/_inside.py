"""The inside of Trio that Trivet reads: whether a task is cancelled, and when it will be.

Owns the undocumented names of Trio's; a test compares them with the installed version.
Never knows what they are read for. Nothing of it is ever changed.
"""

from __future__ import annotations

from typing import Any

import trio

TASK_NAMES = ("_cancel_status",)
"""The names in `trio.lowlevel.Task`."""
STATUS_NAMES = ("effectively_cancelled", "effective_deadline")
"""The names in what `_cancel_status` is: a property, and a method without arguments."""


def is_cancelled(task: trio.lowlevel.Task) -> bool:
    """Whether the task's next checkpoint raises `Cancelled`, or its present one does."""
    return bool(_status(task).effectively_cancelled)


def deadline_of(task: trio.lowlevel.Task) -> float:
    """The moment on Trio's clock at which the task is cancelled; infinity for none."""
    return float(_status(task).effective_deadline())


def _status(task: trio.lowlevel.Task) -> Any:
    return task._cancel_status  # pyright: ignore[reportPrivateUsage]
