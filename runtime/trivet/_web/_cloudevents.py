"""CloudEvents 1.0 over HTTP: `POST /events` in structured, binary and batched mode.

Owns the taking apart of a CloudEvent into an event and its envelope.
Never knows what becomes of them; that is `_ingest`'s.
"""

from __future__ import annotations

import base64
from typing import Annotated, TypeVar
from urllib.parse import unquote

import attrs
import msgspec
from werkzeug.http import unquote_header_value

from .._envelope import Delivery
from .._events import Event, EventTypes, Timestamp
from .._runtime import Runtime
from ._front import Answer, Call, Front
from ._ingest import Publisher, deadline_at, decode, is_json, require_type, wait_wanted
from ._problems import ProblemError
from ._publishing import answer

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"

Text = Annotated[str, msgspec.Meta(min_length=1)]
T = TypeVar("T")
Headers = list[tuple[str, str]]
"""Names in small letters, and values."""


@attrs.frozen(kw_only=True)
class Attributes:
    """The context attributes that mean something here; others are let through unread."""

    specversion: Text
    id: Text
    source: Text
    type: Text
    """The event type's name."""
    time: Timestamp | None = None
    expirytime: Timestamp | None = None
    """When nobody needs it any more; of the expiry time extension."""
    subject: str | None = None
    partitionkey: str | None = None
    traceparent: str | None = None
    datacontenttype: str | None = None


@attrs.frozen(kw_only=True)
class Structured(Attributes):
    """A CloudEvent in the JSON format; its data stays as it is until the type is known."""

    data: msgspec.Raw = attrs.field(default=msgspec.Raw())  # msgspec takes no factory here
    data_base64: str | None = None


_structured = msgspec.json.Decoder(Structured)
_batch = msgspec.json.Decoder(list[Structured])


def add_cloudevents(front: Front, runtime: Runtime) -> None:
    """Serve `POST /events`."""
    publish = Publisher(runtime)

    async def publish_cloudevents(call: Call) -> Answer:
        """Publish one CloudEvent, or a batch of them."""
        wait = wait_wanted(call)
        types = runtime.events
        media_type = call.media_type
        batch = media_type == BATCHED
        if batch:
            events = read_batch(types, await call.read())
        elif media_type == STRUCTURED:
            events = [read_structured(types, await call.read())]
        else:
            _require_binary(call.headers, media_type)
            events = [read_binary(types, call.headers, await call.read())]
        outcomes = await publish(call, events, wait=wait)
        return answer(runtime, outcomes, waited=wait, batch=batch)

    front.add("POST", "/events", publish_cloudevents)


def read_structured(types: EventTypes, document: bytes) -> Delivery[Event]:
    """One CloudEvent, attributes and data in one document."""
    return _open(types, _parse(_structured, document), "$")


def read_batch(types: EventTypes, document: bytes) -> list[Delivery[Event]]:
    """Several of them in an array: all, or none if one of them is wrong."""
    events = _parse(_batch, document)
    return [_open(types, event, f"$[{index}]") for index, event in enumerate(events)]


def read_binary(types: EventTypes, headers: Headers, payload: bytes) -> Delivery[Event]:
    """The attributes in `ce-` headers, the data as the body."""
    given = {
        name.removeprefix("ce-"): _decode_header(name, value)
        for name, value in headers
        if name.startswith("ce-")
    }
    try:
        attributes = msgspec.convert(given, Attributes)
    except msgspec.ValidationError as error:
        reason, path = _explain(error)
        raise _invalid(reason, path.replace("$.", "ce-") if path != "$" else "ce-*") from None
    _require_version(attributes, "ce-", "specversion")
    require_type(types, attributes.type, "ce-", "type")
    if not payload:
        raise _invalid("the body, which is the event's data, is empty", "$")
    return _incoming(types, attributes, payload, "$")


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


def _parse(decoder: msgspec.json.Decoder[T], document: bytes) -> T:
    try:
        return decoder.decode(document)
    except msgspec.DecodeError as error:
        raise _invalid(*_explain(error)) from None
    except RecursionError:
        raise _invalid("nested too deeply", "$") from None


def _explain(error: msgspec.DecodeError) -> tuple[str, str]:
    """The reason and the path that msgspec puts into one text."""
    reason, _, path = str(error).partition(" - at ")
    return reason, path.strip("`") or "$"


def _open(types: EventTypes, event: Structured, at: str) -> Delivery[Event]:
    _require_version(event, at, ".specversion")
    require_type(types, event.type, at, ".type")
    if event.datacontenttype:
        _require_json(event.datacontenttype, at)
    payload, place = _data(event, at)
    return _incoming(types, event, payload, place)


def _require_json(content_type: str, at: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not is_json(media_type):
        path = f"{at}.datacontenttype"
        detail = f"the data must be JSON, not {media_type}, at {path}"
        raise ProblemError("unsupported_media_type", detail, {"path": path})


def _require_version(attributes: Attributes, at: str, member: str) -> None:
    if attributes.specversion != "1.0":
        raise _invalid(f"specversion is '1.0' here, not {attributes.specversion!r}", at + member)


def _data(event: Structured, at: str) -> tuple[bytes, str]:
    data = bytes(event.data)
    if event.data_base64 is None:
        if not data:
            raise _invalid("data is missing", at)
        return data, f"{at}.data"
    if data:
        raise _invalid("data and data_base64 exclude each other", at)
    try:
        return base64.b64decode(event.data_base64, validate=True), f"{at}.data_base64"
    except ValueError:
        raise _invalid("not Base64", f"{at}.data_base64") from None


def _incoming(
    types: EventTypes, attributes: Attributes, payload: bytes, at: str
) -> Delivery[Event]:
    return Delivery.of(
        decode(types, attributes.type, payload, at=at),
        id=attributes.id,
        source=attributes.source,
        time=attributes.time,
        key=attributes.partitionkey or attributes.subject,
        deadline=deadline_at(attributes.expirytime),
        traceparent=attributes.traceparent,
    )


def _invalid(reason: str, path: str) -> ProblemError:
    return ProblemError("invalid_cloud_event", f"{reason}, at {path}", {"path": path})
