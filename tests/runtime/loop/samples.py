"""The samples of a stall, for code that holds the event loop until there are some.

Owns the count of them.
Never knows what is in a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Semaphore

import pytest

from trivet._faults._frames import Line
from trivet._loop._profile import Profile


class Samples:
    """The samples that are taken while a test runs.

    Args:
        monkeypatch: the test's.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._taken = Semaphore(0)
        self.count = 0
        """All of them."""
        add = Profile.add

        def counted(profile: Profile, lines: Sequence[Line], at: float) -> None:
            add(profile, lines, at)
            self.count += 1
            self._taken.release()

        monkeypatch.setattr(Profile, "add", counted)

    def wait(self, number: int) -> None:
        """Hold the thread until so many more samples were taken."""
        for _ in range(number):
            assert self._taken.acquire(timeout=20)
