"""Messages published, many at once, each confirmed.

Owns what it means that RabbitMQ returns or refuses one.
Never knows whose messages they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiormq.exceptions import DeliveryError, PublishError

from .._broker import AwayError, RefusedError
from ._channel import BatchChannel, Sent
from ._connection import Line, meant_by


def _nothing(_: int) -> None:
    pass


async def publish(
    line: Line,
    channel: BatchChannel,
    messages: Sequence[Sent],
    *,
    exchange: str = "",
    routing_key: str,
    setting: str,
    confirm: Callable[[int], None] = _nothing,
) -> None:
    """Publish messages, in order, and wait until RabbitMQ has confirmed all of them.

    Args:
        line: the connection.
        channel: one with confirms.
        messages: bodies and properties.
        exchange: where to.
        routing_key: and for whom.
        setting: the one that names that.
        confirm: called with the number of each that RabbitMQ has.

    Raises:
        AwayError: it has not all of them.
    """
    with line.translated():
        async with asyncio.timeout(line.timeout):
            confirms = await channel.publish_all(messages, exchange, routing_key)
    fault: BaseException | None = None
    for number, wrong in enumerate(await line.confirmed(confirms)):
        if wrong is None:
            confirm(number)
        else:
            fault = fault or wrong
    channel.forget_all()
    if fault is not None:
        raise line.end or _meant(fault, exchange, routing_key, setting)


def _meant(fault: BaseException, exchange: str, routing_key: str, setting: str) -> AwayError:
    if isinstance(fault, PublishError):
        where = f"the exchange {exchange!r} has no queue" if exchange else "there is no queue"
        return RefusedError(setting, f"unroutable: {where} for {routing_key!r}")
    if isinstance(fault, DeliveryError):
        return AwayError("RabbitMQ refuses messages: a queue is full, or not to be had")
    return meant_by(fault)
