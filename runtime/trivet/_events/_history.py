"""The failed attempts at one event, as they are kept with it.

Owns the account of the attempts.
Never knows the decisions that are made from it.
"""

from __future__ import annotations

import attrs

REMEMBERED = 100
"""The number of the latest failures of one event that are kept."""


@attrs.frozen
class Failure:
    """One attempt that has failed."""

    at: float
    """The moment, in seconds since 1970."""
    error: str
    """The exception, in one line."""


@attrs.frozen
class History:
    """The attempts at one event at one subscriber so far."""

    failures: tuple[Failure, ...] = ()
    """The latest failures, the oldest first."""
    attempts: int = 0
    """Failed attempts, including ones that are no longer among `failures`."""
    spent: float = 0.0
    """Seconds of attempts and waits."""
    last_wait: float = 0.0
    """Seconds of the latest wait."""
    crashes: int = 0
    """Crashes of `run()` or of the process while the event was in flight."""

    def failed(self, error: str, *, at: float, took: float) -> History:
        """The history with one more failure, after `took` seconds; `at` is since 1970."""
        return attrs.evolve(
            self,
            failures=(*self.failures, Failure(at, error))[-REMEMBERED:],
            attempts=self.attempts + 1,
            spent=self.spent + took,
        )

    def waited(self, seconds: float) -> History:
        """The history with one more wait."""
        return attrs.evolve(self, spent=self.spent + seconds, last_wait=seconds)

    def crashed(self) -> History:
        """The history with one more crash."""
        return attrs.evolve(self, crashes=self.crashes + 1)


FIRST = History()
