"""What travels with an event, apart from its payload, and what comes back to the publisher.

Owns the delivery (the event in its envelope), the one in hand, the receipt and the outcome.
Never knows inboxes and plugins; they read and settle what is here.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count
from typing import Generic, TypeVar

import attrs
import trio

from ._events import Event
from ._fates import SEVERITY, Fate

E_co = TypeVar("E_co", bound=Event, covariant=True)

_process = secrets.token_hex(6)
_numbers = count(1)


def next_id() -> str:
    """An id that no other event has, cheaper than a UUID."""
    return f"{_process}-{next(_numbers)}"


def made_here(id: str) -> bool:
    """Whether `next_id` of this process made it, so that no other event has it.

    >>> made_here(next_id()), made_here("o-1")
    (True, False)
    """
    return id.startswith(_process)


def utc_now() -> datetime:
    """Now, by the calendar."""
    return datetime.now(UTC)


@attrs.frozen(kw_only=True, eq=False)
class Delivery(Generic[E_co]):
    """An event in its envelope."""

    event: E_co
    """The payload."""
    id: str = attrs.field(factory=next_id)
    """Unique within `source`; a repetition of the same event has the same id."""
    source: str = ""
    """Who says that it happened: a CloudEvent's `source`; the service's name by default."""
    time: datetime = attrs.field(factory=utc_now)
    """When it happened, as far as the publisher knows; when it was published, otherwise."""
    key: str | None = None
    """What it is about: a CloudEvent's `partitionkey`, or else its `subject`."""
    deadline: float = math.inf
    """The moment on Trio's clock after which nobody needs it any more."""
    request_id: str | None = None
    """The request that led to it."""
    traceparent: str | None = None
    """The W3C trace context that led to it."""
    attempt: int = 1
    """How often this subscriber has been handed it, this time included."""
    receipt: Receipt | None = None
    """Told what becomes of the event, where a publisher waits for that."""

    def settle(self, subscriber: str, fate: Fate) -> None:
        """Tell the publisher who waits, if one does, what became of it at this subscriber."""
        if self.receipt is not None:
            self.receipt.settle(subscriber, fate)

    def identity(self) -> dict[str, object]:
        """What a log line says of it."""
        facts: dict[str, object] = {"event_type": self.event.__event_name__, "event_id": self.id}
        if self.request_id is not None:
            facts["request_id"] = self.request_id
        return facts


class Receipt:
    """Where subscribers say what became of an event, for the publisher that waits for it."""

    def __init__(self) -> None:
        self.fates: dict[str, Fate] = {}
        self._kept: set[str] = set()
        self._changed = trio.Event()

    def settle(self, subscriber: str, fate: Fate) -> None:
        """Note this subscriber's latest word."""
        self.fates[subscriber] = fate
        if not fate.alive:
            self._changed.set()

    def keep(self, subscriber: str) -> None:
        """This subscriber has it in its store, and does not go on: it is no use to wait."""
        self._kept.add(subscriber)
        self._changed.set()

    async def ended(self) -> None:
        """Wait until no subscriber's fate is alive, but in a store that has stopped."""
        while any(fate.alive and name not in self._kept for name, fate in self.fates.items()):
            self._changed = trio.Event()
            await self._changed.wait()


@attrs.frozen
class Outcome:
    """What became of one published event, subscriber by subscriber.

    >>> outcome = Outcome("1", "order_placed", {"billing": Fate.QUEUED, "audit": Fate.REJECTED})
    >>> outcome.accepted, outcome.unrouted, outcome.worst
    (True, False, <Fate.REJECTED: 'rejected'>)
    """

    id: str
    """The event's id; a publisher that repeats the event uses it again."""
    event: str
    """The event type's name."""
    fates: Mapping[str, Fate]
    """One fate per subscriber, by the plugin's name."""

    @property
    def accepted(self) -> bool:
        """Whether at least one subscriber took the event in."""
        return any(fate.accepted for fate in self.fates.values())

    @property
    def unrouted(self) -> bool:
        """Whether nobody listens to this type of event."""
        return not self.fates

    @property
    def worst(self) -> Fate | None:
        """The worst of the fates; None where there is no subscriber."""
        return max(self.fates.values(), key=SEVERITY.__getitem__, default=None)


_in_hand: ContextVar[Delivery[Event] | None] = ContextVar("trivet_delivery", default=None)


def current_delivery() -> Delivery[Event]:
    """The envelope of the event that this task is handling.

    Raises:
        LookupError: outside of a handler and of a loop over an inbox.
    """
    delivery = _in_hand.get()
    if delivery is None:
        raise LookupError("current_delivery() is for handlers and loops over an inbox")
    return delivery


def delivery_in_hand() -> Delivery[Event] | None:
    """As `current_delivery`, or None."""
    return _in_hand.get()


def take_in_hand(delivery: Delivery[Event] | None) -> None:
    """Make it what `current_delivery` returns in this task."""
    _in_hand.set(delivery)


@attrs.frozen
class Origin:
    """The request that a task serves; what the task publishes carries it on."""

    request_id: str | None = None
    """LUNA's `Luna-Request-Id`."""
    traceparent: str | None = None
    """The W3C trace context."""
    account_id: str | None = None
    """LUNA's `Luna-Account-Id`; known while the request itself is served, not of an event."""


NOWHERE = Origin()
"""What does not come from a request."""

current_request: ContextVar[Origin | None] = ContextVar("trivet_request", default=None)
"""Set by the HTTP application for the task of each request."""


def current_origin() -> Origin:
    """The request behind what this task does: its own, or that of the event in hand."""
    origin = current_request.get()
    if origin is not None:
        return origin
    delivery = _in_hand.get()
    if delivery is not None:
        return Origin(delivery.request_id, delivery.traceparent)
    return NOWHERE
