"""A producer for an exchange, or a queue.

Owns which of a batch need not be sent again.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs

from .._broker import Message, Producer
from ._channel import BatchChannel
from ._connection import Line, Server, open_line
from ._messages import properties
from ._publishing import publish
from ._queues import Queue, look_at_exchange, look_at_queue


@attrs.frozen(kw_only=True)
class Target:
    """Where to."""

    exchange: str
    routing_key: str
    queue: Queue | None
    """The one that it is, where there is no exchange between."""


@attrs.define
class Batch:
    """What is being sent, from one connection to the next."""

    messages: Sequence[Message] = ()
    left: list[Message] = attrs.field(factory=list[Message])
    """What of it RabbitMQ has not confirmed."""

    def begin(self, messages: Sequence[Message]) -> None:
        """Send these, or what is left of them."""
        if self.messages is not messages:
            self.messages, self.left = messages, list(messages)


class RabbitmqProducer(Producer):
    """See `Producer`. Made by `open_producer`."""

    def __init__(self, line: Line, channel: BatchChannel, target: Target, batch: Batch) -> None:
        self._line = line
        self._channel = channel
        self._target = target
        self._batch = batch

    async def send(self, messages: Sequence[Message]) -> None:
        """See `Producer`. What of a batch is confirmed is not sent again with the rest."""
        batch, target = self._batch, self._target
        batch.begin(messages)
        confirmed: set[int] = set()
        try:
            await publish(
                self._line,
                self._channel,
                [(message.body, properties(message)) for message in batch.left],
                exchange=target.exchange,
                routing_key=target.routing_key,
                setting="queue" if target.queue else "routing_key",
                confirm=confirmed.add,
            )
        finally:
            left = enumerate(batch.left)
            batch.left = [message for number, message in left if number not in confirmed]
        batch.messages = ()


@asynccontextmanager
async def open_producer(server: Server, target: Target, batch: Batch) -> AsyncGenerator[Producer]:
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
        producer = RabbitmqProducer(line, await line.lasting_channel(confirms=True), target, batch)
        producer.not_promised = tuple(missing)
        yield producer
