"""What is in hand of a RabbitMQ queue while a connection is lost, and another one made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from trivet_contrib._brokers._client import Received
from trivet_contrib.rabbitmq import _consumer
from trivet_contrib.rabbitmq._channel import BatchChannel
from trivet_contrib.rabbitmq._checks import Queue
from trivet_contrib.rabbitmq._consumer import RabbitmqConsumer
from trivet_contrib.rabbitmq._unacked import Hand

Tell = Callable[[RabbitmqConsumer, list[Received]], Awaitable[None]]


def delivered(name: str) -> DeliveredMessage:
    """A message as aiormq has it."""
    header = ContentHeader(body_size=2, properties=Basic.Properties(message_id=name))
    deliver = Basic.Deliver("1", 1, False, "", "orders")
    return DeliveredMessage(deliver, header, b"{}", cast("Any", None))


async def acknowledge(consumer: RabbitmqConsumer, messages: list[Received]) -> None:
    """As done."""
    await consumer.acknowledge(messages)


async def bury(consumer: RabbitmqConsumer, messages: list[Received]) -> None:
    """As dead."""
    await consumer.bury([(message, "it is bad") for message in messages])


@pytest.mark.parametrize("tell", [acknowledge, bury])
def test_what_comes_again_while_others_are_told_is_told_too(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or RabbitMQ would have it in hand here for as long as the connection lasts."""
    hand = Hand()
    messages = [hand.add(delivered(name), 0, is_again=False).message for name in ("a", "b", "c")]
    hand.arrived.clear()  # They were fetched.
    hand.lose()
    hand.add(delivered("a"), 1, is_again=True)
    consumer = RabbitmqConsumer(cast("Any", None), cast("Queue", _Queue()), hand)
    consumer._publishing = cast("BatchChannel", None)  # pyright: ignore[reportPrivateUsage]
    told: list[int | None] = []

    async def note(done: list[Any]) -> None:
        told.extend(held.delivery for held in done)
        if len(told) == 1:
            hand.add(delivered("b"), 2, is_again=True)

    async def published(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(consumer, "_acknowledge", note)
    monkeypatch.setattr(_consumer, "publish", published)
    monkeypatch.setattr(consumer, "_letter", lambda *_: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    asyncio.run(cast("Any", tell(consumer, messages)))
    assert told == [1, 2]
    assert not hand.held
    assert hand.add(delivered("c"), 3, is_again=True).message.tag == "c"
    assert len(hand.arrived) == 1  # It came too late to be told, and is handed out again.


class _Queue:
    name, dead_letters = "orders", "orders_dead"
