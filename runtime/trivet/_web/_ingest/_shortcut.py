"""The short way of one event in memory: `POST /events/{name}` with a small JSON document.

Owns which requests take it, and the response to them.
Never knows refusals: each other request, and each event that is not simply queued, goes the way of
`_by_name`, whose response is the same byte by byte where both could answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from time import time as wall_time

import trio

from ..._access._passes import Pass
from ..._access._rates import Rate
from ..._events._author_code import runs_author_code
from ..._events._delivery import Delivery, Origin
from ..._events._event import Event, Value
from ..._events._sizes import estimated_bytes
from ..._events._turns import LARGE
from ..._faults._errors import EventDecodeError
from ..._runtime import Runtime
from .._asgi import HttpScope
from .._context import new_request_id, printable, route_template
from .._doors import Door, Doors
from .._fast_path import encode, media_type_of
from .._monitoring import Monitoring, request_points
from .._shortcuts import Answer, RequestHead, Shortcut
from .._traffic import Traffic
from ._by_name import RULE
from ._publishing import document_of

_PREFIX = b"/events/"
_ACCEPTED = HTTPStatus.ACCEPTED
_LINES = (
    b"HTTP/1.1 202 Accepted\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\nluna-request-id: %b\r\n"
)
_ID = "<id>"
"""Stands for the id of an event in a response that is made once."""


class EventShortcuts:
    """Finds the shortcuts of a program's events.

    Args:
        runtime: the program.
        doors: decides who may pass.
        traffic: counts the requests.
    """

    def __init__(self, runtime: Runtime, doors: Doors, traffic: Traffic) -> None:
        self._runtime = runtime
        self._doors = doors
        self._monitoring = Monitoring(runtime)
        self._traffic = traffic
        self._types: dict[type[Event], _Type | None] = {}
        self.heed()

    def heed(self) -> None:
        """Go by the present settings of the program; shortcuts that were found hold no longer."""
        self._limit = min(LARGE, self._runtime.program.settings.max_body)
        for kind in filter(None, self._types.values()):
            kind.is_over = True
        self._types.clear()

    def find(self, head: RequestHead, server: str) -> Shortcut | None:
        """The shortcut of a head.

        Args:
            head: the request's.
            server: the address of this machine that the client has reached.
        """
        target, length = head.target, head.length
        if head.method != "POST" or not length or length > self._limit:
            return None
        if b"expect" in head or media_type_of(head.get(b"content-type")) != "application/json":
            return None
        if not target.startswith(_PREFIX):
            return None
        path = target.decode("ascii")
        name = path[len(_PREFIX) :]
        kind = self._type(name)
        if kind is None:
            return None
        right = self._doors.pass_of(head, Door(path, "ingest", name), server)
        return None if right is None else _EventShortcut(kind, length, head, right)

    def _type(self, name: str) -> _Type | None:
        """The event type with a name, if its events may come from outside and need no care."""
        events = self._runtime.events
        cls = events.get(name)
        if cls is None or not events.is_open(cls):
            return None
        if cls not in self._types:
            self._types[cls] = None if runs_author_code(cls) else self._facts(cls)
        return self._types[cls]

    def _facts(self, cls: type[Event]) -> _Type:
        rate = self._doors.event_rates.find(cls.__event_name__)
        return _Type(self._runtime, self._monitoring, self._traffic, cls, rate)


class _Type:
    """The facts of one event type.

    Args:
        runtime: the program.
        monitoring: gets the points of each request.
        traffic: counts the requests.
        cls: the type.
        rate: the rate of its events, if that is limited.
    """

    def __init__(
        self,
        runtime: Runtime,
        monitoring: Monitoring,
        traffic: Traffic,
        cls: type[Event],
        rate: Rate | None,
    ) -> None:
        self.runtime = runtime
        self.service = runtime.service
        self.monitoring = monitoring
        self.cls = cls
        self.rate = rate
        self.is_over = False
        """Whether a reload has come, after which the head has to be looked at again."""
        self.limit = runtime.buffer_bytes(cls)
        queued = document_of(_ID, cls.__event_name__, runtime.all_queued(cls))
        self.before, _, self.behind = encode(queued).partition(_ID.encode("ascii"))
        self.route = route_template("POST", RULE)
        self.durations = traffic.durations(self.route, _ACCEPTED)


class _EventShortcut:
    """See `Shortcut`.

    Args:
        kind: the event's type.
        length: bytes of the body.
        head: the request's.
        right: its right to pass.
    """

    __slots__ = ("_account_id", "_kind", "_request_id", "_right", "_traceparent", "length")

    def __init__(self, kind: _Type, length: int, head: RequestHead, right: Pass) -> None:
        self.length = length
        self._kind = kind
        self._right = right
        self._request_id = printable(head.get(b"luna-request-id"))
        self._account_id = printable(head.get(b"luna-account-id"))
        self._traceparent = printable(head.get(b"traceparent"))

    def answer(self, body: bytes, address: str, scope: Callable[[], HttpScope]) -> Answer | None:
        """See `Shortcut`."""
        kind = self._kind
        runtime = kind.runtime
        size = estimated_bytes(body)
        if size > kind.limit or kind.is_over or runtime.leaving.is_set():
            return None
        if not self._right.holds(address) or (kind.rate is not None and kind.rate.wait() > 0):
            return None
        began, now = trio.current_time(), wall_time()
        try:
            event = runtime.events.decode(kind.cls, body)
        except EventDecodeError:
            return None
        request_id = self._request_id or new_request_id(now)
        origin = Origin(request_id, self._traceparent)
        delivery = Delivery(event, kind.service, now, origin, size=size)
        if not runtime.hand_over(delivery):
            return None
        self._right.use(address)
        if kind.rate is not None:
            kind.rate.take()
        document = b"%b%b%b" % (kind.before, delivery.id.encode("ascii"), kind.behind)
        lines = _LINES % (len(document), request_id.encode("ascii"))
        after = None
        taken = trio.current_time() - began
        kind.durations.add(taken)
        if kind.monitoring.is_on:
            after = self._measure(request_id, now, taken)
        return Answer(lines, document, False, after)

    def _measure(self, request_id: str, began: float, taken: float) -> Awaitable[None] | None:
        """Publish the points of a request; returns the wait that has to follow, if any."""
        kind = self._kind
        tags: dict[str, Value] = {
            "service": kind.service,
            "account_id": self._account_id or "none",
            "route": kind.route,
            "status_code": _ACCEPTED.value,
        }
        points = request_points(tags, datetime.fromtimestamp(began, UTC), request_id, taken, None)
        origin = Origin(request_id, self._traceparent, self._account_id)
        return kind.monitoring.publish(points, origin)
