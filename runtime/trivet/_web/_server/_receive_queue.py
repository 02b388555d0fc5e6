"""The messages of a websocket that wait for its application.

Owns how many bytes may wait; their number has no limit.
Never knows the content of messages.
"""

from __future__ import annotations

from collections import deque

import trio

from .._asgi import ReceiveMessage

QUEUE_LIMIT = 1024 * 1024
"""Bytes of messages that wait for an application, at which nothing more is read from the client."""
MESSAGE_OVERHEAD = 512
"""Bytes that a message takes besides its content."""


class ReceiveQueue:
    """The messages of one websocket, in order."""

    def __init__(self) -> None:
        self._messages: deque[tuple[ReceiveMessage, int]] = deque()
        self._bytes = 0
        self._has_message = trio.Event()
        self._has_room = trio.Event()
        self._is_closed = False
        self.is_last = False
        """Whether the last message, the disconnect, is in the queue."""

    async def put(self, message: ReceiveMessage) -> None:
        """Add a message; waits while the queue is full, and adds nothing once it is closed."""
        while self._bytes >= QUEUE_LIMIT and not self._is_closed:
            self._has_room = trio.Event()
            await self._has_room.wait()
        self._add(message)

    def put_last(self, message: ReceiveMessage) -> None:
        """Add the last message, without a wait."""
        if not self.is_last:
            self._add(message)
            self.is_last = True

    def _add(self, message: ReceiveMessage) -> None:
        if self._is_closed or self.is_last:
            return
        size = MESSAGE_OVERHEAD
        if message["type"] == "websocket.receive":
            size += len(message.get("bytes") or message.get("text") or b"")
        self._messages.append((message, size))
        self._bytes += size
        self._has_message.set()

    async def take(self) -> ReceiveMessage:
        """Wait for the next message; the last one is returned again and again."""
        while not self._messages:
            self._has_message = trio.Event()
            await self._has_message.wait()
        if self.is_last and len(self._messages) == 1:
            return self._messages[0][0]
        message, size = self._messages.popleft()
        self._bytes -= size
        self._has_room.set()
        return message

    def close(self) -> None:
        """Drop the messages that wait, and add no more."""
        self._is_closed = True
        self._messages.clear()
        self._bytes = 0
        self._has_room.set()
