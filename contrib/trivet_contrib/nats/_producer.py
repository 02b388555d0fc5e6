"""A producer for a stream of JetStream's.

Owns what a message is known by, and how large it may be.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs
from nats.js.api import StreamConfig

from .._brokers._client import Message, Producer, RefusedError, UnsendableError
from ._checks import listens, look_at_stream, may_lose
from ._connection import Line, Server, connected
from ._messages import EXPECTED_STREAM, MESSAGE_ID, encoded, in_ascii, size_of
from ._publishing import publish


@attrs.frozen(kw_only=True)
class Target:
    """Where to."""

    stream: str
    subject: str
    create: bool
    """Whether to make a stream that is missing."""


class NatsProducer(Producer):
    """See `Producer`. Made by `open_producer`."""

    def __init__(self, line: Line, target: Target, config: StreamConfig) -> None:
        self.not_promised = tuple(may_lose(config))
        self._line = line
        self._target = target
        limits = (line.client.max_payload, config.max_msg_size, config.max_bytes)
        self._largest = min(limit for limit in limits if limit and limit > 0)

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """See `Producer`."""
        target = self._target
        sent = [self._as_sent(message) for message in messages]
        self._check_sizes(sent)
        await publish(self._line, target.stream, target.subject, sent, taken, setting="subject")

    def _check_sizes(self, messages: Sequence[Message]) -> None:
        too_large = {
            place: f"it is larger than NATS takes: {size} bytes, of {self._largest}"
            for place, message in enumerate(messages)
            if (size := size_of(message)) > self._largest
        }
        if too_large:
            raise UnsendableError(too_large)

    def _as_sent(self, message: Message) -> Message:
        own = {MESSAGE_ID: in_ascii(message.id), EXPECTED_STREAM: self._target.stream}
        return Message(message.body, {**encoded(message.headers), **own})


@asynccontextmanager
async def open_producer(server: Server, target: Target) -> AsyncGenerator[NatsProducer]:
    """Connect, to send to a stream.

    Raises:
        AwayError: NATS does not answer.
        RefusedError: it does, and something is wrong: `url`, `stream`, `subject`.
    """
    async with connected(server) as line:
        with line.translated():
            config = await look_at_stream(
                line.js, target.stream, target.subject, create=target.create
            )
        if not listens(config, target.subject):
            reason = f"the stream {target.stream!r} does not listen to {target.subject!r}"
            raise RefusedError("subject", reason)
        if config.no_ack:
            raise RefusedError("stream", f"{target.stream!r} has `no_ack`: it acknowledges nothing")
        yield NatsProducer(line, target, config)
