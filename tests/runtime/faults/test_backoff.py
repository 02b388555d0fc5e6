"""Exponential back-off with full jitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet import full_jitter


def longest(least: float, most: float) -> float:
    """A draw of the upper end."""
    assert least == 0.0
    return most


@pytest.mark.parametrize(
    ("attempt", "limit"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (8, 30.0)]
)
def test_the_limit_grows_up_to_its_maximum(attempt: int, limit: float) -> None:
    """The limit doubles with each failure in a row, and never exceeds `most`."""
    assert full_jitter(0.5, 2, 30.0, attempt, longest) == limit


@pytest.mark.parametrize("factor", [2.0, 1e300])
def test_a_million_failures_do_not_overflow(factor: float) -> None:
    """However large the power, the limit is `most`; where it begins with 0 it stays 0."""
    assert full_jitter(0.001, factor, 30.0, 1_000_000, longest) == 30.0
    assert full_jitter(0.0, factor, 30.0, 1_000_000, longest) == 0.0


def test_a_constant_limit() -> None:
    """With a factor of 1 the limit does not grow."""
    assert full_jitter(5.0, 1, 30.0, 1_000, longest) == 5.0


@given(st.integers(min_value=1, max_value=2_000))
def test_the_jitter_is_full(attempt: int) -> None:
    """A wait is anything between zero and the limit."""
    assert 0.0 <= full_jitter(0.5, 2, 30.0, attempt) <= min(0.5 * 2.0 ** min(attempt - 1, 64), 30.0)


def test_the_whole_range_is_drawn_from() -> None:
    """A draw of the lower end waits not at all."""
    assert full_jitter(0.5, 2, 30.0, 7, lambda least, most: least) == 0.0
