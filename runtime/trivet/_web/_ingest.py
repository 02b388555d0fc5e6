"""Events that come by HTTP: `POST /events/{name}`, one as JSON or a stream of them as lines.

Owns what a request may ask for, and the decoding of one payload.
Never knows CloudEvents; `_cloudevents` uses what is here for those.
"""

from __future__ import annotations

import math
from datetime import datetime

import msgspec
import trio
from quart import request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from werkzeug.exceptions import RequestEntityTooLarge

from .._envelope import Delivery, utc_now
from .._errors import EventDecodeError, nearest
from .._events import Event, EventTypes, PluginStatusEvent, Timestamp
from .._runtime import Runtime
from ._ndjson import LINES, publish_lines
from ._problems import ProblemError
from ._publishing import answer, publish


def add_ingest(app: QuartTrio, runtime: Runtime) -> None:
    """Serve `POST /events/{name}`."""

    @app.post("/events/<name>")
    async def publish_by_name(name: str) -> ResponseReturnValue:
        """Publish one event, which is the JSON in the body, or one for each line of it."""
        wait, deadline = wait_wanted(), deadline_wanted()
        require_type(runtime.events, name)
        if request.mimetype in LINES:
            return await publish_lines(runtime, name, wait=wait, deadline=deadline)
        if not is_json(request.mimetype) or request.mimetype.startswith("application/cloudevents"):
            raise ProblemError(
                "unsupported_media_type",
                f"send {name} as application/json, several of them as {LINES[0]}, or a CloudEvent "
                "to /events; "
                f"this is {request.mimetype or 'without Content-Type'}",
            )
        event = decode(runtime.events, name, await read_body(), at="$")
        delivery = Delivery(event=event, deadline=deadline)
        (outcome,) = await publish(runtime, [delivery], wait=wait)
        return answer(runtime, [outcome], waited=wait, batch=False)


def wait_wanted() -> bool:
    """What the query says about `wait`."""
    wait = request.args.get("wait", "false")
    if wait not in ("true", "false"):
        raise ProblemError("invalid_query", f"wait is true or false, not {wait!r}")
    return wait == "true"


def deadline_wanted() -> float:
    """What the query says about `expirytime`, on Trio's clock; infinity where it says nothing."""
    given = request.args.get("expirytime")
    if given is None:
        return math.inf
    try:
        return deadline_at(msgspec.convert(given, Timestamp))
    except msgspec.ValidationError as error:
        # A bare + in a query is a space.
        detail = f"expirytime is as 2024-05-06T07:08:09Z, or with %2B02:00, not {given!r}: {error}"
        raise ProblemError("invalid_query", detail, {"parameter": "expirytime"}) from None


def deadline_at(expires: datetime | None) -> float:
    """A moment of the calendar on Trio's clock; infinity for none."""
    if expires is None:
        return math.inf
    return trio.current_time() + (expires - utc_now()).total_seconds()


async def read_body() -> bytes:
    """The request's body."""
    try:
        return await request.get_data(cache=False, as_text=False, parse_form_data=False)
    except RequestEntityTooLarge:
        limit = request.max_content_length
        detail = f"the body may have {limit} bytes"
        raise ProblemError("body_too_large", detail, {"limit": limit}) from None


def is_json(media_type: str) -> bool:
    """Whether this is JSON, by its name.

    >>> is_json("application/json"), is_json("application/vnd.api+json"), is_json("text/plain")
    (True, True, False)
    """
    return media_type == "application/json" or media_type.endswith("+json")


def require_type(types: EventTypes, name: str, *, at: str | None = None) -> None:
    """Refuse a name that no event type has, or that is not for publishers outside.

    `at` says where in the document it stands.
    """
    if types.get(name) is PluginStatusEvent:  # From outside it would be a forgery.
        where = {} if at is None else {"path": at}
        raise ProblemError("forbidden", f"{name} comes from the supervision only", where)
    if types.get(name) is None:
        known = sorted(types)
        detail = f"no event type is named {name!r}; {nearest(name, known)}"
        facts = {"known": known} if at is None else {"known": known, "path": at}
        raise ProblemError("unknown_event", detail, facts)


def decode(types: EventTypes, name: str, payload: bytes, *, at: str) -> Event:
    """Decode a payload; `at` is its path in what the client has sent."""
    try:
        return types.decode(types[name], payload)
    except EventDecodeError as error:
        path = at + error.path.removeprefix("$")
        detail = f"{name}: {error.reason} at {path}"
        raise ProblemError("invalid_event", detail, {"path": path, "event": name}) from None
