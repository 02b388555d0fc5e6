"""What travels with an event, apart from its payload, and what comes back to the publisher.

Owns the delivery (the event in its envelope), the one in flight, the receipt and the outcome.
Never knows inboxes and plugins; they read and settle what is here.
"""

from __future__ import annotations

import math
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count
from time import time as wall_time
from typing import Generic, TypedDict, TypeVar

import attrs
import msgspec
import trio
from msgspec.structs import replace

from ._event import Event, EventT
from ._fates import Fate

E_co = TypeVar("E_co", bound=Event, covariant=True)

_process = secrets.token_hex(6)
_numbers = count(1)


def next_id() -> str:
    """An id that no other event has, cheaper than a UUID."""
    return f"{_process}-{next(_numbers)}"


def utc_now() -> datetime:
    """Now, by the calendar."""
    return datetime.now(UTC)


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


class Envelope(TypedDict, total=False):
    """What a publisher may say of an event, apart from its payload."""

    id: str | None
    """Unique within the source; made when not given. A repetition uses it again, and is delivered
    to those only who have not had the event."""
    source: str | None
    """Who says that it happened; the service's name by default."""
    time: datetime | None
    """When it happened, with its UTC offset; now by default."""
    key: str | None
    """What the event is about."""
    deadline: float | None
    """The moment on Trio's clock after which it is not worth handling; none by default."""
    request_id: str | None
    """The request that led to it; by default that of the request, or of the event, which the
    calling task is busy with."""
    traceparent: str | None
    """The W3C trace context; with the same default."""


class Delivery(msgspec.Struct, Generic[E_co], eq=False):
    """An event in its envelope. Made by `Delivery.of`; not to be changed.

    One is made for each event, so it is a struct of msgspec's, which are made ten times as fast as
    attrs' frozen classes; and what is seldom asked for is made when it is.
    """

    event: E_co
    """The payload."""
    source: str = ""
    """Who says that it happened: a CloudEvent's `source`; the service's name by default."""
    published: float = msgspec.field(default_factory=wall_time)
    """When it was published, in seconds since 1970."""
    origin: Origin = NOWHERE
    """The request that led to it."""
    is_plain: bool = False
    """Whether an inbox in memory has nothing to mind about it: no id by which it might be known, no
    deadline, nobody who waits for its end, no attempt before this one, no size."""
    key: str | None = None
    """What it is about: a CloudEvent's `partitionkey`, or else its `subject`."""
    deadline: float = math.inf
    """The moment on Trio's clock after which nobody needs it any more."""
    attempt: int = 1
    """How often this subscriber has been handed it, this time included."""
    receipt: Receipt | None = None
    """Told what becomes of the event, where a publisher waits for that."""
    given_id: str | None = None
    """See `id`; None where the publisher has not said it, so that nobody can repeat it."""
    given_time: datetime | None = None
    """See `time`; None where the publisher has not said it."""
    made_id: str | None = None
    """See `id`; made for who asks, where none was given."""
    size: int = 0
    """Bytes of memory that the event takes, by an estimate; 0 for what the program publishes
    itself."""
    written: bytes | Exception | None = None
    """The payload for the stores of its subscribers, or why it cannot be written. It is there only
    while several events are published together, or a large one is."""

    @staticmethod
    def of(  # noqa: PLR0913 - to unpack an `Envelope` would take as long as all the rest
        event: EventT,
        *,
        attempt: int = 1,
        receipt: Receipt | None = None,
        origin: Origin = NOWHERE,
        size: int = 0,
        id: str | None = None,
        source: str | None = None,
        time: datetime | None = None,
        key: str | None = None,
        deadline: float | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Delivery[EventT]:
        """An event with what is known of its envelope.

        Args:
            event: the payload.
            attempt: see `Delivery`.
            receipt: see `Delivery`.
            size: the bytes of memory that an event from outside takes, from `estimated_bytes`.
            origin: where `request_id` and `traceparent` come from if they are not given.
            id: see `Envelope`, as for all that follow.
            source: who says that it happened.
            time: when.
            key: what it is about.
            deadline: the moment on Trio's clock after which it is not worth handling.
            request_id: the request that led to it.
            traceparent: the W3C trace context.

        Raises:
            ValueError: the deadline is no moment.
        """
        if deadline is not None and not deadline > -math.inf:
            raise ValueError(f"a deadline is a moment on Trio's clock, not {deadline}")
        if request_id or traceparent:
            origin = Origin(request_id or origin.request_id, traceparent or origin.traceparent)
        nothing_said = id is None and (deadline is None or deadline == math.inf)
        return Delivery(
            event,
            source or "",
            wall_time(),
            origin,
            nothing_said and receipt is None and attempt == 1 and not size,
            key,
            math.inf if deadline is None else deadline,
            attempt,
            receipt,
            id,
            time,
            None,
            size,
        )

    @property
    def id(self) -> str:
        """Unique within `source`; a repetition of the same event has the same id."""
        if self.given_id is not None:
            return self.given_id
        if self.made_id is None:
            self.made_id = next_id()
        return self.made_id

    @property
    def time(self) -> datetime:
        """When it happened, as far as the publisher knows; when it was published, otherwise."""
        return self.given_time or datetime.fromtimestamp(self.published, UTC)

    @property
    def request_id(self) -> str | None:
        """The request that led to it."""
        return self.origin.request_id

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context that led to it."""
        return self.origin.traceparent

    def again(self) -> Delivery[E_co]:
        """The same event, for one more attempt."""
        self.made_id = self.id
        return replace(self, attempt=self.attempt + 1, is_plain=False)

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


delivery_of_task: ContextVar[Delivery[Event] | None] = ContextVar("trivet_delivery", default=None)
"""What `current_delivery` returns in this task, if anything."""


def current_delivery() -> Delivery[Event]:
    """The envelope of the event that this task is handling.

    Raises:
        LookupError: outside of a handler and of a loop over an inbox.
    """
    delivery = delivery_of_task.get()
    if delivery is None:
        raise LookupError("current_delivery() is for handlers and loops over an inbox")
    return delivery


current_request: ContextVar[Origin | None] = ContextVar("trivet_request", default=None)
"""Set by the HTTP application for the task of each request."""


def current_origin() -> Origin:
    """The request behind what this task does: its own, or that of the event in flight."""
    origin = current_request.get()
    if origin is None:
        delivery = delivery_of_task.get()
        origin = NOWHERE if delivery is None else delivery.origin
        if origin.account_id is not None:
            return Origin(origin.request_id, origin.traceparent)
    return origin
