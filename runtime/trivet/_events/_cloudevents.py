"""CloudEvents 1.0, read and written: structured as one JSON document, or binary.

Owns both forms, and what their attributes mean for an event's envelope.
Never knows what carries them, HTTP or a broker, nor which event types there are.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar, cast

import attrs
import msgspec
import trio

from .._faults._errors import TrivetError
from ._delivery import Delivery, utc_now
from ._event import Event, EventT, Timestamp
from ._payloads import encode_event
from ._types import path_and_reason

STRUCTURED = "application/cloudevents+json"

LONGEST = 400
"""Characters that an attribute may have. What is remembered of an event, so that it is known when
it comes again, is its source and id."""
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST)]
Optional = Annotated[str, msgspec.Meta(max_length=LONGEST)] | None
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
T = TypeVar("T")


@attrs.define(eq=False)
class CloudEventError(TrivetError, ValueError):
    """What came is no CloudEvent whose data is JSON.

    >>> str(CloudEventError("data is missing", "$"))
    'data is missing, at $'
    """

    reason: str
    """What is wrong there."""
    path: str
    """Where: `$.time` in a document, `ce-time` among attributes."""
    is_media_type: bool = False
    """Whether it is a CloudEvent, but one whose data is not JSON."""

    def __str__(self) -> str:
        return f"{self.reason}, at {self.path}"


class Attributes(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The context attributes that mean something here; others are let through unread."""

    specversion: Text
    id: Text
    source: Text
    type: Text
    """The event type's name."""
    time: Timestamp | None = None
    expirytime: Timestamp | None = None
    """When nobody needs it any more; of the expiry time extension."""
    subject: Optional = None
    partitionkey: Optional = None
    traceparent: Optional = None
    datacontenttype: Optional = None


PREFIX = "ce-"
"""Before the names of attributes that come apart from the data."""

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
    """A CloudEvent in the JSON format; its data stays as it is until the type is known."""

    data: msgspec.Raw = msgspec.Raw()
    data_base64: str | None = None


_structured = msgspec.json.Decoder(Structured)
_batch = msgspec.json.Decoder(list[msgspec.Raw])


class CloudEvent(msgspec.Struct, frozen=True, eq=False):
    """One that was read; its data is bytes until somebody knows the event's type.

    >>> document = b'{"specversion": "1.0", "id": "1", "source": "s", "type": "paid", "data": {}}'
    >>> event = CloudEvent.structured(document)
    >>> event.type, event.data
    ('paid', b'{}')
    """

    attributes: Attributes
    data: bytes
    """JSON, as far as the CloudEvent says."""
    at: str = "$"
    """Where it stood in what was read."""
    data_at: str = "$"
    """Where its data stood."""

    @property
    def type(self) -> str:
        """The event type's name."""
        return self.attributes.type

    @staticmethod
    def structured(document: bytes | msgspec.Raw, at: str = "$") -> CloudEvent:
        """One CloudEvent, attributes and data in one document.

        Args:
            document: the JSON.
            at: where it stood, if it was an element of a batch.

        Raises:
            CloudEventError: it is none.
        """
        return _open(_parse(_structured, document, at), at)

    @staticmethod
    def split(document: bytes) -> list[msgspec.Raw]:
        """The elements of a batch, each of which `structured` reads.

        Raises:
            CloudEventError: it is no array.
        """
        return _parse(_batch, document, "$")

    @staticmethod
    def binary(given: Mapping[str, str], data: bytes) -> CloudEvent:
        """One whose attributes came apart from its data.

        Args:
            given: the attributes, by their names behind `ce-`; what else is among them is let be.
            data: what came with them.

        Raises:
            CloudEventError: its path is the attribute's name behind `ce-`.
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
        """The event, which its data was decoded into, in the envelope that came with it.

        Args:
            event: the payload.
            size: the bytes of memory that it takes; see `EventTypes.decode_within`.
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
        """The attributes of an event that is sent on, by their names behind `ce-`."""
        attributes = _attributes_of(delivery)
        return {
            PREFIX + name: value if isinstance(value, str) else value.isoformat()
            for name, value in attributes.items()
        }

    @staticmethod
    def document_of(delivery: Delivery[Event]) -> bytes:
        """An event that is sent on, attributes and data in one document.

        Raises:
            EventEncodeError: JSON cannot express it.
        """
        data = msgspec.Raw(encode_event(delivery.event))
        return msgspec.json.encode({**_attributes_of(delivery), "data": data})


def _attributes_of(delivery: Delivery[Event]) -> dict[str, str | datetime]:
    attributes: dict[str, str | datetime] = {
        "specversion": "1.0",
        "id": delivery.id,
        "source": delivery.source,
        "type": delivery.event.__event_name__,
        "time": delivery.time,
        "datacontenttype": "application/json",
    }
    if delivery.key is not None:
        attributes["partitionkey"] = delivery.key
    if delivery.traceparent is not None:
        attributes["traceparent"] = delivery.traceparent
    if delivery.deadline != math.inf:
        attributes["expirytime"] = _moment_of(delivery.deadline)
    return attributes


def _moment_of(deadline: float) -> datetime:
    """A deadline by the calendar, whose first and last moments stand for all beyond them."""
    try:
        return utc_now() + timedelta(seconds=deadline - trio.current_time())
    except OverflowError:
        if deadline > trio.current_time():
            return datetime.max.replace(tzinfo=UTC)
        return datetime.min.replace(tzinfo=UTC)


def deadline_at(expires: datetime) -> float:
    """A moment of the calendar on Trio's clock."""
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
    """Whether this is JSON, by its name.

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
    """Refuse control characters, which the specification excludes; `before` is of the path."""
    a = attributes
    # Nearly all are printable; what is not may still be text, such as a space of another width.
    if f"{a.id}{a.source}{a.subject}{a.partitionkey}{a.traceparent}".isprintable():
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
