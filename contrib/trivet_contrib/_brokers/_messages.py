"""Events as messages of a broker: CloudEvents, binary and structured, and plain JSON.

Owns the three formats, and the rules by which a message is unreadable.
Never knows a particular broker: its client says where body and attributes are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from trivet import (
    CloudEvent,
    CloudEventError,
    Delivery,
    Event,
    EventDecodeError,
    EventTypes,
    encode_event,
)

from .._documents import JSON, STRUCTURED, document, unwritable
from .._error_text import describe
from ._client import Message, Received

Format = Literal["binary", "structured", "json"]
"""A CloudEvent with its attributes as headers; a CloudEvent as one document; its data alone."""

CONTENT_TYPE, SPECVERSION = "content-type", "ce-specversion"
TRACEPARENT = "traceparent"
"""The W3C trace context, where no CloudEvent has it."""
LONGEST_TRACEPARENT = 200
"""Characters of a trace context from outside, at most."""


class UnreadableError(Exception):
    """A message holds no event, however often it is read."""


def write(delivery: Delivery[Event], format: Format) -> Message:
    """An event as a message.

    Raises:
        UnwritableError: the event holds a value that JSON cannot express.
    """
    try:
        return _written(delivery, format)
    except Exception as error:
        raise unwritable(delivery, error) from None


def _written(delivery: Delivery[Event], format: Format) -> Message:
    identity = f"{delivery.source} {delivery.id}"
    if format == "structured":
        return Message(document(delivery), {CONTENT_TYPE: STRUCTURED}, id=identity)
    body = encode_event(delivery.event)
    headers = {CONTENT_TYPE: JSON}
    if delivery.traceparent is not None:
        headers[TRACEPARENT] = delivery.traceparent
    if format == "binary":
        headers |= CloudEvent.attributes_of(delivery)
        del headers["ce-datacontenttype"]  # The content type says the same.
    for text in (identity, *headers.values()):
        text.encode()  # No broker takes a lone surrogate.
    return Message(body, headers, id=identity)


class Limits(dict[type[Event], int]):
    """The bytes of memory that an event of each type may take; each type is asked for once.

    Args:
        buffer_bytes: gives the bytes of a type.
    """

    def __init__(self, buffer_bytes: Callable[[type[Event]], int]) -> None:
        super().__init__()
        self._buffer_bytes = buffer_bytes

    def __missing__(self, cls: type[Event]) -> int:
        self[cls] = limit = self._buffer_bytes(cls)
        return limit


@attrs.frozen
class Reader:
    """A reader of messages.

    Args:
        types: the event types of the program.
        only_type: the type of every message, whatever a message says; None if messages say it.
        source: an event's source if its message names none. The event's id is then the message's
            id, or its tag.
    """

    types: EventTypes
    only_type: type[Event] | None
    source: str

    def read(self, message: Received, limits: Limits) -> Delivery[Event] | None:
        """The event of a message, in its envelope; None for a message that needs `read_large`.

        Raises:
            UnreadableError: the message holds no event.
        """
        try:
            found, cls, data = self._opened(message)
            decoded = self.types.decode_small(cls, data, limits[cls])
            if decoded is None:
                return None
            event, size = decoded
            return self._delivery(message, found, event, size)
        except Exception as error:
            raise _unreadable(error) from None

    async def read_large(self, message: Received, limits: Limits) -> Delivery[Event]:
        """See `read`; the document may be decoded in a thread."""
        try:
            found, cls, data = self._opened(message)
            event, size = await self.types.decode_within(cls, data, limits[cls])
            return self._delivery(message, found, event, size)
        except Exception as error:
            raise _unreadable(error) from None

    def _opened(self, message: Received) -> tuple[CloudEvent | None, type[Event], bytes]:
        """The CloudEvent of a message, if any, and the type and the document of its event."""
        if message.fault is not None:
            raise UnreadableError(message.fault)
        found = _cloud_event(message) if message.headers else None
        # A reload may have closed it since the source began, or have put another in its place.
        cls = self.only_type and self._named(self.only_type.__event_name__)
        if found is not None:
            return found, cls or self._named(found.type), found.data
        if cls is None:
            raise UnreadableError("no CloudEvent, and `event` does not say what it is")
        return None, cls, message.body

    def _delivery(
        self, message: Received, found: CloudEvent | None, event: Event, size: int
    ) -> Delivery[Event]:
        if found is not None:
            return found.delivery(event, size)
        given = message.id or message.tag
        traceparent = _traceparent(message)
        return Delivery.of(event, size=size, id=given, source=self.source, traceparent=traceparent)

    def _named(self, name: str) -> type[Event]:
        cls = self.types.get(name)
        if cls is None or not self.types.is_open(cls):
            raise UnreadableError(f"no event type that may come from outside is named {name!r}")
        return cls


def _unreadable(error: Exception) -> UnreadableError:
    """The fault of one message, which costs no other message."""
    if isinstance(error, CloudEventError | EventDecodeError | UnreadableError):
        return UnreadableError(str(error))
    return UnreadableError(describe(error))


def _traceparent(message: Received) -> str | None:
    """The trace context of a message, whatever its body is."""
    given = message.headers.get(TRACEPARENT, "")
    return given if given.isprintable() and 0 < len(given) <= LONGEST_TRACEPARENT else None


def _cloud_event(message: Received) -> CloudEvent | None:
    """The CloudEvent of a message; None for plain JSON."""
    headers = message.headers
    content_type = headers.get(CONTENT_TYPE, JSON)
    if content_type != JSON:
        content_type = content_type.partition(";")[0].strip().lower()
        if content_type == STRUCTURED:
            return CloudEvent.structured(message.body)
        if content_type != JSON and not content_type.endswith("+json"):
            raise UnreadableError(f"{CONTENT_TYPE}: the data must be JSON, not {content_type}")
    if SPECVERSION not in headers:
        return None
    return CloudEvent.binary(headers, message.body)
