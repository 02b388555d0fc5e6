"""A producer for a stream of JetStream.

Owns the key by which NATS knows duplicates, and the size of a message.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs
from nats.js.api import StreamConfig

from .._brokers._client import BrokerRefusedError, Message, Producer, check_sizes
from ._checks import check_stream, listens, missing_guarantees
from ._connection import NatsServer, connected
from ._messages import EXPECTED_STREAM, MESSAGE_ID, encoded, in_ascii, size_of
from ._publishing import publish
from ._requests import Requests


@attrs.frozen(kw_only=True)
class Target:
    """A stream, and the subject to publish to."""

    stream: str
    subject: str
    create: bool
    """Whether to make a stream that is missing."""


class NatsProducer(Producer):
    """See `Producer`. Made by `open_producer`."""

    def __init__(self, requests: Requests, target: Target, config: StreamConfig) -> None:
        self.missing_guarantees = tuple(missing_guarantees(config))
        self._requests = requests
        self._target = target
        max_payload = requests.connection.client.max_payload
        limits = (max_payload, config.max_msg_size, config.max_bytes)
        self._largest = min(limit for limit in limits if limit and limit > 0)

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """See `Producer`."""
        target = self._target
        sent = [self._as_sent(message) for message in messages]
        check_sizes(sent, size_of, self._largest, "NATS")
        await publish(self._requests, target.stream, target.subject, sent, taken, setting="subject")

    def _as_sent(self, message: Message) -> Message:
        own = {MESSAGE_ID: in_ascii(message.id), EXPECTED_STREAM: self._target.stream}
        return Message(message.body, {**encoded(message.headers), **own})


@asynccontextmanager
async def open_producer(server: NatsServer, target: Target) -> AsyncGenerator[NatsProducer]:
    """Connect, to publish to a stream.

    Raises:
        BrokerUnavailableError: NATS does not answer.
        BrokerRefusedError: NATS answers, and a setting is wrong: `url`, `stream`, `subject`.
    """
    async with connected(server) as connection:
        requests = await Requests.open(connection)
        with connection.translating():
            config = await check_stream(
                connection.js, target.stream, target.subject, create=target.create
            )
        if not listens(config, target.subject):
            reason = f"the stream {target.stream!r} does not listen to {target.subject!r}"
            raise BrokerRefusedError("subject", reason)
        if config.no_ack:
            reason = f"{target.stream!r} has `no_ack`: it acknowledges nothing"
            raise BrokerRefusedError("stream", reason)
        yield NatsProducer(requests, target, config)
