"""Ingest by name: `POST /events/{name}`, with one event as JSON or a stream of them as lines.

Owns the parameters of the query, and the decoding of one payload.
Never knows CloudEvents; `_cloudevents` uses its functions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial

import msgspec

from ..._access._rates import EventRates
from ..._events._cloudevents import deadline_at, is_json
from ..._events._delivery import Delivery
from ..._events._event import Event, Timestamp
from ..._events._outcome import Outcome
from ..._events._types import EventTypes
from ..._faults._errors import NAMED_AT_MOST, EventDecodeError, EventTooLargeError, nearest
from ..._program._loader import Program
from ..._runtime import Runtime
from .._doors import require_event
from .._fast_path import EndpointRequest, EndpointResponse, Endpoints
from .._problems import ProblemError
from ._ndjson import LINES, publish_lines
from ._publishing import publish, response_for

RULE = "/events/<name>"
"""The rule of the endpoint."""


def add_ingest(fast_path: Endpoints, runtime: Runtime, rates: EventRates) -> None:
    """Serve `POST /events/{name}`."""
    publish = Publisher(runtime, rates)

    async def publish_by_name(request: EndpointRequest) -> EndpointResponse:
        """Publish the event in the body, or one for each line of it."""
        name = request.variable
        wait, deadline = parse_wait(request), parse_deadline(request)
        require_type(runtime.events, name)
        media_type = request.media_type
        if media_type in LINES:
            lines = partial(publish_lines, request, runtime, name, rates, wait, deadline)
            return await request.while_connected(lines)
        if not is_json(media_type) or media_type.startswith("application/cloudevents"):
            raise ProblemError(
                "unsupported_media_type",
                f"send {name} as application/json, several of them as {LINES[0]}, or a CloudEvent "
                "to /events; "
                f"this is {media_type or 'without Content-Type'}",
            )
        event, size = await decode(runtime, name, await request.read(), at="$")
        delivery = Delivery.of(event, size=size, deadline=deadline)
        outcomes = await publish(request, [delivery], wait=wait)
        return response_for(runtime, outcomes, waited=wait, batch=False)

    fast_path.add("POST", RULE, "ingest", publish_by_name)


class Publisher:
    """Publishes the events of requests.

    Args:
        runtime: the program.
        rates: the limits of event types.
    """

    def __init__(self, runtime: Runtime, rates: EventRates) -> None:
        self._runtime = runtime
        self._rates = rates
        self._program: Program | None = None
        self._durable_events: set[type[Event]] = set()

    async def __call__(
        self, request: EndpointRequest, deliveries: Sequence[Delivery[Event]], *, wait: bool
    ) -> list[Outcome]:
        """Publish in order; then, if asked to, wait for the end of all of them.

        Where this may take its time, a client may disconnect meanwhile: events that are not
        accepted by then are not published.

        Raises:
            ProblemError: too many events of a type have come; none of these is published.
        """
        if self._rates:
            self._count(deliveries)
        if wait or self._may_wait(deliveries):
            publishing = partial(publish, self._runtime, deliveries, wait=wait)
            return await request.while_connected(publishing)
        return await self._runtime.publish_many(deliveries)

    def _count(self, deliveries: Sequence[Delivery[Event]]) -> None:
        counts = Counter(delivery.event.__event_name__ for delivery in deliveries)
        wait = self._rates.take(counts)
        if wait > 0:
            detail = f"too many events come of {' and '.join(sorted(counts))}"
            raise ProblemError("too_many_requests", detail, retry_after=wait)

    def _heed(self) -> None:
        """Note the events that are stored; a reload brings another program."""
        program = self._runtime.program
        if program is not self._program:
            self._program, durable = program, self._runtime.durable
            self._durable_events = {
                event
                for checked in program.plugins
                if checked.name in durable
                for event in checked.listens_to
            }

    def _may_wait(self, deliveries: Sequence[Delivery[Event]]) -> bool:
        """Whether a subscriber has to store these events, or has no room for them."""
        self._heed()
        size = sum([delivery.size for delivery in deliveries])
        for event in {type(delivery.event) for delivery in deliveries}:
            if event in self._durable_events:
                return True
            if self._runtime.room(event) < len(deliveries):
                return True
            if self._runtime.room_bytes(event) < size:
                return True
        return False


def parse_wait(request: EndpointRequest) -> bool:
    """The parameter `wait` of the query; False where it is missing."""
    wait = request.query("wait")
    if wait not in ("true", "false", None):
        raise ProblemError("invalid_query", f"wait is true or false, not {wait!r}")
    return wait == "true"


def parse_deadline(request: EndpointRequest) -> float:
    """The parameter `expirytime` of the query, on Trio's clock; infinity where it is missing."""
    given = request.query("expirytime")
    if given is None:
        return math.inf
    try:
        return deadline_at(msgspec.convert(given, Timestamp))
    except msgspec.ValidationError as error:
        # A bare + in a query is a space.
        found = f"{given[:NAMED_AT_MOST]!r}: {error}"
        detail = f"expirytime is as 2024-05-06T07:08:09Z, or with %2B02:00, not {found}"
        raise ProblemError("invalid_query", detail, {"parameter": "expirytime"}) from None


def require_type(types: EventTypes, name: str, *place: str) -> None:
    """Refuse a name that no event type has, or that the client may not publish.

    Args:
        types: the event types of the program.
        name: the name that the client has sent.
        place: the path of the name in the document, in pieces.

    Raises:
        ProblemError: the name is refused.
    """
    require_event(name)
    event = types.get(name)
    if event is not None and types.is_open(event):
        return
    where = {"path": "".join(place)} if place else {}
    if event is not None:
        detail = f"{name} is the program's own, unless the operator names it in `open_events`"
        raise ProblemError("forbidden", detail, {"event": name, **where})
    known = sorted(event.__event_name__ for event in types.types if types.is_open(event))
    detail = f"no event type is named {name[:NAMED_AT_MOST]!r}; {nearest(name, known)}"
    raise ProblemError("unknown_event", detail, {"known": known, **where})


async def decode(runtime: Runtime, name: str, payload: bytes, *, at: str) -> tuple[Event, int]:
    """Decode a payload, and estimate its size in memory.

    Args:
        runtime: the program.
        name: the name of the event type.
        payload: the event as JSON.
        at: the path of the payload in the document that the client has sent.

    Raises:
        ProblemError: the payload is no such event, or a too large one.
    """
    event = runtime.events[name]
    try:
        return await runtime.events.decode_within(event, payload, runtime.buffer_bytes(event))
    except EventDecodeError as error:
        path = at + error.path.removeprefix("$")
        detail = f"{name}: {error.reason} at {path}"
        code = "event_too_large" if isinstance(error, EventTooLargeError) else "invalid_event"
        raise ProblemError(code, detail, {"path": path, "event": name}) from None
