"""Messages that wait for an application: bounded in bytes, and ended by the last one."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from trivet._web._asgi import ReceiveMessage, WebsocketDisconnect
from trivet._web._server._mailbox import WAITING, Mailbox

LEFT: WebsocketDisconnect = {"type": "websocket.disconnect", "code": 1006, "reason": None}


def message(size: int) -> ReceiveMessage:
    """A message of so many bytes."""
    return {"type": "websocket.receive", "bytes": b"x" * size, "text": None}


async def test_messages_come_in_order(autojump_clock: MockClock) -> None:
    """A reader waits for the next message and has each once."""
    mailbox = Mailbox()
    taken: list[object] = []

    async def take() -> None:
        taken.extend([await mailbox.take() for _ in range(3)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        for size in (1, 2, 3):
            await trio.sleep(1)
            await mailbox.put(message(size))
    assert taken == [message(1), message(2), message(3)]


async def test_a_full_mailbox_waits(autojump_clock: MockClock) -> None:
    """A message is added while there is room; the next one waits until one was taken."""
    mailbox = Mailbox()
    await mailbox.put(message(WAITING))
    with trio.move_on_after(10) as waiting:
        await mailbox.put(message(1))
    assert waiting.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, message(2))
        assert await mailbox.take() == message(WAITING)
    assert await mailbox.take() == message(2)


async def test_the_last_message(autojump_clock: MockClock) -> None:
    """The last message waits for no room, and is there again for an application that asks again."""
    mailbox = Mailbox()
    await mailbox.put(message(WAITING))
    mailbox.put_last(LEFT)
    mailbox.put_last({"type": "websocket.disconnect", "code": 1000, "reason": None})
    assert await mailbox.take() == message(WAITING)
    await mailbox.put(message(1))
    assert [await mailbox.take() for _ in range(2)] == [LEFT, LEFT]


async def test_a_closed_mailbox_takes_nothing(autojump_clock: MockClock) -> None:
    """A task that waits for room goes on, and its message is forgotten."""
    mailbox = Mailbox()
    await mailbox.put(message(WAITING))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, message(1))
        await trio.sleep(1)
        mailbox.close()
    with trio.move_on_after(10) as waiting:
        await mailbox.take()
    assert waiting.cancelled_caught
