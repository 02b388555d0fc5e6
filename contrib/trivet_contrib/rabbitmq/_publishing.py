"""Messages published, many at once, each confirmed.

Owns what it means that RabbitMQ returns or refuses one.
Never knows whose messages they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiormq.exceptions import DeliveryError, PublishError

from .._brokers._client import AwayError, RefusedError, UnsendableError
from ._channel import BatchChannel, Sent, UnsayableError
from ._connection import Line, meant_by


async def publish(
    line: Line,
    channel: BatchChannel,
    messages: Sequence[Sent],
    *,
    exchange: str = "",
    routing_key: str,
    setting: str,
    taken: set[int],
) -> None:
    """Publish messages, in order, and wait until RabbitMQ has confirmed all of them.

    Args:
        line: the connection.
        channel: one with confirms.
        messages: bodies and properties.
        exchange: where to.
        routing_key: and for whom.
        setting: the one that names that.
        taken: gets the place of each that RabbitMQ has confirmed.

    Raises:
        AwayError: it has not all of them.
        UnsendableError: AMQP does not have what is in some of them; none was sent.
    """
    framed = _framed(channel, messages, exchange, routing_key)
    with line.translated():
        async with asyncio.timeout(line.timeout):
            confirms = await channel.publish_all(framed)
    try:
        faults = await line.confirmed(confirms)
    finally:
        taken.update(place for place, each in enumerate(confirms) if _is_good(each))
    for fault in faults:
        if fault is not None:
            raise line.end or _meant(fault, exchange, routing_key, setting)


def _framed(
    channel: BatchChannel, messages: Sequence[Sent], exchange: str, routing_key: str
) -> list[bytes]:
    framed: list[bytes] = []
    reasons: dict[int, str] = {}
    for place, message in enumerate(messages):
        try:
            framed.append(channel.framed(message, exchange, routing_key))
        except UnsayableError as error:
            reasons[place] = str(error)
    if reasons:
        raise UnsendableError(reasons)
    return framed


def _is_good(confirm: asyncio.Future[object]) -> bool:
    return confirm.done() and not confirm.cancelled() and confirm.exception() is None


def _meant(fault: BaseException, exchange: str, routing_key: str, setting: str) -> AwayError:
    if isinstance(fault, PublishError):
        where = f"the exchange {exchange!r} has no queue" if exchange else "there is no queue"
        return RefusedError(setting, f"unroutable: {where} for {routing_key!r}")
    if isinstance(fault, DeliveryError):
        return AwayError("RabbitMQ refuses messages: a queue is full, or not to be had")
    return meant_by(fault)
