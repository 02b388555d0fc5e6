"""What a program has of a queue's, over whichever connection it came.

Owns which message is which after a connection was lost: AMQP has no name for one.
Never knows what becomes of them.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Sequence

import attrs
from aiormq.abc import DeliveredMessage

from .._brokers._client import Received
from ._messages import known_by, received

AT_MOST = 10_000
"""Messages whose names are remembered."""


@attrs.define(eq=False)
class Held:
    """A message that is not acknowledged."""

    message: Received
    delivery: int | None
    """By what the present connection knows it; None where that has not brought it."""


@attrs.define
class Hand:
    """What is in hand."""

    arrived: deque[Held] = attrs.field(factory=deque[Held])
    """What of it nobody has asked for yet."""
    held: dict[str, Held] = attrs.field(factory=dict[str, Held])
    """All of it, by its tag."""
    _lost: dict[tuple[object, ...], deque[Held]] = attrs.field(
        factory=dict[tuple[object, ...], deque[Held]]
    )
    """What came over a connection that is lost, and will come again."""
    _names: dict[tuple[object, ...], deque[str]] = attrs.field(
        factory=dict[tuple[object, ...], deque[str]]
    )
    """The tags of what has failed here, and has no id."""
    _prefix: str = attrs.field(factory=lambda: secrets.token_hex(8))
    _number: int = 0

    def add(self, delivered: DeliveredMessage, delivery: int, *, is_again: bool) -> Held:
        """It has come, perhaps again."""
        if is_again and self._lost:
            same = self._lost.get(known_by(delivered))
            if same:
                held = same.popleft()
                held.delivery = delivery
                return held
        tag = delivered.header.properties.message_id or ""
        if is_again and not tag:
            tag = self._take_name(delivered)
        if not tag or tag in self.held:
            self._number += 1
            tag = f"{self._prefix}-{self._number}"
        held = Held(received(delivered, tag), delivery)
        self.held[tag] = held
        self.arrived.append(held)
        return held

    def remember(self, held: Held) -> None:
        """This one is given back; if it comes again it has its name again."""
        delivered = held.message.raw
        assert isinstance(delivered, DeliveredMessage)
        if not held.message.id:
            self._names.setdefault(known_by(delivered), deque()).append(held.message.tag)
            if len(self._names) > AT_MOST:
                del self._names[next(iter(self._names))]

    def _take_name(self, delivered: DeliveredMessage) -> str:
        key = known_by(delivered)
        names = self._names.get(key)
        if names is None:
            return ""
        name = names.popleft()
        if not names:
            del self._names[key]
        return name

    def lose(self) -> None:
        """The connection is lost, and RabbitMQ hands all of it to somebody again."""
        while self.arrived:
            del self.held[self.arrived.popleft().message.tag]
        self._lost.clear()
        for held in self.held.values():
            held.delivery = None
            assert isinstance(held.message.raw, DeliveredMessage)
            self._lost.setdefault(known_by(held.message.raw), deque()).append(held)

    def known(self, messages: Iterable[Received]) -> list[Held]:
        """Those of these that the present connection has brought."""
        found = [self.held[each.tag] for each in messages if each.tag in self.held]
        return [each for each in found if each.delivery is not None]

    def drop(self, messages: Sequence[Received]) -> None:
        """RabbitMQ has heard of these."""
        for message in messages:
            held = self.held.pop(message.tag, None)
            if held is not None and held.delivery is None:
                assert isinstance(message.raw, DeliveredMessage)
                same = self._lost.get(known_by(message.raw))
                if same is not None and held in same:
                    same.remove(held)
