"""Messages published to RabbitMQ, many at once, each confirmed.

Owns the meaning of a message that RabbitMQ returns or refuses.
Never knows whose messages they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiormq.exceptions import DeliveryError, PublishError

from .._brokers._client import (
    BrokerRefusedError,
    BrokerUnavailableError,
    UnsendableMessagesError,
)
from ._connection import Connection, translated
from ._library import AmqpMessage, BatchChannel, UnencodableError


async def publish(
    connection: Connection,
    channel: BatchChannel,
    messages: Sequence[AmqpMessage],
    *,
    exchange: str = "",
    routing_key: str,
    setting: str,
    taken: set[int],
) -> None:
    """Publish messages in order, and wait until RabbitMQ has confirmed all of them.

    Args:
        connection: the connection.
        channel: a channel with confirms.
        messages: bodies and properties.
        exchange: the exchange to publish to.
        routing_key: the routing key of each message.
        setting: the setting that names the exchange, the key or the queue.
        taken: receives the index of each message that RabbitMQ has confirmed.

    Raises:
        BrokerUnavailableError: RabbitMQ has not confirmed all messages.
        UnsendableMessagesError: AMQP cannot express some messages; none was sent.
    """
    encoded = _encoded(channel, messages, exchange, routing_key)
    with connection.translating():
        async with asyncio.timeout(connection.timeout):
            confirms = await channel.publish_all(encoded)
    try:
        errors = await connection.confirmed(confirms)
    finally:
        taken.update(index for index, each in enumerate(confirms) if _is_good(each))
    for error in errors:
        if error is not None:
            raise connection.error or _refusal(error, exchange, routing_key, setting)


def _encoded(
    channel: BatchChannel, messages: Sequence[AmqpMessage], exchange: str, routing_key: str
) -> list[bytes]:
    encoded: list[bytes] = []
    reasons: dict[int, str] = {}
    for index, message in enumerate(messages):
        try:
            encoded.append(channel.encode(message, exchange, routing_key))
        except UnencodableError as error:
            reasons[index] = str(error)
    if reasons:
        raise UnsendableMessagesError(reasons)
    return encoded


def _is_good(confirm: asyncio.Future[object]) -> bool:
    return confirm.done() and not confirm.cancelled() and confirm.exception() is None


def _refusal(
    error: BaseException, exchange: str, routing_key: str, setting: str
) -> BrokerUnavailableError:
    if isinstance(error, PublishError):
        where = f"the exchange {exchange!r} has no queue" if exchange else "there is no queue"
        return BrokerRefusedError(setting, f"unroutable: {where} for {routing_key!r}")
    if isinstance(error, DeliveryError):
        reason = "RabbitMQ refuses messages: a queue is full, or unavailable"
        return BrokerUnavailableError(reason)
    return translated(error)
