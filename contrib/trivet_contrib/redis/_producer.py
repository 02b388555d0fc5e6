"""A producer for a stream.

Owns the size of an entry, and the trimming of the stream.
Never knows Trivet, nor what an entry is about.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
from coredis.tokens import PureToken

from .._brokers._client import (
    BrokerUnavailableError,
    Message,
    Producer,
    Server,
    check_sizes,
)
from ._checks import check_target
from ._connection import connected, translating
from ._library import RedisClient
from ._messages import fields_of, size_of

_IS_IDENTIFIER = re.compile(rb"\d+-\d+").fullmatch


@attrs.frozen(kw_only=True)
class Target:
    """A stream that entries are added to."""

    stream: str
    create: bool
    """Whether to make a stream that is missing."""
    max_length: int
    """Entries that the stream keeps, approximately; 0 for all."""


class RedisProducer(Producer):
    """See `Producer`. Made by `open_producer`."""

    def __init__(self, client: RedisClient, target: Target, largest: float) -> None:
        self._client = client
        self._stream = target.stream
        self._largest = largest
        self._trimming: dict[str, Any] = {}
        if target.max_length:
            self._trimming = {
                "trim_strategy": PureToken.MAXLEN,
                "trim_operator": PureToken.APPROXIMATELY,
                "threshold": target.max_length,
            }

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """See `Producer`: all messages in one pipeline."""
        check_sizes(messages, size_of, self._largest, "Redis")
        with translating():
            async with self._client.pipeline(transaction=False, raise_on_error=False) as pipeline:
                for message in messages:
                    pipeline.xadd(self._stream, fields_of(message), **self._trimming)
            answers = pipeline.results or ()
            taken.update(index for index, each in enumerate(answers) if _is_identifier(each))
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            if len(taken) < len(messages):
                raise BrokerUnavailableError("Redis did not confirm all entries")


def _is_identifier(answer: object) -> bool:
    return isinstance(answer, bytes) and _IS_IDENTIFIER(answer) is not None


@asynccontextmanager
async def open_producer(server: Server, target: Target) -> AsyncGenerator[RedisProducer]:
    """Connect, to add entries to a stream.

    Raises:
        BrokerUnavailableError: Redis does not answer.
        BrokerRefusedError: Redis answers, and a setting is wrong: `url`, `stream`.
    """
    async with connected(server) as client:
        with translating():
            largest, missing = await check_target(client, target.stream, create=target.create)
        producer = RedisProducer(client, target, largest)
        if target.max_length:
            missing.append(
                f"the oldest beyond about {target.max_length} entries are trimmed, read or not"
            )
        producer.missing_guarantees = tuple(missing)
        yield producer
