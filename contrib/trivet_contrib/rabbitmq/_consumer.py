"""A consumer of a quorum queue.

Owns the reports about messages, and the release of messages at a stop.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import attrs

from .._brokers._client import BrokerUnavailableError, Consumer, Received, Server
from ._checks import Queue, check_queue
from ._connection import Connection
from ._library import AmqpMessage, BatchChannel, UnencodableError
from ._messages import body_only, republished
from ._publishing import publish
from ._subscription import Subscription
from ._unacked import Unacked, UnackedMessage

WAIT_FOR_CREDIT = 0.02
"""Seconds in which acknowledgements may give credit, before the consumer is replaced for little
room."""


class RabbitmqConsumer(Consumer):
    """See `Consumer`. Made by `open_consumer`."""

    visibility = 0.0  # While the connection lasts no other consumer gets these messages.

    def __init__(self, connection: Connection, queue: Queue, unacked: Unacked) -> None:
        self._connection = connection
        self._queue = queue
        self._unacked = unacked
        self._subscription: Subscription
        self._publishing: BatchChannel
        self._failed: deque[tuple[float, int]] = deque()
        """Failed messages, each with the time at which it is given back."""
        self._giving_back: asyncio.Task[None] | None = None
        self.is_released = False

    async def open(self) -> None:
        """Check the queue, and open the channels."""
        self.missing_guarantees = tuple(
            await check_queue(self._connection, self._queue, consumes=True)
        )
        self._subscription = await Subscription.open(
            self._connection, self._queue.name, self._unacked
        )
        self._publishing = await self._connection.open_lasting_channel(confirms=True)

    @property
    def is_usable(self) -> bool:
        """Whether the next `open_consumer` may go on with this consumer."""
        return self._connection.error is None and not self.is_released

    async def fetch(self, count: int) -> list[Received]:
        """See `Consumer`."""
        buffered, subscription = self._unacked.buffered, self._subscription
        if not buffered and subscription.is_worth_waiting(count):
            await self._connection.wait_for_news(WAIT_FOR_CREDIT)
        if not buffered:
            await subscription.make_room(count)
            if not buffered:
                await self._connection.wait_for_news(self._connection.timeout / 2)
            if not buffered:
                await subscription.limit(1)  # RabbitMQ must answer at least this.
        return [buffered.popleft().message for _ in range(min(count, len(buffered)))]

    async def acknowledge(self, messages: Sequence[Received]) -> int:
        """See `Consumer`. Messages that come again meanwhile are acknowledged as well."""
        while present := self._unacked.on_this_connection(messages):
            await self._acknowledge(present)
            self._unacked.remove([each.message for each in present])
        self._unacked.remove(messages)
        return 0

    async def _acknowledge(self, done: Iterable[UnackedMessage]) -> None:
        await self._subscription.acknowledge(done)

    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        """See `Consumer`: they are given back when the visibility is over.

        At most half of `prefetch` messages wait for that, so that they hold up no other message.
        """
        due = asyncio.get_running_loop().time() + self._queue.visibility
        for each in self._unacked.on_this_connection(messages):
            assert each.delivery is not None
            self._failed.append((due, each.delivery))
            self._unacked.remember_tag(each)
        self._unacked.remove(messages)
        while len(self._failed) > self._queue.prefetch // 2:
            await self._subscription.give_back(self._failed.popleft()[1])
        if self._failed and (self._giving_back is None or self._giving_back.done()):
            self._giving_back = asyncio.create_task(self._give_back_later())
        return []

    async def _give_back_later(self) -> None:
        with suppress(BrokerUnavailableError):  # With the connection RabbitMQ has them back.
            while self._failed:
                due, number = self._failed[0]
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                if self._failed and self._failed[0][1] == number:
                    self._failed.popleft()
                    await self._subscription.give_back(number)

    async def dead_letter(self, messages: Sequence[tuple[Received, str]]) -> None:
        """See `Consumer`: published there first, then acknowledged here."""
        reasons = {message.tag: reason for message, reason in messages}
        dead = [message for message, _ in messages]
        while present := self._unacked.on_this_connection(dead):
            await publish(
                self._connection,
                self._publishing,
                [self._as_dead_letter(each.message, reasons) for each in present],
                routing_key=self._queue.dead_letters,
                setting="dead_letters",
                taken=set(),
            )
            await self._acknowledge(present)
            self._unacked.remove([each.message for each in present])
        self._unacked.remove(dead)  # Messages of a lost connection come again, and are judged then.

    def _as_dead_letter(self, message: Received, reasons: dict[str, str]) -> AmqpMessage:
        facts: dict[str, str | int] = {
            "dead_reason": reasons[message.tag].encode(errors="backslashreplace").decode(),
            "dead_queue": self._queue.name,
            "dead_deliveries": message.deliveries,
        }
        letter = republished(message, **facts)
        return letter if self._can_encode(letter) else body_only(message, **facts)

    def _can_encode(self, message: AmqpMessage) -> bool:
        try:
            self._publishing.encode(message, "", self._queue.name)
        except UnencodableError:
            return False
        return True

    async def extend(self, messages: Sequence[Received]) -> None:
        """See `Consumer`: the connection's heartbeats do it."""

    async def release(self) -> None:
        """See `Consumer`.

        RabbitMQ counts a message that is given back as delivered, and moves it to the end of the
        queue. So the message is published again, uncounted; a message that the queue does not take
        is given back.
        """
        await self._subscription.stop()
        while self._failed:
            await self._subscription.give_back(self._failed.popleft()[1])
        unacked = self._unacked
        present = unacked.on_this_connection([each.message for each in unacked.by_tag.values()])
        published = await self._publish_again(present)
        await self._acknowledge(each for each in present if each in published)
        for each in present:
            if each not in published and each.delivery is not None:
                await self._subscription.give_back(each.delivery)
        await self._subscription.limit(1)  # RabbitMQ answers it after all reports before it.
        unacked.clear()
        self.is_released = True

    async def _publish_again(self, present: Sequence[UnackedMessage]) -> set[UnackedMessage]:
        """Publish messages to their queue again; returns those that the queue has taken."""
        copies = {
            each: republished(each.message, trivet_deliveries=each.message.deliveries - 1)
            for each in present
            if each.message.fault is None
        }
        sent = {each: message for each, message in copies.items() if self._can_encode(message)}
        taken: set[int] = set()
        try:
            await publish(
                self._connection,
                self._publishing,
                list(sent.values()),
                routing_key=self._queue.name,
                setting="queue",
                taken=taken,
            )
        except BrokerUnavailableError:
            if self._connection.error is not None:
                raise
        return {each for index, each in enumerate(sent) if index in taken}

    async def pause(self) -> None:
        """Have no more messages sent, for now."""
        await self._subscription.stop()

    async def close(self) -> None:
        """Close the connection."""
        if self._giving_back is not None:
            self._giving_back.cancel()
        await self._connection.close()


@attrs.define
class Session:
    """The state of a source between two uses of its connection.

    A message of AMQP can be acknowledged only over the connection that brought it, so the
    connection is kept.
    """

    unacked: Unacked = attrs.field(factory=Unacked)
    consumer: RabbitmqConsumer | None = None
    """The consumer that nobody uses now, if there is one."""

    def take(self) -> RabbitmqConsumer | None:
        """Take out the consumer, if there is one."""
        taken, self.consumer = self.consumer, None
        return taken


@asynccontextmanager
async def open_consumer(
    server: Server, queue: Queue, session: Session
) -> AsyncGenerator[RabbitmqConsumer]:
    """Connect to a queue, or go on with the connection of the session.

    A connection that is lost, or whose messages were released, ends with the block. Any other stays
    in the session.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
        BrokerRefusedError: RabbitMQ answers, and a setting is wrong: `url`, `queue`, `exchange` …
    """
    consumer = session.take()
    if consumer is None or not consumer.is_usable:
        if consumer is not None:
            await consumer.close()
        session.unacked.on_connection_lost()
        consumer = await _new_consumer(server, queue, session.unacked)
    try:
        yield consumer
    finally:
        with suppress(BrokerUnavailableError):
            if consumer.is_usable:
                await consumer.pause()
        if consumer.is_usable:
            session.consumer = consumer
        else:
            await consumer.close()


async def _new_consumer(server: Server, queue: Queue, unacked: Unacked) -> RabbitmqConsumer:
    connection = Connection(server)
    try:
        await connection.open()
        consumer = RabbitmqConsumer(connection, queue, unacked)
        await consumer.open()
    except BaseException:
        await connection.close()
        raise
    return consumer
