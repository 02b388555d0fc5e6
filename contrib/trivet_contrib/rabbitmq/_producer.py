"""A producer for an exchange, or a queue.

Owns where a sink's messages go.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs

from .._brokers._client import Message, Producer
from ._channel import BatchChannel
from ._checks import Queue, look_at_exchange, look_at_queue
from ._connection import Line, Server, open_line
from ._messages import properties
from ._publishing import publish


@attrs.frozen(kw_only=True)
class Target:
    """Where to."""

    exchange: str
    routing_key: str
    queue: Queue | None
    """The one that it is, where there is no exchange between."""


class RabbitmqProducer(Producer):
    """See `Producer`. Made by `open_producer`."""

    def __init__(self, line: Line, channel: BatchChannel, target: Target) -> None:
        self._line = line
        self._channel = channel
        self._target = target

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """See `Producer`."""
        target = self._target
        await publish(
            self._line,
            self._channel,
            [(message.body, properties(message)) for message in messages],
            exchange=target.exchange,
            routing_key=target.routing_key,
            setting="queue" if target.queue else "routing_key",
            taken=taken,
        )


@asynccontextmanager
async def open_producer(server: Server, target: Target) -> AsyncGenerator[Producer]:
    """Connect, to publish.

    Raises:
        AwayError: RabbitMQ does not answer.
        RefusedError: it does, and something is wrong: `url`, `queue`, `exchange`.
    """
    async with open_line(server) as line:
        missing: list[str] = []
        if target.exchange:
            await look_at_exchange(line, target.exchange)
        if target.queue is not None:
            missing = await look_at_queue(line, target.queue, consumes=False)
        producer = RabbitmqProducer(line, await line.lasting_channel(confirms=True), target)
        producer.not_promised = tuple(missing)
        yield producer
