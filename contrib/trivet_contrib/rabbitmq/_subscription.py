"""The consumer that RabbitMQ sends a queue's messages to, and its credit.

Owns the number of messages that RabbitMQ may send, and the frames that acknowledge them.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from .._brokers._client import BrokerRefusedError
from ._connection import Connection
from ._library import BatchChannel
from ._unacked import Unacked, UnackedMessage

LARGEST_PREFETCH = 65535
"""The largest `prefetch_count`."""
SPARE = 32
"""Messages that RabbitMQ may send, besides twice those that there is room for."""


async def _ignore(_: DeliveredMessage) -> None:
    """Do nothing: the channel itself passes messages on."""


class Subscription:
    """The one consumer of a queue on a channel. Made by `open`.

    A quorum queue gives a consumer credit: how many messages it may still send. Every
    acknowledgement gives some of it back, so one consumer lasts as long as there is as much room as
    before. For more room, and for much less, the consumer is replaced. A second consumer beside it
    would cost the order of the messages.
    """

    def __init__(
        self, connection: Connection, channel: BatchChannel, queue: str, unacked: Unacked
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._queue = queue
        self._unacked = unacked
        self._replacing = asyncio.Lock()
        """Held while the consumer is replaced; acknowledgements, which give credit, wait."""
        self._tag = ""
        self._numbers = count(1)
        self._credit = 0
        self._sent = 0
        """Unacknowledged messages that the present consumer has brought."""
        self._consumers: dict[int, str] = {}
        """The consumer that brought each unacknowledged message, the oldest message first."""

    @classmethod
    async def open(cls, connection: Connection, queue: str, unacked: Unacked) -> Subscription:
        """Open a channel; RabbitMQ may not send anything yet."""
        channel = await connection.open_lasting_channel()
        subscription = cls(connection, channel, queue, unacked)
        channel.on_message = subscription._on_message
        channel.on_consumer_cancel_callbacks.add(subscription._on_cancelled)
        return subscription

    def is_worth_waiting(self, count: int) -> bool:
        """Whether acknowledgements may soon give as much credit as a replacement would."""
        return not self._credit and count <= self._sent // 2

    async def make_room(self, count: int) -> None:
        """Let RabbitMQ send messages until `count` of them are buffered."""
        async with self._replacing:
            await self._make_room(min(count, LARGEST_PREFETCH))

    async def _make_room(self, count: int) -> None:
        # Messages on their way to a consumer that is replaced come again, at the end of the queue
        # and counted. For more room there are none, while there is no credit.
        if 0 < self._credit <= 2 * count + SPARE:
            return
        await self.stop()
        if (more := count - len(self._unacked.buffered)) <= 0:
            return
        await self.limit(more)
        self._tag, self._credit, self._sent = f"{next(self._numbers)}", more, 0
        with self._connection.translating():
            await self._channel.basic_consume(
                self._queue, _ignore, consumer_tag=self._tag, timeout=self._connection.timeout
            )

    async def limit(self, count: int) -> None:
        """Set the prefetch; RabbitMQ answers after it has handled all that was sent before."""
        with self._connection.translating():
            timeout = self._connection.timeout
            await self._channel.basic_qos(prefetch_count=count, timeout=timeout)

    async def stop(self) -> None:
        """Have no more messages sent; messages that have come stay in flight."""
        if self._tag:
            with self._connection.translating():
                await self._channel.basic_cancel(self._tag, timeout=self._connection.timeout)
            self._tag = ""
            self._credit = self._sent = 0

    async def acknowledge(self, done: Iterable[UnackedMessage]) -> None:
        """Acknowledge messages; all up to the first unfinished message need one frame together."""
        async with self._replacing:
            numbers, together = {each.delivery for each in done if each.delivery is not None}, 0
            for number in self._consumers:
                if number not in numbers:
                    break
                together = number
            with self._connection.translating():
                if together:
                    await self._channel.basic_ack(together, multiple=True, wait=False)
                for number in numbers:
                    if number > together:
                        await self._channel.basic_ack(number, wait=False)
                    self._forget(number)

    async def give_back(self, number: int) -> None:
        """Put a message back into the queue."""
        async with self._replacing:
            with self._connection.translating():
                await self._channel.basic_nack(number, requeue=True, wait=False)
            self._forget(number)

    def _forget(self, number: int) -> None:
        if self._consumers.pop(number, None) == self._tag:
            self._credit += 1
            self._sent -= 1

    def _on_message(self, delivered: DeliveredMessage) -> None:
        delivery = delivered.delivery
        assert isinstance(delivery, Basic.Deliver)
        number, tag = delivery.delivery_tag or 0, delivery.consumer_tag or ""
        self._consumers[number] = tag
        if tag == self._tag:
            self._credit -= 1
            self._sent += 1
        self._unacked.add(delivered, number, is_redelivered=bool(delivery.redelivered))
        self._connection.wake()

    def _on_cancelled(self, frame: Basic.Cancel) -> None:
        reason = f"the queue {self._queue!r} is missing: RabbitMQ has ended {frame.consumer_tag}"
        self._connection.fail(BrokerRefusedError("queue", reason))
