"""The unacknowledged messages of a RabbitMQ queue over a lost connection and the next one."""

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
from trivet_contrib.rabbitmq._checks import Queue
from trivet_contrib.rabbitmq._consumer import RabbitmqConsumer
from trivet_contrib.rabbitmq._library import BatchChannel
from trivet_contrib.rabbitmq._unacked import Unacked

Report = Callable[[RabbitmqConsumer, list[Received]], Awaitable[None]]


def delivered(name: str) -> DeliveredMessage:
    """A message of aiormq."""
    header = ContentHeader(body_size=2, properties=Basic.Properties(message_id=name))
    deliver = Basic.Deliver("1", 1, False, "", "orders")
    return DeliveredMessage(deliver, header, b"{}", cast("Any", None))


async def acknowledge(consumer: RabbitmqConsumer, messages: list[Received]) -> None:
    """Report the messages as done."""
    await consumer.acknowledge(messages)


async def dead_letter(consumer: RabbitmqConsumer, messages: list[Received]) -> None:
    """Report the messages as dead letters."""
    await consumer.dead_letter([(message, "it is bad") for message in messages])


@pytest.mark.parametrize("report", [acknowledge, dead_letter])
def test_a_message_that_comes_again_during_a_report_is_reported_too(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise RabbitMQ would count the message as in flight until the connection ends."""
    unacked = Unacked()
    messages = [
        unacked.add(delivered(name), 0, is_redelivered=False).message for name in ("a", "b", "c")
    ]
    unacked.buffered.clear()  # They were fetched.
    unacked.on_connection_lost()
    unacked.add(delivered("a"), 1, is_redelivered=True)
    consumer = RabbitmqConsumer(cast("Any", None), cast("Queue", _Queue()), unacked)
    consumer._publishing = cast("BatchChannel", None)  # pyright: ignore[reportPrivateUsage]
    reported: list[int | None] = []

    async def note(done: list[Any]) -> None:
        reported.extend(each.delivery for each in done)
        if len(reported) == 1:
            unacked.add(delivered("b"), 2, is_redelivered=True)

    async def published(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(consumer, "_acknowledge", note)
    monkeypatch.setattr(_consumer, "publish", published)
    monkeypatch.setattr(consumer, "_as_dead_letter", lambda *_: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    asyncio.run(cast("Any", report(consumer, messages)))
    assert reported == [1, 2]
    assert not unacked.by_tag
    assert unacked.add(delivered("c"), 3, is_redelivered=True).message.tag == "c"
    assert len(unacked.buffered) == 1  # Too late for the report, so it is fetched again.


class _Queue:
    name, dead_letters = "orders", "orders_dead"
