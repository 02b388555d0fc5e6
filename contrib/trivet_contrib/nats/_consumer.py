"""A durable pull consumer of JetStream.

Owns the pull requests, and the reports about messages.
Never knows Trivet, nor what a message is about.
"""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from .._brokers._client import (
    BrokerUnavailableError,
    Consumer,
    Message,
    Received,
    UnsendableMessagesError,
)
from ._checks import DurableConsumer, check_consumer
from ._connection import NatsServer, connected, status_of
from ._library import DESCRIPTION
from ._messages import as_dead_letter, facts_only, received
from ._publishing import publish
from ._release_counts import ReleaseCounts
from ._requests import Requests
from ._unacked import Unacked

ACK, TERM, IN_PROGRESS, NAK = b"", b"+TERM", b"+WPI", b"-NAK"
NO_MORE_MESSAGES = ("404", "408")
"""The statuses that end a pull request which brought all messages that there were."""


class NatsConsumer(Consumer):
    """See `Consumer`. Made by `open_consumer`."""

    def __init__(
        self,
        requests: Requests,
        durable: DurableConsumer,
        unacked: Unacked,
        released: ReleaseCounts,
    ) -> None:
        self.visibility = durable.visibility
        self._requests = requests
        self._connection = requests.connection
        self._durable = durable
        self._unacked = unacked
        self._released = released
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{durable.stream}.{durable.consumer}"
        self._inbox = self._connection.client.new_inbox()
        self._subscription: Subscription | None = None
        self._expected = 0
        """How many messages the server may still send for the last pull request."""
        self._expires_at = 0.0
        self._news: asyncio.Future[None] | None = None

    async def fetch(self, count: int) -> list[Received]:
        """See `Consumer`."""
        buffered = self._unacked.buffered
        if not buffered:
            await self._pull(count)
        messages = [buffered.popleft() for _ in range(min(count, len(buffered)))]
        if not any(message.deliveries > 1 for message in messages):
            return messages
        try:
            released = await self._released.counts()
        except BaseException:
            buffered.extendleft(reversed(messages))
            raise
        return [_without_releases(message, released) for message in messages]

    async def _pull(self, count: int) -> None:
        """Send a pull request, and wait until messages have come or there are none."""
        connection, loop = self._connection, asyncio.get_running_loop()
        if not self._expected:
            with connection.translating():
                if self._subscription is None:
                    self._subscription = await connection.client.subscribe(
                        self._inbox,
                        cb=self._on_message,
                        pending_bytes_limit=0,  # A limit would drop requested messages in silence.
                    )
                # The request ends with the first messages; without any, after half the time limit.
                expires = int(connection.timeout / 2 * 1e9)
                request = {"batch": count, "no_wait": True, "expires": expires}
                self._expected, self._expires_at = count, loop.time() + connection.timeout
                body = json.dumps(request).encode()
                await connection.client.publish(self._next, body, self._inbox)
        self._news = loop.create_future()
        await connection.until(self._news, max(0.0, self._expires_at - loop.time()))

    async def _on_message(self, message: Msg) -> None:
        status = status_of(message)
        found = received(message, self._durable.stream, self._durable.consumer)
        if found is not None:
            self._expected = max(0, self._expected - 1)
            self._unacked.add(found)
        elif status in NO_MORE_MESSAGES:
            self._expected = 0
        elif not status:
            return  # Another program knows this inbox, and has published to it.
        else:
            headers = message.headers or {}
            reason = headers.get(DESCRIPTION) or "the consumer, or its stream, is gone"
            error = BrokerUnavailableError(f"the server sends no messages: {reason}")
            self._connection.fail(error)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def acknowledge(self, messages: Sequence[Received]) -> int:
        """See `Consumer`. NATS does not say whether the messages were still in flight."""
        await self._requests.publish([(_reply(message), ACK) for message in messages])
        self._unacked.remove(messages)
        return 0

    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        """See `Consumer`: NATS delivers them again when the visibility is over."""
        later = NAK + b" " + json.dumps({"delay": int(self.visibility * 1e9)}).encode()
        await self._requests.publish([(_reply(message), later) for message in messages])
        self._unacked.remove(messages)
        return []

    async def dead_letter(self, messages: Sequence[tuple[Received, str]]) -> None:
        """See `Consumer`: published there first, then terminated here.

        A dead letter that is published twice is in its stream once.
        """
        stream = self._durable.stream
        largest = self._connection.client.max_payload
        await self._publish_dead_letters(
            [as_dead_letter(each, reason, stream, largest) for each, reason in messages]
        )
        await self._requests.publish([(_reply(message), TERM) for message, _ in messages])
        self._unacked.remove([message for message, _ in messages])

    async def _publish_dead_letters(self, letters: Sequence[Message]) -> None:
        """Publish dead letters; one that is too large for the stream goes without its message."""
        name = self._durable.dead_letters
        taken = set[int]()
        try:
            await publish(self._requests, name, name, letters, taken, setting="dead_letters")
        except UnsendableMessagesError as error:
            left = [
                facts_only(letter) if index in error.reasons else letter
                for index, letter in enumerate(letters)
                if index not in taken
            ]
            await publish(self._requests, name, name, left, set(), setting="dead_letters")

    async def extend(self, messages: Sequence[Received]) -> None:
        """See `Consumer`."""
        await self._requests.publish([(_reply(message), IN_PROGRESS) for message in messages])

    async def release(self) -> None:
        """See `Consumer`."""
        messages = list(self._unacked.messages.values())
        if messages:
            await self._released.add(messages)
            await self._requests.publish([(_reply(message), NAK) for message in messages])
        self._unacked.clear()

    async def stop(self) -> None:
        """Send no more pull requests, and take in the messages that are on their way.

        Otherwise NATS would count these as in flight until the visibility is over.
        """
        if self._subscription is not None and self._connection.client.is_connected:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                await self._subscription.drain()  # type: ignore[no-untyped-call]


def _reply(message: Received) -> str:
    assert isinstance(message.raw, Msg)
    return message.raw.reply


def _without_releases(message: Received, released: dict[str, int]) -> Received:
    """A message whose deliveries do not count those that a stop gave back."""
    times = released.get(message.tag, 0)
    if not times:
        return message
    return msgspec.structs.replace(message, deliveries=max(1, message.deliveries - times))


@asynccontextmanager
async def open_consumer(
    server: NatsServer, durable: DurableConsumer, unacked: Unacked
) -> AsyncGenerator[NatsConsumer]:
    """Connect to a consumer, which several programs may share.

    Raises:
        BrokerUnavailableError: NATS does not answer.
        BrokerRefusedError: NATS answers, and a setting is wrong: `url`, `stream`, `consumer` …
    """
    async with connected(server) as connection:
        requests = await Requests.open(connection)
        with connection.translating():
            missing = await check_consumer(connection.js, durable)
            released, also_missing = await ReleaseCounts.open(connection, durable)
        consumer = NatsConsumer(requests, durable, unacked, released)
        consumer.missing_guarantees = (*missing, *also_missing)
        try:
            yield consumer
        finally:
            await consumer.stop()
