"""Dead letters as JSON documents: in a list, and one with all that is known of it.

Owns the names of the facts, and what stands in place of a part that is damaged.
Never knows who reads a document, nor whether that one may see a payload.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from msgspec.structs import astuple

from .._events._history import FIRST, History
from .._faults._errors import EventDecodeError
from ._packing import Envelope, unpack_history
from ._records import DeadLetter

ENVELOPE = ("type", "id", "source", "time", "key", "expires_at", "request_id", "traceparent")
"""Names for the first parts of a stored envelope; the others are internal."""


def facts(letter: DeadLetter) -> dict[str, object]:
    """The facts of one dead letter in a list, without its payload."""
    history = _history(letter)
    return {
        "number": letter.number,
        "plugin": letter.plugin,
        "event": letter.event,
        "id": letter.id,
        "source": letter.source,
        "died_at": _utc(letter.died_at),
        "attempts": history.attempts + history.crashes,
        "reason": letter.reason,
    }


def everything(letter: DeadLetter) -> dict[str, object]:
    """The facts of one dead letter, with its failures, its envelope and its payload."""
    history = _history(letter)
    return {
        **facts(letter),
        "crashes": history.crashes,
        "failures": [{"at": _utc(each.at), "error": each.error} for each in history.failures],
        "envelope": _envelope(letter.envelope),
        "payload": _payload(letter.payload),
    }


def _history(letter: DeadLetter) -> History:
    """The history of the attempts; an empty one if it is damaged in the file."""
    try:
        return unpack_history(letter.history)
    except EventDecodeError:
        return FIRST


def _envelope(envelope: bytes) -> object:
    """The envelope's parts by name; the bytes of the file if they are damaged."""
    try:
        parts = msgspec.json.decode(envelope, type=Envelope)
    except (ValueError, RecursionError):
        return _payload(envelope)
    values = astuple(parts)[: len(ENVELOPE)]
    document: dict[str, object] = dict(zip(ENVELOPE, values, strict=True))
    if parts.expires is not None:
        document["expires_at"] = _utc(parts.expires)
    return document


def _payload(payload: bytes) -> object:
    """The payload as it was stored; as text if it is not JSON, which may be the reason."""
    try:
        msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return payload.decode(errors="backslashreplace")
    return msgspec.Raw(payload)


def _utc(seconds: float) -> datetime:
    """The moment, or the last or first moment of the calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC) if seconds > 0 else datetime(1, 1, 1, tzinfo=UTC)
