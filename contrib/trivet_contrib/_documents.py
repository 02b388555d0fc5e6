"""An event as one CloudEvent document in JSON.

Owns the media types, and the error for an event that JSON cannot express.
Never knows whether a broker or an HTTP server gets the document.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from trivet import CloudEvent, Delivery, Event, EventEncodeError

from ._error_text import describe

JSON, STRUCTURED = "application/json", "application/cloudevents+json"


class UnreadableError(Exception):
    """The message holds no event, or the event fits into no message; trying again cannot help."""


def document(delivery: Delivery[Event]) -> bytes:
    """An event as a CloudEvent in one document.

    Raises:
        UnreadableError: the event holds a value that JSON cannot express.
    """
    with blaming(delivery):
        return CloudEvent.document_of(delivery)


@contextmanager
def blaming(delivery: Delivery[Event]) -> Generator[None]:
    """Raise every exception as an `UnreadableError` about this event: it costs no other event."""
    try:
        yield
    except (EventEncodeError, UnreadableError) as error:
        raise UnreadableError(str(error)) from None
    except Exception as error:
        raise UnreadableError(f"{delivery.event.__event_name__}: {describe(error)}") from None
