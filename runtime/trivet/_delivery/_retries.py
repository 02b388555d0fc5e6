"""The decision about an event whose handler has failed: another attempt, or none.

Owns that decision.
Never knows inboxes and clocks; it is told the time and draws the wait.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from .._events._delivery_settings import DeliveryPolicy
from .._events._history import History
from .._faults._backoff import full_jitter
from .._faults._containment import includes, members
from .._faults._errors import PermanentError, RetryAfter


def next_wait(
    policy: DeliveryPolicy,
    history: History,
    error: BaseException,
    draw: Callable[[float, float], float] = random.uniform,
) -> float | None:
    """Seconds until the next attempt; None for no further attempt.

    >>> from trivet._events._history import FIRST
    >>> policy = DeliveryPolicy(retry=True)
    >>> twice = FIRST.failed("no answer", at=0, took=1).failed("no answer", at=6, took=1)
    >>> next_wait(policy, twice, OSError(), draw=lambda least, most: most)
    7.5
    >>> next_wait(policy, twice, PermanentError()) is None
    True

    Args:
        policy: the subscriber's policy.
        history: the attempts so far, with the last failure.
        error: the handler's exception.
        draw: returns a number between two others, each as likely as the next.
    """
    if not policy.retry or includes(error, PermanentError):
        return None
    if policy.max_attempts is not None and history.attempts >= policy.max_attempts:
        return None
    wait = full_jitter(
        policy.retry_initial, policy.retry_multiplier, policy.retry_max, history.attempts, draw
    )
    asked_for = [found.seconds for found in members(error) if isinstance(found, RetryAfter)]
    wait = max([wait, *asked_for])
    if history.spent + wait > (policy.retry_for or math.inf):
        return None
    return wait
