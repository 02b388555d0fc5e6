"""Nothing is lost in silence on disk either, whatever happens to the processes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from .model import Program, obey, programs


@pytest.mark.model
@pytest.mark.timeout(600 + settings().max_examples * 2)  # To make a failure small takes long.
@settings(max_examples=settings().max_examples * 3 // 2)
@given(programs)
def test_what_is_accepted_outlives_the_process(program: Program) -> None:
    """Accepted events are the sum of their fates at every instant, and all drain in the end."""
    obey(program)
