"""The inside of Trio that the list of tasks reads."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock

from trivet._loop._inside import STATUS_NAMES, TASK_NAMES, deadline_of, is_cancelled


async def test_trio_has_these_names() -> None:
    """The installed Trio has the undocumented names."""
    task = trio.lowlevel.current_task()
    assert all(hasattr(task, name) for name in TASK_NAMES)
    assert all(hasattr(getattr(task, "_cancel_status"), name) for name in STATUS_NAMES)  # noqa: B009


async def test_a_deadline(autojump_clock: MockClock) -> None:
    """The deadline of a task is that of the nearest scope around it, unless a shield is between."""
    task = trio.lowlevel.current_task()
    assert deadline_of(task) == math.inf
    with trio.move_on_after(5):  # noqa: ASYNC100 - nothing waits
        assert deadline_of(task) == trio.current_time() + 5
        with trio.CancelScope(shield=True):  # noqa: ASYNC100 - nothing waits
            assert deadline_of(task) == math.inf


async def test_a_cancelled_task() -> None:
    """A task is cancelled when a scope around it is, and its next checkpoint would raise."""
    task = trio.lowlevel.current_task()
    with trio.CancelScope() as scope:  # noqa: ASYNC100 - nothing waits
        assert not is_cancelled(task)
        scope.cancel()
        assert is_cancelled(task)
        with trio.CancelScope(shield=True):  # noqa: ASYNC100 - nothing waits
            assert not is_cancelled(task)
