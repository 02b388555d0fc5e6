"""A consumer of a group of Redis Streams.

Owns the commands, and the entries that this consumer has pending.
Never knows Trivet, nor what an entry is about.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

import trio
from coredis.response.types import StreamEntry
from coredis.tokens import PureToken

from .._brokers._client import Consumer, Received, Server
from ._checks import Group, check_group
from ._connection import connected, translating
from ._library import RedisClient, entries_as_sent, pending_entries
from ._messages import TRIMMED, as_dead_letter, as_text, received, redelivered, trimmed

UNASSIGNED = "(waiting)"
"""A consumer name that no consumer uses. Entries that failed or were given back are assigned to it
until a consumer claims them."""

NOT_PENDING = (
    "it is no longer pending: another consumer has acknowledged it, or its consumer was deleted"
)


def new_name(service: str) -> str:
    """A name for a consumer that no other consumer has."""
    return f"{service}-{secrets.token_hex(6)}"


class RedisConsumer(Consumer):
    """See `Consumer`. Made by `open_consumer`."""

    def __init__(self, client: RedisClient, group: Group, *, block: float) -> None:
        self.visibility = group.visibility
        self._client = client
        self._group = group
        self._claim_every = group.visibility / 10
        # A read that blocks must be shorter than the time limit of an answer.
        self._block = max(1, int(1000 * min(block, self._claim_every)))
        self._history: str | None = "-"
        """The next of the entries that this consumer had pending before; None after the last."""
        self._cursor: bytes | str = "0-0"
        self._claim_at = 0.0

    async def fetch(self, count: int) -> list[Received]:
        """See `Consumer`."""
        with translating():
            if self._history is not None:
                return await self._fetch_history(count)
            if trio.current_time() >= self._claim_at and (claimed := await self._claim(count)):
                return claimed
            return await self._read(count)

    async def _read(self, count: int) -> list[Received]:
        group = self._group
        request = self._client.xreadgroup(
            group.group, group.consumer, {group.stream: ">"}, count=count, block=self._block
        )
        streams = await entries_as_sent(request)
        return [
            received(identifier.decode(), fields)
            for entries in streams.values()
            for identifier, fields in entries
        ]

    async def _fetch_history(self, count: int) -> list[Received]:
        # XREADGROUP would answer all this at once, but coredis fails at trimmed entries.
        group, after = self._group, self._history
        pending = await pending_entries(
            self._client.xpending(
                group.stream, group.group, after, "+", count, consumer=group.consumer
            )
        )
        if not pending:
            self._history = None
            return []
        tags = [as_text(each.identifier) for each in pending]
        self._history = f"({tags[-1]}"
        async with self._client.pipeline(transaction=True) as pipeline:
            found = [pipeline.xrange(group.stream, tag, tag) for tag in tags]
            claimed = pipeline.xclaim(
                group.stream, group.group, group.consumer, 0, tags, justid=True
            )
        still_pending = set(map(as_text, cast("Sequence[bytes]", await claimed)))
        messages: list[Received] = []
        for each, tag, request in zip(pending, tags, found, strict=True):
            entries = await request
            if not entries:
                messages.append(trimmed(tag))
            elif tag in still_pending:  # Another consumer may have acknowledged it meanwhile.
                messages.append(redelivered(entries[0], int(each.delivered)))
        return messages

    async def _claim(self, count: int) -> list[Received]:
        """Entries that failed, and entries that other consumers left pending for too long."""
        group = self._group
        # With the interval between two claims this stays within the visibility.
        idle = int(800 * group.visibility)
        answer = await self._client.xautoclaim(
            group.stream, group.group, group.consumer, idle, self._cursor, count=count
        )
        self._cursor, found = answer[0], cast("tuple[StreamEntry, ...]", answer[1])
        if self._cursor in (b"0-0", "0-0"):
            self._claim_at = trio.current_time() + self._claim_every
        deleted = answer[2] if len(answer) > 2 else ()
        return [*await self._with_deliveries(found), *map(trimmed, deleted)]

    async def _with_deliveries(self, entries: Sequence[StreamEntry]) -> list[Received]:
        """Entries as messages, with the deliveries that only the pending list counts."""
        if not entries:
            return []
        group = self._group
        async with self._client.pipeline(transaction=False) as pipeline:
            requests = [
                pipeline.xpending(
                    group.stream, group.group, start=entry.identifier, end=entry.identifier, count=1
                )
                for entry in entries
            ]
        messages: list[Received] = []
        for entry, request in zip(entries, requests, strict=True):
            pending = await pending_entries(request)
            messages.append(redelivered(entry, int(pending[0].delivered) if pending else 1))
        return messages

    async def acknowledge(self, messages: Sequence[Received]) -> int:
        """See `Consumer`."""
        with translating():
            tags = _tags(messages)
            return len(tags) - await self._client.xack(self._group.stream, self._group.group, tags)

    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        """See `Consumer`: no consumer has the entries until the visibility is over.

        An entry that another consumer has claimed meanwhile stays there.
        """
        with translating():
            owners = await self._owners(_tags(messages))
            existing = await self._assign_to(UNASSIGNED, owners)
        lost: list[tuple[Received, str]] = []
        for message in messages:
            if message.tag not in owners:
                lost.append((message, NOT_PENDING))
            elif owners[message.tag] == self._group.consumer and message.tag not in existing:
                lost.append((message, TRIMMED))
        return lost

    async def _owners(self, tags: Sequence[str]) -> dict[str, str]:
        """The consumer of each pending entry; an entry that is not pending is missing here."""
        group = self._group
        async with self._client.pipeline(transaction=False) as pipeline:
            requests = [
                pipeline.xpending(group.stream, group.group, start=tag, end=tag, count=1)
                for tag in tags
            ]
        found = [await pending_entries(request) for request in requests]
        return {
            tag: as_text(pending[0].consumer)
            for tag, pending in zip(tags, found, strict=True)
            if pending
        }

    async def _assign_to(self, consumer: str, owners: Mapping[str, str]) -> set[str]:
        """Assign this consumer's entries to another; returns those that the stream still has."""
        group = self._group
        own = [tag for tag, owner in owners.items() if owner == group.consumer]
        if not own:
            return set()
        kept = await self._client.xclaim(group.stream, group.group, consumer, 0, own, justid=True)
        return set(map(as_text, cast("Sequence[bytes]", kept)))

    async def dead_letter(self, messages: Sequence[tuple[Received, str]]) -> None:
        """See `Consumer`: added there and acknowledged here in one transaction."""
        group = self._group
        with translating():
            async with self._client.pipeline(transaction=True) as pipeline:
                for message, reason in messages:
                    pipeline.xadd(
                        group.dead_letters,
                        as_dead_letter(message, reason, group.stream),
                        trim_strategy=PureToken.MAXLEN,
                        trim_operator=PureToken.APPROXIMATELY,
                        threshold=group.max_dead_letters,
                    )
                pipeline.xack(group.stream, group.group, _tags([each for each, _ in messages]))

    async def extend(self, messages: Sequence[Received]) -> None:
        """See `Consumer`. An entry that another consumer has claimed meanwhile stays there."""
        with translating():
            await self._assign_to(self._group.consumer, await self._owners(_tags(messages)))

    async def release(self) -> None:
        """See `Consumer`: other consumers can claim the entries at once; this one is deleted."""
        group = self._group
        with translating():
            while await self._give_back():
                pass
            await self._client.xgroup_delconsumer(group.stream, group.group, group.consumer)

    async def _give_back(self) -> int:
        group = self._group
        pending = await pending_entries(
            self._client.xpending(
                group.stream, group.group, start="-", end="+", count=1000, consumer=group.consumer
            )
        )
        if not pending:
            return 0
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in pending:
                pipeline.xclaim(
                    group.stream,
                    group.group,
                    UNASSIGNED,
                    0,
                    [each.identifier],
                    idle=int(1000 * group.visibility),
                    retrycount=max(0, int(each.delivered) - 1),  # A stop is no failure.
                    justid=True,
                )
        return len(pending)


def _tags(messages: Sequence[Received]) -> list[str]:
    return [message.tag for message in messages]


@asynccontextmanager
async def open_consumer(server: Server, group: Group) -> AsyncGenerator[RedisConsumer]:
    """Connect as a consumer of a group; a missing group is made.

    Raises:
        BrokerUnavailableError: Redis does not answer.
        BrokerRefusedError: Redis answers, and a setting is wrong: `url`, `stream`.
    """
    async with connected(server) as client:
        with translating():
            missing = await check_group(client, group)
        consumer = RedisConsumer(client, group, block=server.timeout / 2)
        consumer.missing_guarantees = tuple(missing)
        yield consumer
