"""Messages that wait for an application: those of a websocket.

Owns how much may wait, in bytes and not in number.
Never knows what is said in them.
"""

from __future__ import annotations

from collections import deque

import trio

from .._asgi import ReceiveMessage

WAITING = 1024 * 1024
"""Bytes of messages that wait for an application, at which nothing more is read for it."""
OF_A_MESSAGE = 512
"""Bytes that a message takes besides its text."""


class Mailbox:
    """The messages of one websocket, in order."""

    def __init__(self) -> None:
        self._messages: deque[tuple[ReceiveMessage, int]] = deque()
        self._bytes = 0
        self._news = trio.Event()
        self._room = trio.Event()
        self._is_closed = False
        self.is_last = False
        """Whether the last message, that the client has left, is among them."""

    async def put(self, message: ReceiveMessage) -> None:
        """Add a message, after a wait while too much is waiting; none once it is closed."""
        while self._bytes >= WAITING and not self._is_closed:
            self._room = trio.Event()
            await self._room.wait()
        self._add(message)

    def put_last(self, message: ReceiveMessage) -> None:
        """Add the last message, without a wait."""
        if not self.is_last:
            self._add(message)
            self.is_last = True

    def _add(self, message: ReceiveMessage) -> None:
        if self._is_closed or self.is_last:
            return
        size = OF_A_MESSAGE
        if message["type"] == "websocket.receive":
            size += len(message.get("bytes") or message.get("text") or b"")
        self._messages.append((message, size))
        self._bytes += size
        self._news.set()

    async def take(self) -> ReceiveMessage:
        """Wait for the next message; behind the last one there is that one again."""
        while not self._messages:
            self._news = trio.Event()
            await self._news.wait()
        if self.is_last and len(self._messages) == 1:
            return self._messages[0][0]
        message, size = self._messages.popleft()
        self._bytes -= size
        self._room.set()
        return message

    def close(self) -> None:
        """Take no more messages, and forget those that wait."""
        self._is_closed = True
        self._messages.clear()
        self._bytes = 0
        self._room.set()
