"""The parent process, as a module that imports nothing of Trivet."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet import full_jitter
from trivet._process import _parent


@given(
    initial=st.floats(min_value=0.0, max_value=10.0),
    most=st.floats(min_value=0.0, max_value=100.0),
    attempt=st.integers(min_value=1, max_value=3_000),
    seed=st.integers(),
)
def test_the_copy_of_the_back_off(initial: float, most: float, attempt: int, seed: int) -> None:
    """It gives the numbers of the original, also after thousands of failures."""
    draw = random.Random(seed).uniform
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.uniform", random.Random(seed).uniform)
        copied = _parent.full_jitter(initial, most, attempt)
    assert copied == full_jitter(initial, 2.0, most, attempt, draw)
