"""Messages of AMQP, and the messages of a connector.

Owns the names of headers and properties: those of CloudEvents begin with `cloudEvents:` here.
Never knows how messages travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable, FieldValue

from .._brokers._client import Message, Received
from ._library import AmqpMessage, UnreadableHeader, fault_of

PREFIX, AMQP_PREFIX, ALTERNATIVE = "ce-", "cloudEvents:", "cloudEvents_"
CONTENT_TYPE, DATA_CONTENT_TYPE = "content-type", "ce-datacontenttype"
EARLIER_DELIVERIES = "trivet-deliveries"
"""The header with the deliveries of a message before it was published again."""
DELIVERY_COUNT = "x-delivery-count"
PERSISTENT = 2
LONGEST_PROPERTY = 255
"""Bytes of a property, at most."""
NOT_REPUBLISHED = frozenset({"CC", "BCC", DELIVERY_COUNT})
"""The headers that RabbitMQ would act on when a message is published again."""


def properties(message: Message) -> Basic.Properties:
    """The properties of a message, which are sent before the body."""
    headers: FieldTable = {}
    content_type = None
    for name, value in message.headers.items():
        if name == CONTENT_TYPE:
            content_type = value
        elif name.startswith(PREFIX):
            headers[AMQP_PREFIX + name[len(PREFIX) :]] = value
        else:
            headers[name] = value
    return Basic.Properties(
        content_type=content_type,
        headers=headers,
        delivery_mode=PERSISTENT,
        message_id=_message_id(message),
    )


def _message_id(message: Message) -> str | None:
    identifier = message.headers.get(f"{PREFIX}id") or message.id.rpartition(" ")[2]
    return identifier if 0 < len(identifier.encode()) <= LONGEST_PROPERTY else None


def received(delivered: DeliveredMessage, tag: str) -> Received:
    """A message that was delivered to a consumer."""
    given = delivered.header.properties
    headers: dict[str, str] = {}
    if given.content_type:
        headers[CONTENT_TYPE] = given.content_type
    for name, value in (given.headers or {}).items():
        if name.startswith((AMQP_PREFIX, ALTERNATIVE)):
            headers[PREFIX + name[len(AMQP_PREFIX) :].lower()] = _text(value)
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
    """How often a message was delivered to a consumer, this time included."""
    counts = [headers.get(name) for name in (DELIVERY_COUNT, EARLIER_DELIVERIES)]
    return 1 + sum(count for count in counts if isinstance(count, int) and count > 0)


def _text(value: FieldValue) -> str:
    if isinstance(value, (bytes, bytearray)):
        return value.decode(errors="replace")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).isoformat()
    return str(value)


def fingerprint(delivered: DeliveredMessage) -> tuple[object, ...]:
    """The parts of a message that are the same at each delivery."""
    given = delivered.header.properties
    headers = {name: each for name, each in (given.headers or {}).items() if name != DELIVERY_COUNT}
    where = (delivered.exchange, delivered.routing_key)
    about = (given.message_id, given.content_type, repr(given.timestamp), repr(headers))
    return (*where, *about, delivered.body)


def body_only(message: Received, **facts: str | int) -> AmqpMessage:
    """The body of a message with these headers alone: its own cannot be sent again."""
    return message.body, Basic.Properties(
        headers={name.replace("_", "-"): value for name, value in facts.items()},
        delivery_mode=PERSISTENT,
    )


def republished(message: Received, **facts: str | int) -> AmqpMessage:
    """A copy of a message, to be published again, with these headers added.

    Properties that could not be decoded are in the header `dead-properties`, as bytes.
    """
    assert isinstance(message.raw, DeliveredMessage)
    given = message.raw.header.properties
    headers = dict(given.headers or {})
    for name in NOT_REPUBLISHED:
        headers.pop(name, None)
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
