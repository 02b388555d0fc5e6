"""A storm of reloads, tried with random programs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from .programs import Files
from .storm import Step, weather

pytestmark = pytest.mark.model

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 20)),
    st.tuples(st.just("sleep"), st.integers(0, 20)),
    st.tuples(st.just("settings"), st.integers(0, 20)),
    st.tuples(st.just("code"), st.integers(0, 5)),
    st.tuples(st.just("plugins"), st.just(0)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("reload"), st.integers(0, 1)),
)


@given(steps=st.lists(STEPS, max_size=40))
async def test_no_event_is_lost_doubled_or_reordered(
    steps: list[Step], autojump_clock: MockClock
) -> None:
    """Every accepted event is handled once and in order, whatever a reload changes; what is
    unchanged has the same task."""
    with tempfile.TemporaryDirectory() as directory:
        await weather(Files(Path(directory)), steps)
