"""The task group of a connection: a task and a queue for the application of each request.

Owns how many bytes wait for an application, and the turns of an application whose client has
disconnected.
Never knows the content of messages.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)

QUEUE_LIMIT = 1024 * 1024
"""Bytes of messages that wait for an application, at which nothing more is read from the client."""
MESSAGE_OVERHEAD = 512
"""Bytes that a message takes besides its content."""
MESSAGES_PER_TURN = 32
"""Messages after which others have their turn."""


class ReceiveQueue:
    """The messages that an application receives, in order; bounded in bytes, not in number."""

    def __init__(self) -> None:
        self._sending, self._receiving = trio.open_memory_channel[tuple[ASGIReceiveEvent, int]](
            math.inf
        )
        self._bytes = 0
        self._put = 0
        self._has_room = trio.Event()
        self.is_disconnected = False
        """Whether the last message is a disconnect."""

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Put a message into the queue; waits while the queue is full.

        A disconnect does not wait. An application that has ended receives nothing more.
        """
        self.is_disconnected = message["type"] in ("http.disconnect", "websocket.disconnect")
        while self._bytes >= QUEUE_LIMIT and not self.is_disconnected:
            self._has_room = trio.Event()
            await self._has_room.wait()
        self._put += 1
        if self._put % MESSAGES_PER_TURN == 0 and not self.is_disconnected:
            await trio.lowlevel.checkpoint()
        size = MESSAGE_OVERHEAD + _size(message)
        try:
            self._sending.send_nowait((message, size))
        except trio.BrokenResourceError:
            return
        self._bytes += size

    async def get(self) -> ASGIReceiveEvent:
        """Wait for the next message; one that is in the queue costs no turn of the loop."""
        try:
            message, size = self._receiving.receive_nowait()
        except trio.WouldBlock:
            message, size = await self._receiving.receive()
        self._bytes -= size
        self._has_room.set()
        return message

    def close(self) -> None:
        """Drop the messages: the application has ended."""
        self._receiving.close()
        self._bytes = 0
        self._has_room.set()


def _size(message: ASGIReceiveEvent) -> int:
    if message["type"] == "http.request":
        return len(message["body"])
    if message["type"] == "websocket.receive":
        return len(message.get("bytes") or message.get("text") or b"")
    return 0


class ConnectionTaskGroup(TaskGroup):
    """Hypercorn's task group, which gives each application a queue that is bounded in bytes."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start an application; returns the `put` of its queue."""
        queue = ReceiveQueue()

        async def run(
            scope: Scope,
            receive: ASGIReceiveCallable,
            send: ASGISendCallable,
            sync_spawn: Callable[..., Any],
            call_soon: Callable[..., Any],
        ) -> None:
            """Receive from this queue, and not from hypercorn's."""
            try:
                await app(scope, queue.get, send, sync_spawn, call_soon)
            finally:
                queue.close()

        async def send_in_turn(message: ASGISendEvent | None) -> None:
            """Send; once the client has disconnected, not before others have had their turn.

            An application that waits for nothing else would not learn of the disconnect.
            """
            if queue.is_disconnected and message is not None:
                await trio.lowlevel.checkpoint()
            await send(message)

        await super().spawn_app(run, config, scope, send_in_turn)
        return queue.put
