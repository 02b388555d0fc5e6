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

from .._broker import Received
from ._messages import known_by, received


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
        self._number += 1
        tag = delivered.header.properties.message_id or ""
        if not tag or tag in self.held:
            tag = f"{self._prefix}-{self._number}"
        held = Held(received(delivered, tag), delivery)
        self.held[tag] = held
        self.arrived.append(held)
        return held

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
