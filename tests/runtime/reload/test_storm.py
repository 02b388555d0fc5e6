"""A storm of reloads, tried with random programs."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import StormMachine

pytestmark = pytest.mark.model


@pytest.mark.timeout(600 + settings().max_examples * 6)  # To make a failure small takes long.
def test_no_event_is_lost_doubled_or_reordered() -> None:
    """Every accepted event ends once and in order, in memory or on disk, whatever a reload, an
    operator or a crash does; what is unchanged has the same task."""
    run_state_machine_as_test(StormMachine, settings=settings(stateful_step_count=40))
