"""The failed attempts at an inbox's events: another one follows, or the end.

Owns that decision, and the waits before another attempt.
Never knows who has tried, nor what is logged of it for several events together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import trio

from .._events._delivery import Delivery, utc_now
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import History
from .._faults._advice import explained
from .._faults._containment import one_line
from .._faults._errors import HandlerTimeoutError
from .._inbox._fast_path import FastPath
from ._backing import Backing, Parts
from ._endings import Endings
from ._retries import next_wait

BACKING_OFF = "an event backs off"

OnRetry: TypeAlias = Callable[[Delivery[Event], Exception, float], None]
"""Is told of an event, of what its handler raised, and of the most seconds until it is tried
again. It must neither wait nor raise."""


class Attempts:
    """The failed attempts at the events of one inbox.

    Args:
        parts: the inbox's.
        path: the inbox's fast path, which is closed while an event backs off.
        backing: the inbox's.
        endings: the inbox's.
        is_closed: says whether nothing more comes in.
    """

    def __init__(
        self,
        parts: Parts,
        path: FastPath,
        backing: Backing,
        endings: Endings,
        is_closed: Callable[[], bool],
    ) -> None:
        self._parts = parts
        self._path = path
        self._backing = backing
        self._endings = endings
        self._is_closed = is_closed
        self.has_backed_off: bool = False
        """Whether an event may back off, or follow one that does."""

    def failed(
        self, delivery: Delivery[Event], error: Exception, on_retry: OnRetry | None
    ) -> float | None:
        """End an attempt that a handler's error has ended.

        Returns:
            Seconds until the event is tried again, infinity until the next start; None if never.
        """
        parts, policy = self._parts, self._parts.policy
        since = parts.in_flight.since(delivery)
        if since is None:
            return None
        now = trio.current_time()
        parts.counts.timed_out += isinstance(error, HandlerTimeoutError)
        if delivery.receipt is not None:
            delivery.receipt.failed(parts.plugin, error)
        history = parts.in_flight.history(delivery).failed(
            one_line(error), at=utc_now().timestamp(), took=now - since
        )
        wait = next_wait(policy, history, error)
        if wait is not None and now + wait >= delivery.deadline:
            parts.log.error("event expires before its next attempt", **delivery.identity())
            self._endings.finish(delivery, Fate.EXPIRED)
        elif wait is None and not (self._backing.outlives and self._is_closed()):
            parts.failures.log(
                parts.log.error,
                "event failed",
                error,
                delivery.identity(),
                plugin=parts.plugin,
                event=delivery.event.__event_name__,
                whole={"exc_info": explained(error)},
            )
            self._endings.finish(delivery, self._backing.failed_as, history)
        else:  # A stop sends nothing to the dead letters: the next start tries again.
            if on_retry is not None and wait is not None:
                longest = next_wait(policy, history, error, draw=lambda least, most: most)
                on_retry(delivery, error, wait if longest is None else longest)
            self._back_off(delivery, history, wait)
            return math.inf if wait is None else wait
        return None

    def _back_off(self, delivery: Delivery[Event], history: History, wait: float | None) -> None:
        """Try the event again after a wait; None is after the next start."""
        parts = self._parts
        parts.counts.retried += 1
        until = math.inf if wait is None else trio.current_time() + wait
        retry = self._again(delivery, history.waited(wait or 0.0), wait=wait or 0.0)
        parts.queue.back_off(retry, until)
        self.mind_back_offs()
        retry.settle(parts.plugin, Fate.BACKING_OFF)
        self._endings.tell(delivery, Fate.BACKING_OFF, parts.in_flight.history(retry))
        parts.readers.wake_all()  # One that knows when to look may leave before that.

    def mind_back_offs(self) -> None:
        """Close the fast path while an event backs off, or follows one that does."""
        self.has_backed_off = self._parts.queue.has_lanes
        self._path.mind(BACKING_OFF, self.has_backed_off)

    def crashed(self, delivery: Delivery[Event]) -> Delivery[Event] | None:
        """End an attempt that a crash has ended; returns the next one, None if there is none."""
        history = self._parts.in_flight.history(delivery).crashed()
        if history.crashes < self._parts.policy.delivery_limit:
            self._endings.tell(delivery, Fate.QUEUED, history)
            return self._again(delivery, history)
        self._parts.log.error(
            "event failed: run() crashed too often with it in flight",
            **delivery.identity(),
            crashes=history.crashes,
        )
        self._endings.finish(delivery, self._backing.failed_as, history)
        return None

    def _again(
        self, delivery: Delivery[Event], history: History, *, wait: float = 0.0
    ) -> Delivery[Event]:
        """The next attempt at an event that is in flight, which is to be made after a wait."""
        in_flight = self._parts.in_flight
        in_flight.release(delivery)
        in_flight.histories.pop(delivery, None)
        retry = delivery.again()
        in_flight.remember(retry, history)
        self._backing.retried(delivery, retry, history, wait)
        return retry
