"""CloudEvents 1.0 over HTTP: `POST /events` in structured, binary and batched mode.

Owns which of the modes a request is in, and the answer to what is none of them.
Never knows what a CloudEvent is made of; that is the vocabulary's.
"""

from __future__ import annotations

from urllib.parse import unquote

from werkzeug.http import unquote_header_value

from .._cloudevents import STRUCTURED, CloudEvent, CloudEventError, is_json
from .._envelope import Delivery
from .._events import Event, EventTypes
from .._runtime import Runtime
from ._front import Answer, Call, Front
from ._ingest import Publisher, decode, require_type, wait_wanted
from ._problems import ProblemError
from ._publishing import answer

BATCHED = "application/cloudevents-batch+json"

Headers = list[tuple[str, str]]
"""Names in small letters, and values."""


def add_cloudevents(front: Front, runtime: Runtime) -> None:
    """Serve `POST /events`."""
    publish = Publisher(runtime)

    async def publish_cloudevents(call: Call) -> Answer:
        """Publish one CloudEvent, or a batch of them."""
        wait = wait_wanted(call)
        media_type = call.media_type
        if media_type not in (STRUCTURED, BATCHED):
            _require_binary(call.headers, media_type)
        events = read(runtime.events, call.headers, media_type, await call.read())
        outcomes = await publish(call, events, wait=wait)
        return answer(runtime, outcomes, waited=wait, batch=media_type == BATCHED)

    front.add("POST", "/events", publish_cloudevents)


def read(
    types: EventTypes, headers: Headers, media_type: str, body: bytes
) -> list[Delivery[Event]]:
    """What a request has brought, in whichever mode: all of it, or none if one event is wrong."""
    try:
        if media_type == BATCHED:
            events = CloudEvent.batch(body)
        elif media_type == STRUCTURED:
            events = [CloudEvent.structured(body)]
        else:
            events = [_read_binary(headers, body)]
    except CloudEventError as error:
        code = "unsupported_media_type" if error.is_media_type else "invalid_cloud_event"
        raise ProblemError(code, str(error), {"path": error.path}) from None
    return [_open(types, event) for event in events]


def _open(types: EventTypes, event: CloudEvent) -> Delivery[Event]:
    require_type(types, event.type, event.at, "type" if event.at == "ce-" else ".type")
    if not event.data:
        raise _invalid("the body, which is the event's data, is empty", "$")
    return event.delivery(decode(types, event.type, event.data, at=event.data_at))


def _read_binary(headers: Headers, payload: bytes) -> CloudEvent:
    """The attributes in `ce-` headers, the data as the body."""
    given = {name: _decode_header(name, value) for name, value in headers if name.startswith("ce-")}
    return CloudEvent.binary(given, payload)


def _require_binary(headers: Headers, media_type: str) -> None:
    # The standard SDK sends JSON without a Content-Type when the event does not name one.
    binary = any(name.startswith("ce-") for name, _ in headers)
    if not binary or (media_type and not is_json(media_type)):
        raise ProblemError(
            "unsupported_media_type",
            f"send a CloudEvent as {STRUCTURED}, several as {BATCHED}, or JSON data as "
            "application/json with the attributes in ce- headers; "
            f"this is {media_type or 'without Content-Type'}. "
            "JSON that is no CloudEvent goes to /events/{name}",
        )


def _decode_header(name: str, value: str) -> str:
    try:
        return unquote(unquote_header_value(value), errors="strict")
    except UnicodeDecodeError:
        raise _invalid("percent-encoding that is not UTF-8", name) from None


def _invalid(reason: str, path: str) -> ProblemError:
    return ProblemError("invalid_cloud_event", f"{reason}, at {path}", {"path": path})
