"""The messages that wait for an application: bounded in bytes, and ended by the last one."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from trivet._web._asgi import ReceiveMessage, WebsocketDisconnect
from trivet._web._server._receive_queue import QUEUE_LIMIT, ReceiveQueue

LEFT: WebsocketDisconnect = {"type": "websocket.disconnect", "code": 1006, "reason": None}


def message(size: int) -> ReceiveMessage:
    """A message of `size` bytes."""
    return {"type": "websocket.receive", "bytes": b"x" * size, "text": None}


async def test_messages_come_in_order(autojump_clock: MockClock) -> None:
    """A reader waits for the next message and has each once."""
    queue = ReceiveQueue()
    taken: list[object] = []

    async def take() -> None:
        taken.extend([await queue.take() for _ in range(3)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        for size in (1, 2, 3):
            await trio.sleep(1)
            await queue.put(message(size))
    assert taken == [message(1), message(2), message(3)]


async def test_a_full_queue_waits(autojump_clock: MockClock) -> None:
    """A message is added while there is room; the next one waits until one was taken."""
    queue = ReceiveQueue()
    await queue.put(message(QUEUE_LIMIT))
    with trio.move_on_after(10) as waiting:
        await queue.put(message(1))
    assert waiting.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.put, message(2))
        assert await queue.take() == message(QUEUE_LIMIT)
    assert await queue.take() == message(2)


async def test_the_last_message(autojump_clock: MockClock) -> None:
    """The last message waits for no room, and is there again for an application that asks again."""
    queue = ReceiveQueue()
    await queue.put(message(QUEUE_LIMIT))
    queue.put_last(LEFT)
    queue.put_last({"type": "websocket.disconnect", "code": 1000, "reason": None})
    assert await queue.take() == message(QUEUE_LIMIT)
    await queue.put(message(1))
    assert [await queue.take() for _ in range(2)] == [LEFT, LEFT]


async def test_a_closed_queue_takes_nothing(autojump_clock: MockClock) -> None:
    """A task that waits for room goes on, and its message is forgotten."""
    queue = ReceiveQueue()
    await queue.put(message(QUEUE_LIMIT))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.put, message(1))
        await trio.sleep(1)
        queue.close()
    with trio.move_on_after(10) as waiting:
        await queue.take()
    assert waiting.cancelled_caught
