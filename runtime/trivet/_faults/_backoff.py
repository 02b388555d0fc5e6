"""How long to wait before another attempt: exponential back-off with full jitter.

Owns the arithmetic.
Never knows what is attempted, nor the time. `_process._parent` has a copy of these lines, because
it imports nothing but the standard library.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable


def full_jitter(
    initial: float,
    factor: float,
    most: float,
    attempt: int,
    draw: Callable[[float, float], float] = random.uniform,
) -> float:
    """Seconds to wait before another attempt: a random part of a limit that grows.

    Each failure in a row multiplies the limit by `factor`. Clients that failed together are drawn
    apart by the jitter, so they do not come back together.

    >>> [full_jitter(0.5, 2, 3.0, attempt, draw=lambda least, most: most) for attempt in (1, 2, 4)]
    [0.5, 1.0, 3.0]

    Args:
        initial: the limit after the first failure, in seconds.
        factor: the growth of the limit, at least 1.
        most: the largest limit, in seconds.
        attempt: the number of failures in a row, at least 1.
        draw: returns a number between two others, each as likely as the next.
    """
    try:
        growth = float(factor) ** (attempt - 1)
    except OverflowError:
        growth = sys.float_info.max  # Not infinity, of which no part is a number.
    return draw(0.0, min(initial * growth, most))
