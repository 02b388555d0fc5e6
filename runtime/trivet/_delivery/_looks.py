"""A look into an inbox: the oldest events that are in memory, for an operator.

Owns which events these are, and what is told of each.
Never knows the other events of a durable inbox, which are on disk; it counts none, and changes
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import attrs
import trio

from .._events._delivery import Delivery
from .._events._event import Event
from .._events._fates import Fate
from .._events._history import History
from ._backing import Parts


@attrs.frozen
class Inside:
    """One event that is inside an inbox."""

    delivery: Delivery[Event]
    fate: Fate
    """In flight, backing off, or queued."""
    history: History
    """Its failed attempts."""
    lasted: float | None = None
    """Seconds since it was handed out; None unless it is in flight, and that is known."""
    retry_in: float | None = None
    """Seconds until it is tried again, infinity for the next start; None unless it backs off."""


def look_into(parts: Parts, at_most: int) -> list[Inside]:
    """The oldest events in memory, the oldest first.

    Of each kind no more than `at_most` are looked at, in an order that is nearly that of their age:
    a look does not take longer where more events wait.

    Args:
        parts: the inbox's.
        at_most: the number of events.
    """
    queue = parts.queue
    queued = (_queued(parts, each) for each in (queue.waiting_for_others(), queue.ready))
    kinds = (_in_flight(parts), _backing_off(parts), *queued)
    found = [each for kind in kinds for each in islice(kind, at_most)]
    return sorted(found, key=lambda each: each.delivery.published)[:at_most]


def _in_flight(parts: Parts) -> Iterator[Inside]:
    now, in_flight = trio.current_time(), parts.in_flight
    for delivery in in_flight:
        since = in_flight.since(delivery)
        lasted = now - since if since else None  # It may not be known on the fast path.
        yield Inside(delivery, Fate.IN_FLIGHT, in_flight.history(delivery), lasted)


def _backing_off(parts: Parts) -> Iterator[Inside]:
    now = trio.current_time()
    for delivery, due in parts.queue.returning():
        retry_in = due if due == math.inf else max(0.0, due - now)
        history = parts.in_flight.history(delivery)
        yield Inside(delivery, Fate.BACKING_OFF, history, retry_in=retry_in)


def _queued(parts: Parts, deliveries: Iterable[Delivery[Event]]) -> Iterator[Inside]:
    for delivery in deliveries:
        yield Inside(delivery, Fate.QUEUED, parts.in_flight.history(delivery))
