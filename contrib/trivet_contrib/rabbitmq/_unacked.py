"""The unacknowledged messages of a program, over all its connections.

Owns the recognition of a message that comes again after a lost connection: AMQP has no identifier
for messages.
Never knows how a message ends.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Sequence

import attrs
from aiormq.abc import DeliveredMessage

from .._brokers._client import Received
from ._messages import fingerprint, received

REMEMBERED = 10_000
"""Fingerprints of failed messages that are remembered."""

Fingerprint = tuple[object, ...]


@attrs.define(eq=False)
class UnackedMessage:
    """A message that is not acknowledged."""

    message: Received
    delivery: int | None
    """The delivery tag on the present connection; None if the message came over another one."""


@attrs.define
class Unacked:
    """The messages that RabbitMQ has sent and that are not acknowledged."""

    buffered: deque[UnackedMessage] = attrs.field(factory=deque[UnackedMessage])
    """The messages that were not fetched yet."""
    by_tag: dict[str, UnackedMessage] = attrs.field(factory=dict[str, UnackedMessage])
    """The unacknowledged messages."""
    _lost: dict[Fingerprint, deque[UnackedMessage]] = attrs.field(
        factory=dict[Fingerprint, deque[UnackedMessage]]
    )
    """The messages of a lost connection, which will come again."""
    _tags: dict[Fingerprint, deque[str]] = attrs.field(factory=dict[Fingerprint, deque[str]])
    """The tags of messages that failed here and have no id."""
    _prefix: str = attrs.field(factory=lambda: secrets.token_hex(8))
    _number: int = 0

    def add(
        self, delivered: DeliveredMessage, delivery: int, *, is_redelivered: bool
    ) -> UnackedMessage:
        """Count a message that has come; it may be one of a lost connection."""
        if is_redelivered and self._lost:
            same = self._lost.get(fingerprint(delivered))
            if same:
                found = same.popleft()
                found.delivery = delivery
                return found
        tag = delivered.header.properties.message_id or ""
        if is_redelivered and not tag:
            tag = self._take_tag(delivered)
        if not tag or tag in self.by_tag:
            self._number += 1
            tag = f"{self._prefix}-{self._number}"
        added = UnackedMessage(received(delivered, tag), delivery)
        self.by_tag[tag] = added
        self.buffered.append(added)
        return added

    def remember_tag(self, failed: UnackedMessage) -> None:
        """Remember the tag of a message that is given back: if it comes again, it has this tag."""
        delivered = failed.message.raw
        assert isinstance(delivered, DeliveredMessage)
        if not failed.message.id:
            self._tags.setdefault(fingerprint(delivered), deque()).append(failed.message.tag)
            if len(self._tags) > REMEMBERED:
                del self._tags[next(iter(self._tags))]

    def _take_tag(self, delivered: DeliveredMessage) -> str:
        key = fingerprint(delivered)
        tags = self._tags.get(key)
        if tags is None:
            return ""
        tag = tags.popleft()
        if not tags:
            del self._tags[key]
        return tag

    def on_connection_lost(self) -> None:
        """Expect all messages again: RabbitMQ delivers them to some consumer."""
        while self.buffered:
            del self.by_tag[self.buffered.popleft().message.tag]
        self._lost.clear()
        for each in self.by_tag.values():
            each.delivery = None
            assert isinstance(each.message.raw, DeliveredMessage)
            self._lost.setdefault(fingerprint(each.message.raw), deque()).append(each)

    def on_this_connection(self, messages: Iterable[Received]) -> list[UnackedMessage]:
        """The messages, of these, that the present connection has brought."""
        found = [self.by_tag[each.tag] for each in messages if each.tag in self.by_tag]
        return [each for each in found if each.delivery is not None]

    def remove(self, messages: Sequence[Received]) -> None:
        """Forget messages, after RabbitMQ was told how they ended."""
        for message in messages:
            removed = self.by_tag.pop(message.tag, None)
            if removed is not None and removed.delivery is None:
                assert isinstance(message.raw, DeliveredMessage)
                same = self._lost.get(fingerprint(message.raw))
                if same is not None and removed in same:
                    same.remove(removed)

    def clear(self) -> None:
        """Forget all messages."""
        self.by_tag.clear()
        self.buffered.clear()
