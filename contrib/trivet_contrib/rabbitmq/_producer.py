"""A producer for an exchange, or for a queue.

Owns the place that a sink's messages go to.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs

from .._brokers._client import Message, Producer, Server
from ._checks import Queue, check_exchange, check_queue
from ._connection import Connection, connected
from ._library import BatchChannel
from ._messages import properties
from ._publishing import publish


@attrs.frozen(kw_only=True)
class Target:
    """An exchange with a routing key, or a queue."""

    exchange: str
    routing_key: str
    queue: Queue | None
    """The queue, if there is no exchange before it."""


class RabbitmqProducer(Producer):
    """See `Producer`. Made by `open_producer`."""

    def __init__(self, connection: Connection, channel: BatchChannel, target: Target) -> None:
        self._connection = connection
        self._channel = channel
        self._target = target

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """See `Producer`."""
        target = self._target
        await publish(
            self._connection,
            self._channel,
            [(message.body, properties(message)) for message in messages],
            exchange=target.exchange,
            routing_key=target.routing_key,
            setting="queue" if target.queue else "routing_key",
            taken=taken,
        )


@asynccontextmanager
async def open_producer(server: Server, target: Target) -> AsyncGenerator[RabbitmqProducer]:
    """Connect, to publish.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
        BrokerRefusedError: RabbitMQ answers, and a setting is wrong: `url`, `queue`, `exchange`.
    """
    async with connected(server) as connection:
        missing: list[str] = []
        if target.exchange:
            await check_exchange(connection, target.exchange)
        if target.queue is not None:
            missing = await check_queue(connection, target.queue, consumes=False)
        channel = await connection.open_lasting_channel(confirms=True)
        producer = RabbitmqProducer(connection, channel, target)
        producer.missing_guarantees = tuple(missing)
        yield producer
