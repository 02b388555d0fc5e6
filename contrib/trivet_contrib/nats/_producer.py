"""A producer for a stream of JetStream's.

Owns what a message is known by, and which of a batch need not be sent again.
Never knows Trivet, nor what a message is about.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs
from nats.js.api import StreamConfig

from .._broker import Message, Producer, RefusedError, UnsendableError
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

    def __init__(
        self, line: Line, target: Target, confirmed: set[str], config: StreamConfig
    ) -> None:
        self.not_promised = tuple(may_lose(config))
        self._line = line
        self._target = target
        self._confirmed = confirmed
        self._largest = line.client.max_payload
        if (limit := config.max_msg_size or -1) > 0:
            self._largest = min(self._largest, limit)

    async def send(self, messages: Sequence[Message]) -> None:
        """See `Producer`. What of a batch the stream has is not sent again with the rest."""
        target, confirmed = self._target, self._confirmed
        whole = [self._as_sent(message) for message in messages]
        self._check_sizes(whole)
        left = [place for place, each in enumerate(messages) if each.id not in confirmed]

        def confirm(index: int) -> None:
            """The stream has it."""
            confirmed.add(messages[left[index]].id)

        if left:
            sent = [whole[place] for place in left]
            await publish(self._line, target.subject, sent, confirm, setting="subject")
        confirmed.difference_update([message.id for message in messages])

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
async def open_producer(
    server: Server, target: Target, confirmed: set[str]
) -> AsyncGenerator[NatsProducer]:
    """Connect, to send to a stream.

    Args:
        server: where.
        target: where to.
        confirmed: what the stream has of a batch that is not sent yet, from one connection to
            the next.

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
        yield NatsProducer(line, target, confirmed, config)
