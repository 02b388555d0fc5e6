"""What becomes of an event whose handler has failed: another attempt, or none.

Owns the decision, and the account of the attempts that it is made of.
Never knows inboxes and clocks; it is told the time and draws the wait.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import attrs

from .._events._delivery_settings import DeliveryPolicy
from .._faults._containment import includes, members
from .._faults._errors import PermanentError, RetryAfter

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
    """Times that `run()` or the process crashed with it in hand."""

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


def next_wait(
    policy: DeliveryPolicy,
    history: History,
    error: BaseException,
    draw: Callable[[float, float], float] = random.uniform,
) -> float | None:
    """Seconds until the next attempt; None where there is to be none.

    >>> policy = DeliveryPolicy(retry=True)
    >>> twice = FIRST.failed("no answer", at=0, took=1).failed("no answer", at=6, took=1)
    >>> next_wait(policy, twice, OSError(), draw=lambda least, most: most)
    7.5
    >>> next_wait(policy, twice, PermanentError()) is None
    True

    Args:
        policy: the subscriber's.
        history: with the failure that has just been.
        error: what was raised.
        draw: a number between two, evenly.
    """
    if not policy.retry or includes(error, PermanentError):
        return None
    if policy.max_attempts is not None and history.attempts >= policy.max_attempts:
        return None
    # A float's power overflows long before anybody has waited as often.
    growth = policy.retry_multiplier ** min(history.attempts - 1, 100)
    wait = draw(0.0, min(policy.retry_initial * growth, policy.retry_max))
    asked_for = [found.seconds for found in members(error) if isinstance(found, RetryAfter)]
    wait = max([wait, *asked_for])
    if history.spent + wait > (policy.retry_for or math.inf):
        return None
    return wait
