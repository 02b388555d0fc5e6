"""Messages of AMQP and those of a connector.

Owns which properties and headers are whose: CloudEvents' attributes are `cloudEvents:` here.
Never knows how they travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable, FieldValue

from .._brokers._client import Message, Received
from ._frames import UnreadableHeader, fault_of

PREFIX, OURS, ALTERNATIVE = "ce-", "cloudEvents:", "cloudEvents_"
CONTENT_TYPE, DATA_CONTENT_TYPE = "content-type", "ce-datacontenttype"
FAILED = "trivet-deliveries"
"""How often a message was delivered before it was published anew."""
COUNT = "x-delivery-count"
PERSISTENT = 2
LONGEST = 255
"""Bytes of a property."""
NOT_AGAIN = frozenset({"CC", "BCC", COUNT})
"""The headers that would mean something when a message is published anew."""


def properties(message: Message) -> Basic.Properties:
    """What goes before the body."""
    headers: FieldTable = {}
    content_type = None
    for name, value in message.headers.items():
        if name == CONTENT_TYPE:
            content_type = value
        elif name.startswith(PREFIX):
            headers[OURS + name[len(PREFIX) :]] = value
        else:
            headers[name] = value
    return Basic.Properties(
        content_type=content_type,
        headers=headers,
        delivery_mode=PERSISTENT,
        message_id=_message_id(message),
    )


def _message_id(message: Message) -> str | None:
    known_by = message.headers.get(f"{PREFIX}id") or message.id.rpartition(" ")[2]
    return known_by if 0 < len(known_by.encode()) <= LONGEST else None


def received(delivered: DeliveredMessage, tag: str) -> Received:
    """A message of a consumer's."""
    given = delivered.header.properties
    headers: dict[str, str] = {}
    if given.content_type:
        headers[CONTENT_TYPE] = given.content_type
    for name, value in (given.headers or {}).items():
        if name.startswith((OURS, ALTERNATIVE)):
            headers[PREFIX + name[len(OURS) :].lower()] = _text(value)
    data_content_type = headers.pop(DATA_CONTENT_TYPE, None)
    if data_content_type is not None:
        headers.setdefault(CONTENT_TYPE, data_content_type)
    return Received(
        delivered.body,
        headers,
        given.message_id or "",
        tag=tag,
        deliveries=deliveries_of(given.headers or {}),
        fault=fault_of(delivered),
        raw=delivered,
    )


def deliveries_of(headers: Mapping[str, FieldValue]) -> int:
    """How often it was handed to a consumer, now included."""
    counts = [headers.get(name) for name in (COUNT, FAILED)]
    return 1 + sum(count for count in counts if isinstance(count, int) and count > 0)


def _text(value: FieldValue) -> str:
    if isinstance(value, (bytes, bytearray)):
        return value.decode(errors="replace")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).isoformat()
    return str(value)


def known_by(delivered: DeliveredMessage) -> tuple[object, ...]:
    """What is the same, whenever and to whom a message is delivered."""
    given = delivered.header.properties
    headers = {name: each for name, each in (given.headers or {}).items() if name != COUNT}
    where = (delivered.exchange, delivered.routing_key)
    said = (given.message_id, given.content_type, repr(given.timestamp), repr(headers))
    return (*where, *said, delivered.body)


def bare(message: Received, **facts: str | int) -> tuple[bytes, Basic.Properties]:
    """A message's body with these headers alone: what came with it cannot be sent again."""
    return message.body, Basic.Properties(
        headers={name.replace("_", "-"): value for name, value in facts.items()},
        delivery_mode=PERSISTENT,
    )


def anew(message: Received, **facts: str | int) -> tuple[bytes, Basic.Properties]:
    """A message as it came, to be published once more, with these headers besides.

    What could not be decoded of what came with its body is in `dead-properties`, as bytes.
    """
    assert isinstance(message.raw, DeliveredMessage)
    given = message.raw.header.properties
    headers = {name: each for name, each in (given.headers or {}).items() if name not in NOT_AGAIN}
    if isinstance(message.raw.header, UnreadableHeader):
        headers["dead-properties"] = bytearray(message.raw.header.raw)
    headers |= {name.replace("_", "-"): value for name, value in facts.items()}
    return message.body, Basic.Properties(
        content_type=given.content_type,
        content_encoding=given.content_encoding,
        headers=headers,
        delivery_mode=PERSISTENT,
        priority=given.priority,
        correlation_id=given.correlation_id,
        reply_to=given.reply_to,
        message_id=given.message_id,
        timestamp=given.timestamp,
        message_type=given.message_type,
        app_id=given.app_id,
    )
