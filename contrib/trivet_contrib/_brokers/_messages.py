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
    if format == "binary":
        headers |= CloudEvent.attributes_of(delivery)
        del headers["ce-datacontenttype"]  # The content type says the same.
    for text in (identity, *headers.values()):
        text.encode()  # No broker takes a lone surrogate.
    return Message(body, headers, id=identity)


@attrs.frozen
class Reader:
    """A reader of messages.

    Args:
        types: the event types of the program.
        only_type: the type of every message, whatever a message says; None if messages say it.
        buffer_bytes: gives the bytes of memory that an event of a type may take.
    """

    types: EventTypes
    only_type: type[Event] | None
    buffer_bytes: Callable[[type[Event]], int]

    async def read(self, message: Received, source: str) -> Delivery[Event]:
        """The event of a message, in its envelope.

        Args:
            message: the message as it came.
            source: the event's source if the message names none. The event's id is then the
                message's id, or its tag.

        Raises:
            UnreadableError: the message holds no event.
        """
        if message.fault is not None:
            raise UnreadableError(message.fault)
        try:
            # A reload may have closed it since the source began.
            only_type = self.only_type and self._named(self.only_type.__event_name__)
            found = _cloud_event(message) if message.headers else None
            if found is None:
                if only_type is None:
                    raise UnreadableError("no CloudEvent, and `event` does not say what it is")  # noqa: TRY301 - translated
                limit = self.buffer_bytes(only_type)
                event, size = await self.types.decode_within(only_type, message.body, limit)
                return Delivery.of(event, size=size, id=message.id or message.tag, source=source)
            cls = only_type or self._named(found.type)
            limit = self.buffer_bytes(cls)
            return found.delivery(*await self.types.decode_within(cls, found.data, limit))
        except (CloudEventError, EventDecodeError, UnreadableError) as error:
            raise UnreadableError(str(error)) from None
        except Exception as error:  # The fault is this message's, and costs no other message.
            raise UnreadableError(describe(error)) from None

    def _named(self, name: str) -> type[Event]:
        cls = self.types.get(name)
        if cls is None or not self.types.is_open(cls):
            raise UnreadableError(f"no event type that may come from outside is named {name!r}")
        return cls


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
