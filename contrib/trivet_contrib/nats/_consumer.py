"""A durable pull consumer of JetStream's.

Owns the requests, the acknowledgements, and what is in hand, from one connection to the next.
Never knows Trivet, nor what a message is about.
"""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

import attrs
import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from .._brokers._client import AwayError, Consumer, Message, Received, UnsendableError
from ._checks import Durable, look_at_consumer
from ._connection import Line, Server, connected, status_of
from ._library import DESCRIPTION
from ._messages import bare, dead_letter, received
from ._publishing import publish
from ._returned import Returned

ACK, TERM, IN_PROGRESS, NAK = b"", b"+TERM", b"+WPI", b"-NAK"
NOTHING_MORE = ("404", "408")
"""The statuses with which a request for messages ends that has brought all there was."""


@attrs.define
class Hand:
    """What a program has of the server's, over whichever connection it came."""

    held: dict[str, Received] = attrs.field(factory=dict[str, Received])
    """What is not acknowledged, by its tag."""
    arrived: deque[Received] = attrs.field(factory=deque[Received])
    """What of it nobody has asked for yet."""

    def add(self, message: Received) -> None:
        """It has come."""
        self.held[message.tag] = message
        self.arrived.append(message)

    def drop(self, messages: Sequence[Received]) -> None:
        """The server has heard of these."""
        for message in messages:
            self.held.pop(message.tag, None)


class NatsConsumer(Consumer):
    """See `Consumer`. Made by `open_consumer`."""

    def __init__(self, line: Line, durable: Durable, hand: Hand, returned: Returned) -> None:
        self.visibility = durable.visibility
        self._line = line
        self._durable = durable
        self._hand = hand
        self._returned = returned
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{durable.stream}.{durable.consumer}"
        self._inbox = line.client.new_inbox()
        self._subscription: Subscription | None = None
        self._asked = 0
        """How many messages the server may still send of those that it was asked for last."""
        self._until = 0.0
        self._news: asyncio.Future[None] | None = None

    async def fetch(self, count: int) -> list[Received]:
        """See `Consumer`."""
        arrived = self._hand.arrived
        if not arrived:
            await self._pull(count)
        taken = [arrived.popleft() for _ in range(min(count, len(arrived)))]
        again = [message for message in taken if message.deliveries > 1]
        if not again:
            return taken
        try:
            returned = await self._returned.counts()
        except BaseException:
            arrived.extendleft(reversed(taken))
            raise
        return [_unblamed(message, returned) for message in taken]

    async def _pull(self, count: int) -> None:
        """Ask for messages, and wait until some have come or there are none."""
        line, loop = self._line, asyncio.get_running_loop()
        if not self._asked:
            with line.translated():
                if self._subscription is None:
                    self._subscription = await line.client.subscribe(
                        self._inbox,
                        cb=self._hear,
                        pending_bytes_limit=0,  # It is asked for; it would be dropped in silence.
                    )
                # It ends with the first messages there are; without any, in half the time.
                expires = int(line.timeout / 2 * 1e9)
                request = {"batch": count, "no_wait": True, "expires": expires}
                self._asked, self._until = count, loop.time() + line.timeout
                await line.client.publish(self._next, json.dumps(request).encode(), self._inbox)
        self._news = loop.create_future()
        await line.until(self._news, max(0.0, self._until - loop.time()))

    async def _hear(self, message: Msg) -> None:
        status = status_of(message)
        if (found := received(message, self._durable.stream, self._durable.consumer)) is not None:
            self._asked = max(0, self._asked - 1)
            self._hand.add(found)
        elif status in NOTHING_MORE:
            self._asked = 0
        elif not status:
            return  # It is somebody else's, who knows where this listens.
        else:
            headers = message.headers or {}
            reason = headers.get(DESCRIPTION) or "the consumer, or its stream, is gone"
            self._line.fail(AwayError(f"the server sends no messages: {reason}"))
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def acknowledge(self, messages: Sequence[Received]) -> int:
        """See `Consumer`. Whether they were in hand NATS does not say."""
        await self._line.tell([(_reply(message), ACK) for message in messages])
        self._hand.drop(messages)
        return 0

    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        """See `Consumer`: not before the visibility is over."""
        later = json.dumps({"delay": int(self.visibility * 1e9)}).encode()
        await self._line.tell([(_reply(message), NAK + b" " + later) for message in messages])
        self._hand.drop(messages)
        return []

    async def bury(self, messages: Sequence[tuple[Received, str]]) -> None:
        """See `Consumer`: there first, then gone from here; repeated, it is there once."""
        durable = self._durable
        largest = self._line.client.max_payload
        await self._publish(
            [dead_letter(each, reason, durable.stream, largest) for each, reason in messages]
        )
        await self._line.tell([(_reply(message), TERM) for message, _ in messages])
        self._hand.drop([message for message, _ in messages])

    async def _publish(self, letters: Sequence[Message]) -> None:
        """Have the dead letters in their stream, without their bodies where it takes no others."""
        name = self._durable.dead_letters
        taken = set[int]()
        try:
            await publish(self._line, name, name, letters, taken, setting="dead_letters")
        except UnsendableError as error:
            left = [
                bare(letter) if place in error.reasons else letter
                for place, letter in enumerate(letters)
                if place not in taken
            ]
            await publish(self._line, name, name, left, set(), setting="dead_letters")

    async def extend(self, messages: Sequence[Received]) -> None:
        """See `Consumer`."""
        await self._line.tell([(_reply(message), IN_PROGRESS) for message in messages])

    async def leave(self) -> None:
        """See `Consumer`."""
        held = list(self._hand.held.values())
        if held:
            await self._returned.add(held)
            await self._line.tell([(_reply(message), NAK) for message in held])
        self._hand.held.clear()
        self._hand.arrived.clear()

    async def stop(self) -> None:
        """Ask for nothing more, and take in what is on its way: it would lie until its time."""
        if self._subscription is not None and self._line.client.is_connected:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                await self._subscription.drain()  # type: ignore[no-untyped-call]


def _reply(message: Received) -> str:
    assert isinstance(message.raw, Msg)
    return message.raw.reply


def _unblamed(message: Received, returned: dict[str, int]) -> Received:
    given_back = returned.get(message.tag, 0)
    if not given_back:
        return message
    return msgspec.structs.replace(message, deliveries=max(1, message.deliveries - given_back))


@asynccontextmanager
async def open_consumer(
    server: Server, durable: Durable, hand: Hand
) -> AsyncGenerator[NatsConsumer]:
    """Connect to a consumer, which others may be connected to as well.

    Raises:
        AwayError: NATS does not answer.
        RefusedError: it does, and something is wrong: `url`, `stream`, `consumer`, and so on.
    """
    async with connected(server) as line:
        with line.translated():
            missing = await look_at_consumer(line.js, durable)
            returned, also = await Returned.open(line, durable)
        consumer = NatsConsumer(line, durable, hand, returned)
        consumer.not_promised = (*missing, *also)
        try:
            yield consumer
        finally:
            await consumer.stop()
