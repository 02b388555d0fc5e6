"""CloudEvents 1.0 over HTTP: `POST /events` in structured, binary and batched mode.

Owns which of the modes a request is in, and the refusal of any other request.
Never knows the attributes of a CloudEvent; they are in `_events`.
"""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import unquote

from ..._access._rates import EventRates
from ..._events._cloudevents import STRUCTURED, CloudEvent, CloudEventError, is_json
from ..._events._delivery import Delivery
from ..._events._event import Event
from ..._events._sizes import estimated_bytes
from ..._events._turns import Turns, off_loop
from ..._runtime import Runtime
from .._fast_path import EndpointRequest, EndpointResponse, Endpoints
from .._problems import ProblemError
from ._by_name import Publisher, decode, parse_wait, require_type
from ._ndjson import LINES
from ._publishing import response_for

BATCHED = "application/cloudevents-batch+json"
MAX_BATCH_EVENTS = 1000
"""Events in one batch, at most. They are published together, and their fates are one response."""

Headers = list[tuple[str, str]]
"""Names in lower case, and values."""


def add_cloudevents(fast_path: Endpoints, runtime: Runtime, rates: EventRates) -> None:
    """Serve `POST /events`."""
    publish = Publisher(runtime, rates)

    async def publish_cloudevents(request: EndpointRequest) -> EndpointResponse:
        """Publish one CloudEvent, or a batch of them."""
        wait = parse_wait(request)
        media_type = request.media_type
        if media_type not in (STRUCTURED, BATCHED):
            _require_binary(request.headers, media_type)
        events = await read(runtime, request.headers, media_type, await request.read())
        outcomes = await publish(request, events, wait=wait)
        return response_for(runtime, outcomes, waited=wait, batch=media_type == BATCHED)

    fast_path.add("POST", "/events", "ingest", publish_cloudevents)


async def read(
    runtime: Runtime, headers: Headers, media_type: str, body: bytes
) -> list[Delivery[Event]]:
    """The events of a request, in whichever mode: all of them, or none if one cannot be read.

    Raises:
        ProblemError: an event cannot be read; the problem has its path.
    """
    try:
        if media_type == BATCHED:
            return await _read_batch(runtime, body)
        if media_type == STRUCTURED:
            event = await off_loop(len(body), partial(CloudEvent.structured, body))
        else:
            event = _read_binary(headers, body)
        return [await _open(runtime, event)]
    except CloudEventError as error:
        code = "unsupported_media_type" if error.is_media_type else "invalid_cloud_event"
        raise ProblemError(code, str(error), {"path": error.path}) from None


async def _read_batch(runtime: Runtime, body: bytes) -> list[Delivery[Event]]:
    limit = runtime.largest_buffer_bytes
    size = await off_loop(len(body), partial(estimated_bytes, body))
    if size > limit:  # Before the batch is split: its elements are objects, too.
        detail = f"the batch takes about {size} bytes in memory, and {limit} are the limit"
        raise ProblemError("event_too_large", detail, {"limit": limit})
    documents = await off_loop(len(body), partial(CloudEvent.split, body))
    if len(documents) > MAX_BATCH_EVENTS:
        detail = f"a batch has {MAX_BATCH_EVENTS} events at most, and this one {len(documents)}"
        detail += f"; send several, or lines to /events/{{name}} as {LINES[0]}"
        raise ProblemError("too_many_events", detail, {"limit": MAX_BATCH_EVENTS})
    turns, deliveries = Turns(), list[Delivery[Event]]()
    for index, document in enumerate(documents):
        await turns.next()
        reading = partial(CloudEvent.structured, document, f"$[{index}]")
        event = await off_loop(memoryview(document).nbytes, reading)
        deliveries.append(await _open(runtime, event))
    return deliveries


async def _open(runtime: Runtime, event: CloudEvent) -> Delivery[Event]:
    require_type(runtime.events, event.type, event.at, "type" if event.at == "ce-" else ".type")
    if not event.data:
        raise _invalid("the body, which is the event's data, is empty", "$")
    return event.delivery(*await decode(runtime, event.type, event.data, at=event.data_at))


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
        return unquote(unquoted(value), errors="strict")
    except UnicodeDecodeError:
        raise _invalid("percent-encoding that is not UTF-8", name) from None


def unquoted(value: str) -> str:
    """The content of a quoted string, without its backslashes; another value as it is."""
    if len(value) >= 2 and value.startswith('"') and value.endswith('"'):
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _invalid(reason: str, path: str) -> ProblemError:
    return ProblemError("invalid_cloud_event", f"{reason}, at {path}", {"path": path})
