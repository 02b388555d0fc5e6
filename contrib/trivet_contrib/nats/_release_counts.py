"""How often a stop has given back each message: NATS counts these deliveries as well.

Owns one entry of a key-value bucket for each consumer.
Never knows what the counts decide.
"""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

import attrs
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
)
from nats.js.kv import KeyValue

from .._brokers._client import Received
from ._checks import DurableConsumer
from ._connection import Connection

REMEMBERED = 10_000
"""Messages that are remembered, the newest of them."""


@attrs.define
class ReleaseCounts:
    """The releases of one consumer's messages. Made by `open`."""

    _bucket: KeyValue | None
    _key: str
    _connection: Connection
    _stream: str

    @classmethod
    async def open(
        cls, connection: Connection, durable: DurableConsumer
    ) -> tuple[ReleaseCounts, list[str]]:
        """Find the bucket, or make it; returns the counts, and the missing guarantees."""
        name = f"{durable.stream}_returned"
        bucket, missing = None, list[str]()
        try:
            bucket = await connection.js.key_value(name)
        except BucketNotFoundError:
            with suppress(APIError):
                if durable.create:
                    bucket = await connection.js.create_key_value(bucket=name, direct=True)
        if bucket is None:
            missing.append(
                f"without a key-value bucket {name!r} messages that a stop gives back count as"
                " delivered"
            )
        return cls(bucket, durable.consumer, connection, durable.stream), missing

    async def counts(self) -> dict[str, int]:
        """How often each message was given back, by tag."""
        with self._connection.translating():
            return (await self._read())[0]

    async def _read(self) -> tuple[dict[str, int], int]:
        if self._bucket is None:
            return {}, 0
        try:
            entry = await self._bucket.get(self._key)
        except KeyNotFoundError:
            return {}, 0
        counts: dict[str, int] = json.loads(entry.value or b"{}")
        return counts, entry.revision or 0

    async def add(self, messages: Sequence[Received]) -> None:
        """Count messages that are given back now; messages that are done are forgotten."""
        if self._bucket is None:
            return
        with self._connection.translating():
            info = await self._connection.js.consumer_info(self._stream, self._key)
            floor = info.ack_floor.stream_seq if info.ack_floor else 0
            while True:
                counts, revision = await self._read()
                counts = {tag: n for tag, n in counts.items() if int(tag.partition("-")[0]) > floor}
                for message in messages:
                    counts[message.tag] = counts.pop(message.tag, 0) + 1
                value = json.dumps(dict(list(counts.items())[-REMEMBERED:])).encode()
                with suppress(KeyWrongLastSequenceError):  # Another program stops at the same time.
                    await self._bucket.update(self._key, value, revision)
                    return
