"""The arithmetic of restarts: intensity and back-off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trivet import SupervisionSettings
from trivet._supervision._restarts import Restarts


def longest(low: float, high: float) -> float:
    """A draw of the upper end."""
    assert low == 0.0
    return high


def test_the_sixth_failure_within_thirty_seconds_trips() -> None:
    """Five failures in the window are answered with a restart, the sixth is not."""
    restarts = Restarts(SupervisionSettings())
    waits = [restarts.after_failure(now) for now in (0.0, 1.0, 2.0, 3.0, 29.9, 29.95)]
    assert [wait is None for wait in waits] == [False, False, False, False, False, True]


def test_a_failure_leaves_the_window_after_thirty_seconds() -> None:
    """Failures that are thirty seconds old do not count any more."""
    restarts = Restarts(SupervisionSettings())
    waits = [restarts.after_failure(now) for now in (0.0, 1.0, 2.0, 3.0, 4.0, 30.0)]
    assert None not in waits


def test_the_back_off_doubles_up_to_its_maximum() -> None:
    """The waits' upper ends are 0.5 s, 1 s, 2 s, …, and never above 30 s."""
    restarts = Restarts(SupervisionSettings(max_restarts=100), draw=longest)
    waits = [restarts.after_failure(0.0) for _ in range(9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_long_lifetime_makes_the_back_off_small_again() -> None:
    """Once the plugin ran as long as the window, the next wait starts from the beginning."""
    restarts = Restarts(SupervisionSettings(max_restarts=100), draw=longest)
    assert [restarts.after_failure(0.0), restarts.after_failure(1.0)] == [0.5, 1.0]
    restarts.after_lifetime(29.9)
    assert restarts.after_failure(31.0) == 2.0
    restarts.after_lifetime(30.0)
    assert restarts.after_failure(61.0) == 0.5


@given(st.integers(min_value=0, max_value=20))
def test_the_jitter_is_full(failures: int) -> None:
    """Every wait is between zero and its upper end."""
    restarts = Restarts(SupervisionSettings(max_restarts=100))
    for number in range(failures):
        wait = restarts.after_failure(float(number))
        assert wait is not None
        assert 0.0 <= wait <= min(0.5 * 2.0**number, 30.0)


def test_no_restart_at_all() -> None:
    """With max_restarts = 0 the first failure is the last."""
    assert Restarts(SupervisionSettings(max_restarts=0)).after_failure(0.0) is None
