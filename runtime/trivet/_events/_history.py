"""The failed attempts at one event, as they are kept with it.

Owns the account of the attempts.
Never knows what is decided because of them.
"""

from __future__ import annotations

import attrs

REMEMBERED = 100
"""Failures of one event that are remembered, the latest of them."""


@attrs.frozen
class Failure:
    """One attempt that has failed."""

    at: float
    """When, in seconds since 1970."""
    error: str
    """What was raised, in one line."""


@attrs.frozen
class History:
    """What has become so far of the attempts at one event, at one subscriber."""

    failures: tuple[Failure, ...] = ()
    attempts: int = 0
    """Attempts that have failed, those included that are no longer remembered."""
    spent: float = 0.0
    """Seconds of attempts and waits."""
    last_wait: float = 0.0
    """Seconds of the latest wait."""
    crashes: int = 0
    """Times that `run()` or the process crashed with it in flight."""

    def failed(self, error: str, *, at: float, took: float) -> History:
        """With one more failure, which took so many seconds."""
        return attrs.evolve(
            self,
            failures=(*self.failures, Failure(at, error))[-REMEMBERED:],
            attempts=self.attempts + 1,
            spent=self.spent + took,
        )

    def waited(self, seconds: float) -> History:
        """With a wait."""
        return attrs.evolve(self, spent=self.spent + seconds, last_wait=seconds)

    def crashed(self) -> History:
        """With one more crash."""
        return attrs.evolve(self, crashes=self.crashes + 1)


FIRST = History()
