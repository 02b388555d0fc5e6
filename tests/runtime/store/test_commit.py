"""The wait of publishers for a transaction of the store."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trivet import Delivery, Event, Fate
from trivet._store._commit import Commit, Writing


class Note(Event):
    text: str = ""


def writing(commit: Commit, *plugins: str) -> Writing:
    """An event of the transaction for these plugins, as if it were stored."""
    its = Writing(1, b"", b"", [*plugins], delivery=Delivery.of(Note()), commit=commit)
    its.fates = dict.fromkeys([*plugins, "other"], Fate.QUEUED)
    commit.writings.append(its)
    return its


async def over(commit: Commit) -> None:
    """Wait for the end of a transaction."""
    await commit.over()


@pytest.mark.parametrize("is_stored", [True, False])
async def test_publishers_are_told_when_a_transaction_is_over(is_stored: bool) -> None:
    """All publishers go on then; a store that fails has rejected the event for its subscribers."""
    commit = Commit()
    its = writing(commit, "a", "b")
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(over, commit)
        await wait_all_tasks_blocked()
        assert not commit.is_over
        commit.end(is_stored=is_stored)
    fate = Fate.QUEUED if is_stored else Fate.REJECTED
    assert its.fates == {"a": fate, "b": fate, "other": Fate.QUEUED}


async def test_a_publisher_that_is_cancelled_waits_no_more() -> None:
    """The publisher goes on at once, and is not woken later out of whatever it waits for then."""
    commit, leaving, steps = Commit(), trio.CancelScope(), list[str]()

    async def publish() -> None:
        with leaving:
            await commit.over()
        steps.append("left")
        await trio.sleep_forever()
        steps.append("woken")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        leaving.cancel()
        await wait_all_tasks_blocked()
        commit.end(is_stored=True)
        await wait_all_tasks_blocked()
        assert steps == ["left"]
        nursery.cancel_scope.cancel()


async def test_a_publisher_that_comes_back_is_woken_once() -> None:
    """A publisher whose wait was cancelled may wait for the same transaction again."""
    commit, ends = Commit(), list[str]()

    async def publish() -> None:
        with trio.move_on_after(0):
            await commit.over()
        await commit.over()
        ends.append("over")
        await trio.lowlevel.checkpoint()
        ends.append("slept")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        commit.end(is_stored=True)
    assert ends == ["over", "slept"]
