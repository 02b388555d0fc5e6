"""CloudEvents 1.0, read and written: structured as one JSON document, or binary.

Owns both forms, and the meaning of their attributes for an event's envelope.
Never knows the carrier, HTTP or a broker, nor the event types of a program.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar, cast

import attrs
import msgspec
import trio

from .._faults._errors import TrivetError
from ._delivery import Delivery, utc_now
from ._event import Event, EventT, Timestamp
from ._payloads import encode_with
from ._types import path_and_reason

STRUCTURED = "application/cloudevents+json"

MAX_LENGTH = 400
"""Characters of an attribute, at most: the source and id of each event are kept to recognise
repetitions."""
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LENGTH)]
OptionalText = Annotated[str, msgspec.Meta(max_length=MAX_LENGTH)] | None
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
T = TypeVar("T")


@attrs.define(eq=False)
class CloudEventError(TrivetError, ValueError):
    """A message is no CloudEvent, or a CloudEvent whose data is not JSON.

    >>> str(CloudEventError("data is missing", "$"))
    'data is missing, at $'
    """

    reason: str
    """The reason, in one line."""
    path: str
    """The place: `$.time` in a document, `ce-time` among attributes."""
    is_media_type: bool = False
    """Whether the only fault is that the data is not JSON."""

    def __str__(self) -> str:
        return f"{self.reason}, at {self.path}"


class Attributes(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The context attributes that Trivet reads; it ignores others."""

    specversion: Text
    id: Text
    source: Text
    type: Text
    """The event type's name."""
    time: Timestamp | None = None
    expirytime: Timestamp | None = None
    """The moment after which the event is not worth handling; of the expiry time extension."""
    subject: OptionalText = None
    partitionkey: OptionalText = None
    traceparent: OptionalText = None
    datacontenttype: OptionalText = None


PREFIX = "ce-"
"""The prefix of the names of attributes in the binary form."""

_Prefixed = cast(
    "type[Attributes]",
    msgspec.defstruct(
        "_Prefixed",
        [
            (field.name, field.type) if field.required else (field.name, field.type, field.default)
            for field in msgspec.structs.fields(Attributes)
        ],
        bases=(Attributes,),
        rename=lambda name: PREFIX + name,
        frozen=True,
        kw_only=True,
        eq=False,
    ),
)


class Structured(Attributes, frozen=True, kw_only=True, eq=False):
    """A CloudEvent in the JSON format; the data is decoded when the event type is known."""

    data: msgspec.Raw = msgspec.Raw()
    """The data as JSON; empty for none."""
    data_base64: str | None = None
    """The data in Base64, in the place of `data`."""


_structured = msgspec.json.Decoder(Structured)
_batch = msgspec.json.Decoder(list[msgspec.Raw])


class CloudEvent(msgspec.Struct, frozen=True, eq=False):
    """A CloudEvent that was read; the data stays bytes until the event type is known.

    >>> document = b'{"specversion": "1.0", "id": "1", "source": "s", "type": "paid", "data": {}}'
    >>> event = CloudEvent.structured(document)
    >>> event.type, event.data
    ('paid', b'{}')
    """

    attributes: Attributes
    """The context attributes."""
    data: bytes
    """The data, which is JSON if the CloudEvent tells the truth."""
    at: str = "$"
    """The place of the CloudEvent in the document that was read."""
    data_at: str = "$"
    """The place of the data there."""

    @property
    def type(self) -> str:
        """The event type's name."""
        return self.attributes.type

    @staticmethod
    def structured(document: bytes | msgspec.Raw, at: str = "$") -> CloudEvent:
        """Read a CloudEvent whose attributes and data are one document.

        Args:
            document: the JSON.
            at: the place of the document, if it was an element of a batch.

        Raises:
            CloudEventError: the document is no CloudEvent.
        """
        return _open(_parse(_structured, document, at), at)

    @staticmethod
    def split(document: bytes) -> list[msgspec.Raw]:
        """The elements of a batch, for `structured`.

        Raises:
            CloudEventError: the document is no array.
        """
        return _parse(_batch, document, "$")

    @staticmethod
    def binary(given: Mapping[str, str], data: bytes) -> CloudEvent:
        """Read a CloudEvent whose attributes came apart from its data.

        Args:
            given: the attributes, whose names begin with `ce-`; other keys are ignored.
            data: the bytes that came with them.

        Raises:
            CloudEventError: an attribute is missing or wrong; the error's path is its name.
        """
        try:
            attributes = msgspec.convert(given, _Prefixed)
        except msgspec.ValidationError as error:
            path, reason = path_and_reason(str(error))
            at = f"{PREFIX}*" if path == "$" else path.removeprefix("$.")
            raise CloudEventError(reason, at) from None
        _require_version(attributes, "ce-specversion")
        _require_text(attributes, PREFIX)
        return CloudEvent(attributes, data, PREFIX)

    def delivery(self, event: EventT, size: int = 0) -> Delivery[EventT]:
        """Put the decoded event into the envelope that came with it.

        Args:
            event: the payload.
            size: bytes of memory that it takes; see `EventTypes.decode_within`.
        """
        attributes, expires = self.attributes, self.attributes.expirytime
        return Delivery.of(
            event,
            size=size,
            id=attributes.id,
            source=attributes.source,
            time=attributes.time,
            key=attributes.partitionkey or attributes.subject,
            deadline=None if expires is None else deadline_at(expires),
            traceparent=attributes.traceparent,
        )

    @staticmethod
    def attributes_of(delivery: Delivery[Event]) -> dict[str, str]:
        """The attributes of an event to send, by names that begin with `ce-`."""
        attributes: dict[str, Any] = msgspec.structs.asdict(_sent(delivery))
        return {
            PREFIX + name: value if isinstance(value, str) else value.isoformat()
            for name, value in attributes.items()
            if value is not None
        }

    @staticmethod
    def document_of(delivery: Delivery[Event]) -> bytes:
        """The document of an event to send, with attributes and data.

        Raises:
            EventEncodeError: JSON cannot express the event.
        """
        event = delivery.event
        return encode_with(event, _sent(delivery, event))


class _Sent(msgspec.Struct, omit_defaults=True, eq=False):
    """A CloudEvent to send, written in this order."""

    specversion: str
    id: str
    source: str
    type: str
    time: datetime
    datacontenttype: str
    partitionkey: str | None = None
    traceparent: str | None = None
    expirytime: datetime | None = None
    data: Event | None = None


def _sent(delivery: Delivery[Event], data: Event | None = None) -> _Sent:
    """The CloudEvent to send; the data may go apart from it."""
    return _Sent(
        "1.0",
        delivery.id,
        delivery.source,
        delivery.event.__event_name__,
        delivery.time,
        "application/json",
        delivery.key,
        delivery.origin.traceparent,
        None if delivery.deadline == math.inf else _moment_of(delivery.deadline),
        data,
    )


def _moment_of(deadline: float) -> datetime:
    """A deadline as a date; the first and the last date stand for all moments beyond them."""
    try:
        return utc_now() + timedelta(seconds=deadline - trio.current_time())
    except OverflowError:
        if deadline > trio.current_time():
            return datetime.max.replace(tzinfo=UTC)
        return datetime.min.replace(tzinfo=UTC)


def deadline_at(expires: datetime) -> float:
    """A date as seconds on Trio's clock."""
    return trio.current_time() + (expires - utc_now()).total_seconds()


def _parse(decoder: msgspec.json.Decoder[T], document: bytes | msgspec.Raw, at: str) -> T:
    try:
        return decoder.decode(document)
    except msgspec.DecodeError as error:
        path, reason = path_and_reason(str(error))
        raise CloudEventError(reason, at + path.removeprefix("$")) from None
    except UnicodeDecodeError as error:
        raise CloudEventError(str(error), at) from None
    except RecursionError:
        raise CloudEventError("nested too deeply", at) from None


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON.

    >>> is_json("application/json"), is_json("application/vnd.api+json"), is_json("text/plain")
    (True, True, False)
    """
    return media_type == "application/json" or media_type.endswith("+json")


def _open(event: Structured, at: str) -> CloudEvent:
    _require_version(event, f"{at}.specversion")
    _require_text(event, f"{at}.")
    if event.datacontenttype:
        _require_json(event.datacontenttype, f"{at}.datacontenttype")
    data, place = _data(event, at)
    return CloudEvent(event, data, at, place)


def _require_json(content_type: str, path: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not is_json(media_type):
        reason = f"the data must be JSON, not {media_type}"
        raise CloudEventError(reason, path, is_media_type=True)


def _require_version(attributes: Attributes, path: str) -> None:
    if attributes.specversion != "1.0":
        raise CloudEventError(f"specversion is '1.0' here, not {attributes.specversion!r}", path)


def _require_text(attributes: Attributes, before: str) -> None:
    """Refuse control characters, as the specification does; paths in errors begin with `before`."""
    a = attributes
    # Nearly all are printable; others may be text all the same, such as a space of another width.
    text = a.id + a.source
    if not (a.subject is a.partitionkey is a.traceparent is None):
        text = f"{text}{a.subject}{a.partitionkey}{a.traceparent}"
    if text.isprintable():
        return
    for name in ("id", "source", "subject", "partitionkey", "traceparent"):
        if _CONTROL.search(getattr(a, name) or ""):
            raise CloudEventError("control characters", before + name)


def _data(event: Structured, at: str) -> tuple[bytes, str]:
    data = bytes(event.data)
    if event.data_base64 is None:
        if not data:
            raise CloudEventError("data is missing", at)
        return data, f"{at}.data"
    if data:
        raise CloudEventError("data and data_base64 exclude each other", at)
    try:
        return base64.b64decode(event.data_base64, validate=True), f"{at}.data_base64"
    except ValueError:
        raise CloudEventError("not Base64", f"{at}.data_base64") from None
