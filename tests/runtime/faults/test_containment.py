"""The way of an exception through nurseries, and whose Ctrl-C it is."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trivet import CriticalPluginError
from trivet._faults._containment import (
    open_transparent_nursery,
    split_failure,
    transparent,
    unwrapped,
)


async def fail(error: BaseException) -> None:
    """A task that fails."""
    raise error


async def fail_when_cancelled(error: BaseException) -> None:
    """A task that fails while it is cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyboardInterrupt(),
        ExceptionGroup("the author's own", [ValueError()]),
    ],
)
async def test_the_blocks_exception_comes_out_as_it_is(error: BaseException) -> None:
    """The very object is raised, a group too, and its context is not changed."""
    with pytest.raises(type(error)) as raised:  # noqa: PT012
        async with open_transparent_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error
    assert raised.value is error
    assert error.__context__ is None
    assert error.__cause__ is None


async def test_the_end_of_the_block_cancels_its_tasks(autojump_clock: trio.abc.Clock) -> None:
    """A block that ends well does not wait for its tasks."""
    ended: list[bool] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async with open_transparent_nursery() as nursery:
        nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()
    assert ended == [True]


async def test_a_tasks_exception_comes_out_alone() -> None:
    """The error cancels the block, whose cancellation ends with the nursery."""
    error = OSError("away")
    with pytest.raises(OSError, match="away") as raised:  # noqa: PT012
        async with open_transparent_nursery() as nursery:
            nursery.start_soon(fail, error)
            await trio.sleep_forever()
    assert raised.value is error


async def test_neither_of_two_exceptions_is_lost() -> None:
    """If the block and a task fail, a group has both errors."""
    with pytest.RaisesGroup(ValueError, OSError):
        async with open_transparent_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled, OSError())
            await trio.testing.wait_all_tasks_blocked()
            raise ValueError


async def test_a_task_ends_the_block() -> None:
    """A task that cancels the nursery ends the block, and nothing is raised."""

    async def end(scope: trio.CancelScope) -> None:
        scope.cancel()

    async with open_transparent_nursery() as nursery:
        nursery.start_soon(end, nursery.cancel_scope)
        await trio.sleep_forever()


async def test_a_cancellation_from_outside_goes_on() -> None:
    """The scope around the nursery catches it."""
    with trio.CancelScope() as scope:
        async with open_transparent_nursery():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_fault_beside_a_cancellation_goes_on_with_it() -> None:
    """The scope catches the cancellation, and the fault comes out."""
    error = ValueError()
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        with trio.CancelScope() as scope:
            async with open_transparent_nursery():
                scope.cancel()
                async with trio.open_nursery() as inner:
                    inner.start_soon(fail, error)
                    await trio.sleep_forever()


async def test_a_manager_with_a_nursery_inside() -> None:
    """A manager sees a block that ended well, and the block's exception comes out as it is."""
    error = ValueError()
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the very object is compared below
        async with transparent(trio.open_nursery()):
            raise error
    assert raised.value is error


def test_several_errors_of_trivet_are_one() -> None:
    """The first one is raised, and a note of it names the other."""
    group = BaseExceptionGroup("", [CriticalPluginError("a"), CriticalPluginError("b")])
    with pytest.raises(CriticalPluginError, match="a") as raised, unwrapped():
        raise group
    assert raised.value.__notes__ == ["and: b"]


def test_groups_of_other_errors_stay() -> None:
    """None of two errors is left out."""
    group = ExceptionGroup("", [ValueError(), OSError()])
    with pytest.RaisesGroup(ValueError, OSError) as raised, unwrapped():
        raise group
    assert raised.value is group


async def test_an_operators_interrupt_goes_on() -> None:
    """Ctrl-C is raised alone, out of a group too, which is its cause."""
    interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as raised:
        split_failure(interrupt, contains_interrupts=False)
    assert raised.value is interrupt
    group = BaseExceptionGroup("", [ValueError(), interrupt])
    with pytest.raises(KeyboardInterrupt) as raised:
        split_failure(group, contains_interrupts=False)
    assert raised.value.__cause__ is group


async def test_a_plugins_own_interrupt_is_a_fault() -> None:
    """Behind a receiver of signals, a KeyboardInterrupt is a fault like any other."""
    group = BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()])
    assert split_failure(group, contains_interrupts=True) == (None, group)
