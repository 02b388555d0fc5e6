"""How far all events of a durable inbox have ended."""

from __future__ import annotations

import random

from trivet._delivery import _progress
from trivet._delivery._progress import Progress


def test_the_cursor_is_below_the_first_that_is_open() -> None:
    """The cursor passes what has ended, up to the first event that has not."""
    progress = Progress()
    assert progress.cursor == 0
    for number in (5, 7, 8, 9):
        progress.begin(number)
    assert progress.cursor == 4
    progress.end(8)
    progress.end(5)
    assert progress.cursor == 6
    progress.end(7)
    assert progress.cursor == 8
    progress.end(9)
    assert progress.cursor == 9


def test_what_was_read_only_is_passed() -> None:
    """An event that ended as it was read holds nothing up."""
    progress = Progress()
    progress.passed(5)
    assert progress.cursor == progress.last == 5
    progress.begin(3)
    assert (progress.cursor, progress.last) == (2, 5)


def test_any_order() -> None:
    """However numbers come and go, the cursor is below all that are open, and above the rest."""
    dice = random.Random(1)
    progress, still_open = Progress(), set[int]()
    for number in dice.sample(range(1, 2000), 1000):
        progress.begin(number)
        still_open.add(number)
        if dice.random() < 0.9:
            ended = dice.choice(sorted(still_open))
            progress.end(ended)
            still_open.discard(ended)
        assert progress.cursor == min(still_open, default=progress.last + 1) - 1


def test_many_ends_behind_one_that_is_open_take_no_memory() -> None:
    """The numbers of ended events are forgotten although an earlier one is open."""
    progress = Progress()
    for number in range(1, 50_000):
        progress.begin(number)
        if number > 1:
            progress.end(number)
        if number % 100 == 0:
            assert progress.cursor == 0
            assert len(vars(progress)["_heap"]) <= _progress.ENDED_AT_MOST + 102
