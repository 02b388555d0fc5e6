"""An event as one CloudEvent document in JSON.

Owns the media types, and the error for an event that JSON cannot express.
Never knows whether a broker or an HTTP server gets the document.
"""

from __future__ import annotations

from trivet import CloudEvent, Delivery, Event, EventEncodeError

from ._error_text import describe

JSON, STRUCTURED = "application/json", "application/cloudevents+json"


class UnwritableError(Exception):
    """An event cannot be written as JSON, however often it is tried."""


def document(delivery: Delivery[Event]) -> bytes:
    """An event as a CloudEvent in one document.

    Raises:
        UnwritableError: the event holds a value that JSON cannot express.
    """
    try:
        return CloudEvent.document_of(delivery)
    except Exception as error:
        raise unwritable(delivery, error) from None


def unwritable(delivery: Delivery[Event], error: Exception) -> UnwritableError:
    """The error about this event for any exception that writing it raises: it costs no other."""
    if isinstance(error, (EventEncodeError, UnwritableError)):
        return UnwritableError(str(error))
    return UnwritableError(f"{delivery.event.__event_name__}: {describe(error)}")
