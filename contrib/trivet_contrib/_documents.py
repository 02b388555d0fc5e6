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


class UnwritableError(Exception):
    """An event cannot be written as JSON, however often it is tried."""


def document(delivery: Delivery[Event]) -> bytes:
    """An event as a CloudEvent in one document.

    Raises:
        UnwritableError: the event holds a value that JSON cannot express.
    """
    with raising_unwritable(delivery):
        return CloudEvent.document_of(delivery)


@contextmanager
def raising_unwritable(delivery: Delivery[Event]) -> Generator[None]:
    """Raise every exception as an `UnwritableError` about this event: it costs no other event."""
    try:
        yield
    except (EventEncodeError, UnwritableError) as error:
        raise UnwritableError(str(error)) from None
    except Exception as error:
        raise UnwritableError(f"{delivery.event.__event_name__}: {describe(error)}") from None
