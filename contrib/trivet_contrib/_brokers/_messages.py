"""Events as messages of a broker: CloudEvents, binary and structured, and plain JSON.

Owns which form a message has, and what makes it one that cannot be read.
Never knows any broker: where its attributes and its body are is for the client to say.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Literal

import attrs

from trivet import (
    CloudEvent,
    CloudEventError,
    Delivery,
    Event,
    EventDecodeError,
    EventEncodeError,
    EventTypes,
    PluginStatusEvent,
    encode_event,
)

from ._client import Message, Received, in_words

Format = Literal["binary", "structured", "json"]
"""A CloudEvent's attributes as headers; all of it as one document; or its data alone."""

JSON, STRUCTURED = "application/json", "application/cloudevents+json"
CONTENT_TYPE, SPECVERSION = "content-type", "ce-specversion"


class UnreadableError(Exception):
    """The message is no event, and will not become one."""


def document(delivery: Delivery[Event]) -> bytes:
    """An event as a CloudEvent in one document.

    Raises:
        UnreadableError: JSON does not have what is in it.
    """
    with _of(delivery):
        return CloudEvent.document_of(delivery)


def write(delivery: Delivery[Event], format: Format) -> Message:
    """An event as a message.

    Raises:
        UnreadableError: JSON does not have what is in it.
    """
    with _of(delivery):
        known_by = f"{delivery.source} {delivery.id}"
        if format == "structured":
            return Message(document(delivery), {CONTENT_TYPE: STRUCTURED}, id=known_by)
        body = encode_event(delivery.event)
        headers = {CONTENT_TYPE: JSON}
        if format == "binary":
            headers |= CloudEvent.attributes_of(delivery)
            del headers["ce-datacontenttype"]  # Which is the content type.
        for text in (known_by, *headers.values()):
            text.encode()  # No broker has a lone surrogate.
        return Message(body, headers, id=known_by)


@contextmanager
def _of(delivery: Delivery[Event]) -> Generator[None]:
    """Whatever is raised while an event is written, it is this event that cannot be."""
    try:
        yield
    except (EventEncodeError, UnreadableError) as error:
        raise UnreadableError(str(error)) from None
    except Exception as error:
        raise UnreadableError(f"{delivery.event.__event_name__}: {in_words(error)}") from None


@attrs.frozen
class Reader:
    """Reads messages into events.

    Args:
        types: what there is.
        all_are: what every message is, whatever it says itself; None where it has to say.
        buffer_bytes: how many bytes of memory an event of a type may take.
    """

    types: EventTypes
    all_are: type[Event] | None
    buffer_bytes: Callable[[type[Event]], int]

    async def read(self, message: Received, source: str) -> Delivery[Event]:
        """The event in its envelope.

        Args:
            message: as it came.
            source: who says that it happened, where the message does not. Its id is then by what
                the message is known, or its tag.

        Raises:
            UnreadableError: it is none.
        """
        if message.fault is not None:
            raise UnreadableError(message.fault)
        try:
            found = _cloud_event(message)
            if found is None:
                return await self._plain(message, source)
            cls = self.all_are or self._named(found.type)
            return found.delivery(*await self._decode(cls, found.data))
        except (CloudEventError, EventDecodeError, UnreadableError) as error:
            raise UnreadableError(str(error)) from None
        except Exception as error:  # It is about this message, and costs no other.
            raise UnreadableError(in_words(error)) from None

    async def _plain(self, message: Received, source: str) -> Delivery[Event]:
        if self.all_are is None:
            raise UnreadableError("no CloudEvent, and `event` does not say what it is")
        event, size = await self._decode(self.all_are, message.body)
        return Delivery.of(event, size=size, id=message.id or message.tag, source=source)

    async def _decode(self, cls: type[Event], body: bytes) -> tuple[Event, int]:
        return await self.types.decode_within(cls, body, self.buffer_bytes(cls))

    def _named(self, name: str) -> type[Event]:
        cls = self.types.get(name)
        if cls is None or cls is PluginStatusEvent:  # From outside it would be a forgery.
            raise UnreadableError(f"no event type that may come from outside is named {name!r}")
        return cls


def _cloud_event(message: Received) -> CloudEvent | None:
    """The CloudEvent that it is; None for plain JSON."""
    headers = message.headers
    if not headers:
        return None
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
