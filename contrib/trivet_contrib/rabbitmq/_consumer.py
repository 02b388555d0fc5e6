"""A consumer of a quorum queue.

Owns how much RabbitMQ may send, and how it is told what has become of it.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count

import attrs
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from .._brokers._client import AwayError, Consumer, Received, RefusedError
from ._channel import BatchChannel, Sent, UnsayableError
from ._checks import Queue, look_at_queue
from ._connection import Line, Server
from ._messages import anew, bare
from ._publishing import publish
from ._unacked import Hand, Held

MOST = 65535
"""What `prefetch_count` can be."""
PATIENCE = 0.02
"""Seconds in which acknowledgements may bring more, before the consumer is replaced for little."""
SPARE = 32
"""Messages that RabbitMQ may send, besides twice those that there is room for."""


async def _nobody(_: DeliveredMessage) -> None:
    """It is the channel that is heard."""


class RabbitmqConsumer(Consumer):
    """See `Consumer`. Made by `open_consumer`.

    A quorum queue has credit for a consumer: how much more it may send. It comes back with every
    acknowledgement, so one consumer lasts as long as there is as much room as before. For more
    room, and for much less, it is replaced. A second one beside it would cost the order.
    """

    visibility = 0.0  # While the connection lasts nobody else gets what is in hand.

    def __init__(self, line: Line, queue: Queue, hand: Hand) -> None:
        self._line = line
        self._queue = queue
        self._hand = hand
        self._channel: BatchChannel
        self._publishing: BatchChannel
        self._replacing = asyncio.Lock()
        """What gives credit waits meanwhile."""
        self._consuming = ""
        self._consumers = count(1)
        self._credit = 0
        self._sent = 0
        """What is not acknowledged of what the present consumer has brought."""
        self._open: dict[int, str] = {}
        """Which consumer has brought what is not acknowledged, the oldest first."""
        self._failed: deque[tuple[float, int]] = deque()
        """When to give back what has failed."""
        self._giving_back: asyncio.Task[None] | None = None
        self.has_left = False

    async def begin(self) -> None:
        """Look at the queue, and be ready."""
        self.not_promised = tuple(await look_at_queue(self._line, self._queue, consumes=True))
        self._channel = await self._line.lasting_channel()
        self._channel.hear = self._hear
        self._channel.on_consumer_cancel_callbacks.add(self._cancelled)
        self._publishing = await self._line.lasting_channel(confirms=True)

    @property
    def is_usable(self) -> bool:
        """Whether it may be taken again, by who has left it for a moment."""
        return self._line.end is None and not self.has_left

    # What RabbitMQ may send.

    async def fetch(self, count: int) -> list[Received]:
        """See `Consumer`."""
        arrived = self._hand.arrived
        if not arrived and not self._credit and count <= self._sent // 2:
            await self._line.wait(PATIENCE)
        if not arrived:
            async with self._replacing:
                await self._make_room(count)
            if not arrived:
                await self._line.wait(self._line.timeout / 2)
            if not arrived:
                await self._limit(1)  # Whether it answers at all.
        return [arrived.popleft().message for _ in range(min(count, len(arrived)))]

    async def _make_room(self, count: int) -> None:
        count = min(count, MOST)
        # What is on its way to a consumer that is replaced comes again, at the end and counted:
        # for more room there is none while there is no credit.
        if 0 < self._credit <= 2 * count + SPARE:
            return
        await self._stop_consuming()
        if (more := count - len(self._hand.arrived)) <= 0:
            return
        await self._limit(more)
        self._consuming, self._credit, self._sent = f"{next(self._consumers)}", more, 0
        with self._line.translated():
            await self._channel.basic_consume(
                self._queue.name,
                _nobody,
                consumer_tag=self._consuming,
                timeout=self._line.timeout,
            )

    async def _limit(self, count: int) -> None:
        with self._line.translated():
            await self._channel.basic_qos(prefetch_count=count, timeout=self._line.timeout)

    def _hear(self, delivered: DeliveredMessage) -> None:
        delivery = delivered.delivery
        assert isinstance(delivery, Basic.Deliver)
        number, tag = delivery.delivery_tag or 0, delivery.consumer_tag or ""
        self._open[number] = tag
        if tag == self._consuming:
            self._credit -= 1
            self._sent += 1
        self._hand.add(delivered, number, is_again=bool(delivery.redelivered))
        self._line.wake()

    async def _stop_consuming(self) -> None:
        """Have nothing more sent; what has come stays in hand."""
        if self._consuming:
            with self._line.translated():
                await self._channel.basic_cancel(self._consuming, timeout=self._line.timeout)
            self._consuming = ""
            self._credit = self._sent = 0

    def _cancelled(self, frame: Basic.Cancel) -> None:
        reason = (
            f"the queue {self._queue.name!r} is missing: RabbitMQ has ended {frame.consumer_tag}"
        )
        self._line.fail(RefusedError("queue", reason))

    # What RabbitMQ is told.

    async def acknowledge(self, messages: Sequence[Received]) -> int:
        """See `Consumer`. What of it comes again meanwhile is told, too."""
        while known := self._hand.known(messages):
            await self._acknowledge(known)
            self._hand.drop([held.message for held in known])
        self._hand.drop(messages)
        return 0

    async def _acknowledge(self, done: Iterable[Held]) -> None:
        """Those with nothing before them that is not done need one frame together."""
        async with self._replacing:
            await self._acknowledge_all(done)

    async def _acknowledge_all(self, done: Iterable[Held]) -> None:
        numbers, together = {held.delivery for held in done if held.delivery is not None}, 0
        for number in self._open:
            if number not in numbers:
                break
            together = number
        with self._line.translated():
            if together:
                await self._channel.basic_ack(together, multiple=True, wait=False)
            for number in numbers:
                if number > together:
                    await self._channel.basic_ack(number, wait=False)
                self._close(number)

    def _close(self, number: int) -> None:
        if self._open.pop(number, None) == self._consuming:
            self._credit += 1
            self._sent -= 1

    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        """See `Consumer`: they are given back when the visibility is over.

        Of those that wait for it there are no more than half of what may be in hand, so that they
        hold up nobody.
        """
        due = asyncio.get_running_loop().time() + self._queue.visibility
        for held in self._hand.known(messages):
            assert held.delivery is not None
            self._failed.append((due, held.delivery))
            self._hand.remember(held)
        self._hand.drop(messages)
        while len(self._failed) > self._queue.prefetch // 2:
            await self._give_back(self._failed.popleft()[1])
        if self._failed and (self._giving_back is None or self._giving_back.done()):
            self._giving_back = asyncio.create_task(self._give_back_later())
        return []

    async def _give_back_later(self) -> None:
        with suppress(AwayError):  # Then it comes again anyway.
            while self._failed:
                due, number = self._failed[0]
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                if self._failed and self._failed[0][1] == number:
                    self._failed.popleft()
                    await self._give_back(number)

    async def _give_back(self, number: int) -> None:
        async with self._replacing:
            with self._line.translated():
                await self._channel.basic_nack(number, requeue=True, wait=False)
            self._close(number)

    async def bury(self, messages: Sequence[tuple[Received, str]]) -> None:
        """See `Consumer`: there first, then gone from here."""
        reasons = {message.tag: reason for message, reason in messages}
        dead = [message for message, _ in messages]
        while known := self._hand.known(dead):
            await publish(
                self._line,
                self._publishing,
                [self._letter(held.message, reasons[held.message.tag]) for held in known],
                routing_key=self._queue.dead_letters,
                setting="dead_letters",
                taken=set(),
            )
            await self._acknowledge(known)
            self._hand.drop([held.message for held in known])
        self._hand.drop(dead)  # What was lost with a connection comes again, and is judged then.

    def _letter(self, message: Received, reason: str) -> Sent:
        facts: dict[str, str | int] = {
            "dead_reason": reason.encode(errors="backslashreplace").decode(),
            "dead_queue": self._queue.name,
            "dead_deliveries": message.deliveries,
        }
        letter = anew(message, **facts)
        return letter if self._can_say(letter) else bare(message, **facts)

    def _can_say(self, message: Sent) -> bool:
        try:
            self._publishing.framed(message, "", self._queue.name)
        except UnsayableError:
            return False
        return True

    async def extend(self, messages: Sequence[Received]) -> None:
        """See `Consumer`: the connection does it."""

    async def leave(self) -> None:
        """See `Consumer`.

        RabbitMQ counts as a delivery what is given back, and has it at the end of the queue. So it
        is published anew there, uncounted; only what the queue does not take is given back.
        """
        await self._stop_consuming()
        while self._failed:
            await self._give_back(self._failed.popleft()[1])
        hand = self._hand
        held = hand.known([each.message for each in hand.held.values()])
        published = await self._publish_anew(held)
        await self._acknowledge(each for each in held if each in published)
        for each in held:
            if each not in published and each.delivery is not None:
                await self._give_back(each.delivery)
        await self._limit(1)  # Answered after all that was told before.
        hand.held.clear()
        hand.arrived.clear()
        self.has_left = True

    async def _publish_anew(self, held: Sequence[Held]) -> set[Held]:
        """Those that the queue has taken."""
        again = {
            each: anew(each.message, trivet_deliveries=each.message.deliveries - 1)
            for each in held
            if each.message.fault is None
        }
        said = {each: message for each, message in again.items() if self._can_say(message)}
        taken: set[int] = set()
        try:
            await publish(
                self._line,
                self._publishing,
                list(said.values()),
                routing_key=self._queue.name,
                setting="queue",
                taken=taken,
            )
        except AwayError:
            if self._line.end is not None:
                raise
        return {each for place, each in enumerate(said) if place in taken}

    async def pause(self) -> None:
        """Have nothing more sent, for now."""
        await self._stop_consuming()

    async def close(self) -> None:
        """End the connection."""
        if self._giving_back is not None:
            self._giving_back.cancel()
        await self._line.close()


@attrs.define
class Kept:
    """The connection between two who use it: what is in hand is of that connection alone."""

    hand: Hand = attrs.field(factory=Hand)
    consumer: RabbitmqConsumer | None = None

    def take(self) -> RabbitmqConsumer | None:
        """It, where there is one."""
        taken, self.consumer = self.consumer, None
        return taken


@asynccontextmanager
async def open_consumer(server: Server, queue: Queue, kept: Kept) -> AsyncGenerator[Consumer]:
    """Connect to a queue, or go on with the connection that is kept.

    One that is lost, or has been taken leave of, ends with the block; any other is kept.

    Raises:
        AwayError: RabbitMQ does not answer.
        RefusedError: it does, and something is wrong: `url`, `queue`, `exchange`, and so on.
    """
    consumer = kept.take()
    if consumer is None or not consumer.is_usable:
        if consumer is not None:
            await consumer.close()
        kept.hand.lose()
        consumer = await _connected(server, queue, kept.hand)
    try:
        yield consumer
    finally:
        with suppress(AwayError):
            if consumer.is_usable:
                await consumer.pause()
        if consumer.is_usable:
            kept.consumer = consumer
        else:
            await consumer.close()


async def _connected(server: Server, queue: Queue, hand: Hand) -> RabbitmqConsumer:
    line = Line(server)
    try:
        await line.begin()
        consumer = RabbitmqConsumer(line, queue, hand)
        await consumer.begin()
    except BaseException:
        await line.close()
        raise
    return consumer
