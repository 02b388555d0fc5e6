"""Entries of a stream, and the messages of a connector.

Owns the fields of an entry: the body is in one, and the others are headers.
Never knows the commands that carry them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

from coredis.response.types import StreamEntry

from .._brokers._client import Message, Received

BODY = "data"
"""The field that holds the body; the other fields are headers."""
TRIMMED = "it was trimmed or deleted while it was in flight"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_BODY = BODY.encode()


def fields_of(message: Message) -> dict[str, str | bytes]:
    """The fields of the entry for a message."""
    return {**message.headers, BODY: message.body}


def size_of(message: Message) -> int:
    """Bytes of the largest field of a message."""
    return max(len(message.body), *(len(value.encode()) for value in message.headers.values()))


def received(tag: str, raw: Sequence[bytes], deliveries: int = 1) -> Received:
    """An entry as a message; `raw` has the names and values of its fields in turn."""
    if raw[-2] == _BODY:  # An entry of the sink ends with its body.
        headers = _headers(raw[:-2]) if len(raw) > 2 else NO_HEADERS
        return Received(raw[-1], headers, tag=tag, deliveries=deliveries, raw=raw)
    fields = _pairs(raw)
    body = fields.pop(_BODY, None)
    headers = _headers([each for field in fields.items() for each in field])
    fault = f"it has no field {BODY!r}" if body is None else None
    return Received(body or b"", headers, tag=tag, deliveries=deliveries, fault=fault, raw=raw)


def redelivered(entry: StreamEntry, deliveries: int) -> Received:
    """An entry that was delivered before, as a message."""
    fields = cast("dict[bytes, bytes]", entry.field_values)
    raw = [each for field in fields.items() for each in field]
    return received(as_text(entry.identifier), raw, deliveries)


def trimmed(identifier: str | bytes) -> Received:
    """The rest of an entry that was trimmed or deleted before it was acknowledged."""
    fault = f"{TRIMMED}; its content is lost"
    return Received(b"", NO_HEADERS, tag=as_text(identifier), fault=fault, raw=())


def as_dead_letter(message: Received, reason: str, stream: str) -> dict[bytes, bytes]:
    """The fields of a dead letter: those of the entry, and why and where it died."""
    facts = {
        b"dead-reason": reason.encode(errors="backslashreplace"),
        b"dead-stream": stream.encode(),
        b"dead-id": message.tag.encode(),
        b"dead-deliveries": b"%d" % message.deliveries,
    }
    return {**_pairs(message.raw), **facts}


def as_text(value: str | bytes) -> str:
    """A name or a value of Redis as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _pairs(raw: object) -> dict[bytes, bytes]:
    each = iter(cast("Sequence[bytes]", raw))
    return {name: next(each) for name in each}


def _headers(raw: Sequence[bytes]) -> dict[str, str]:
    try:
        texts = map(bytes.decode, raw)
        return dict(zip(texts, texts, strict=False))  # Of the one iterator, in turn.
    except UnicodeDecodeError:
        return {as_text(name): as_text(value) for name, value in _pairs(raw).items()}
