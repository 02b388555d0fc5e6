"""Whether an event whose handler failed is tried again, and when."""

from __future__ import annotations

from typing import Any

import pytest

from trivet import PermanentError, RetryAfter
from trivet._delivery._retries import next_wait
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._events._history import FIRST, REMEMBERED, History
from trivet._faults._containment import one_line

POLICY = DeliveryPolicy(retry=True)


def after(attempts: int, *, took: float = 0.0) -> History:
    """The history after some failed attempts, which took `took` seconds each."""
    history = FIRST
    for attempt in range(attempts):
        history = history.failed("no answer", at=float(attempt), took=took)
    return history


def longest(least: float, most: float) -> float:
    """The longest wait that may be drawn."""
    assert least == 0.0
    return most


@pytest.mark.parametrize(
    ("attempts", "wait"), [(1, 5.0), (2, 7.5), (3, 11.25), (5, 25.3125), (6, 30.0), (90, 30.0)]
)
def test_waits_grow_up_to_a_limit(attempts: int, wait: float) -> None:
    """5 s, half as much again each time, and 30 s at most; the wait is drawn below that."""
    assert next_wait(POLICY, after(attempts), OSError(), longest) == wait


def test_the_wait_is_drawn() -> None:
    """Full jitter: anything from zero to the limit."""
    waits = {next_wait(POLICY, after(1), OSError()) for _ in range(50)}
    assert len(waits) > 40
    assert all(wait is not None and 0 <= wait <= 5 for wait in waits)


def test_the_time_is_limited() -> None:
    """An event is given up after more than 300 s of attempts and waits."""
    history = after(1).waited(290)
    assert next_wait(POLICY, history, OSError(), longest) == 5.0
    assert next_wait(POLICY, history.waited(6), OSError(), longest) is None
    assert next_wait(POLICY, after(2, took=150), OSError(), longest) is None


def test_no_limit_of_the_time() -> None:
    """With a `retry_for` of zero an event is tried for ever."""
    policy = DeliveryPolicy(retry=True, retry_for=0)
    assert next_wait(policy, after(1000, took=100), OSError(), longest) == 30.0


def test_the_attempts_can_be_limited() -> None:
    """After `max_attempts` attempts there is no other."""
    policy = DeliveryPolicy(retry=True, max_attempts=2)
    assert next_wait(policy, after(1), OSError()) is not None
    assert next_wait(policy, after(2), OSError()) is None


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("no such bucket"),
        ExceptionGroup("", [ValueError(), ExceptionGroup("", [PermanentError()])]),
    ],
)
def test_a_permanent_error_is_not_tried_again(error: Exception) -> None:
    """A permanent error is not tried again, alone or in a group."""
    assert next_wait(POLICY, after(1), error) is None


def test_nothing_is_tried_again_without_retries() -> None:
    """An event in memory is tried again only if its policy has retries."""
    assert next_wait(DeliveryPolicy(), after(1), OSError()) is None


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (RetryAfter(60), 60.0),
        (RetryAfter(1), 5.0),
        (ExceptionGroup("", [RetryAfter(40), RetryAfter(50)]), 50.0),
    ],
)
def test_a_wait_that_was_asked_for_is_kept(error: Exception, wait: float) -> None:
    """The longest requested wait counts, and shortens no wait that was due anyway."""
    assert next_wait(POLICY, after(1), error, longest) == wait


def test_a_wait_beyond_the_limit_is_not_begun() -> None:
    """An event is given up if the requested wait is longer than the time that it has left."""
    assert next_wait(POLICY, after(1), RetryAfter(600)) is None


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_wait_is_not_negative(seconds: float) -> None:
    """A `RetryAfter` refuses seconds that are negative or no number."""
    with pytest.raises(ValueError, match="negative"):
        RetryAfter(seconds)


def test_retry_after_says_why() -> None:
    """The text of a `RetryAfter` begins with its reason."""
    assert str(RetryAfter(3, "429")) == "429; try again after 3 s"


def test_a_history_remembers_the_latest_failures() -> None:
    """A history counts all failures, and has the latest."""
    history = after(REMEMBERED + 7)
    assert history.attempts == REMEMBERED + 7
    assert [failure.at for failure in history.failures][:2] == [7.0, 8.0]
    assert len(history.failures) == REMEMBERED


def test_an_error_is_one_line() -> None:
    """An error's line has a bounded length, whatever its text is."""
    assert one_line(ValueError("two\nlines")) == "ValueError: two lines"
    assert len(one_line(ValueError("x" * 10_000))) == 501
    error: Any = ExceptionGroup("", [OSError("gone"), ValueError()])
    assert one_line(error) == "OSError: gone (and 1 more)"
