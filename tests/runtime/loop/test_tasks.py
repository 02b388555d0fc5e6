"""The name in the report of an error that no plugin's task has raised."""

from __future__ import annotations

import trio

from trivet._loop._tasks import breaker_of, plugin_of_task


def run(task: trio.lowlevel.Task | None) -> BaseException:
    """The error of a loop that fails while it runs this task."""
    try:
        fail(task)
    except trio.TrioInternalError as error:
        return error
    raise AssertionError("it has failed")


def fail(task: trio.lowlevel.Task | None) -> None:
    """Raise as Trio does, with the task in a variable."""
    raise trio.TrioInternalError(f"internal error after {task}") from AssertionError()


async def test_the_plugin_of_the_task_is_named() -> None:
    """The plugin of the task is named where no plugin's line is in the traceback."""
    task = trio.lowlevel.current_task()
    assert breaker_of(run(task), {}) == ""
    plugin_of_task.set("billing")
    assert breaker_of(run(task), {"audit": "audit"}) == "plugin 'billing'"
    assert breaker_of(run(None), {"audit": "audit"}) == ""


async def test_the_plugin_of_the_code_is_named() -> None:
    """The plugin whose code is in the traceback is named before the task's."""
    plugin_of_task.set("billing")
    task = trio.lowlevel.current_task()
    assert breaker_of(run(task), {"audit": __name__}) == "plugin 'audit'"


async def test_a_fault_in_a_group_is_found() -> None:
    """A fault within a nursery's exception group is found."""
    error = BaseExceptionGroup("nursery", [ValueError(), run(None)])
    assert breaker_of(error, {"audit": __name__}) == "plugin 'audit'"
