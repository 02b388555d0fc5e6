"""Messages published, many at once, each confirmed.

Owns what it means that RabbitMQ returns or refuses one.
Never knows whose messages they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiormq.channel import Channel
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from .._broker import AwayError, RefusedError
from ._connection import Line, meant_by

Sent = tuple[bytes, Basic.Properties]


def _nothing(_: int) -> None:
    pass


async def publish(
    line: Line,
    channel: Channel,
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
            ends = await asyncio.gather(
                *(
                    channel.basic_publish(
                        body,
                        exchange=exchange,
                        routing_key=routing_key,
                        properties=properties,
                        mandatory=True,
                        wait=False,
                    )
                    for body, properties in messages
                ),
                return_exceptions=True,
            )
    fault: BaseException | None = None
    for number, end in enumerate(ends):
        if isinstance(end, BaseException):
            fault = fault or end
        else:
            confirm(number)
    if fault is not None:
        raise line.end or _meant(fault, exchange, routing_key, setting)


def _meant(fault: BaseException, exchange: str, routing_key: str, setting: str) -> AwayError:
    if isinstance(fault, PublishError):
        where = f"the exchange {exchange!r} has no queue" if exchange else "there is no queue"
        return RefusedError(setting, f"unroutable: {where} for {routing_key!r}")
    if isinstance(fault, DeliveryError):
        return AwayError("RabbitMQ refuses messages: a queue is full, or not to be had")
    return meant_by(fault)
