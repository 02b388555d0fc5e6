"""The applications of one connection: a task for each, and what they are told.

Owns how much waits to be taken by an application, and that one whose client has left has its turn.
Never knows what is said.
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

WAITING = 1024 * 1024
"""Bytes of messages that wait for an application, at which nothing more is read for it."""
OF_A_MESSAGE = 512
"""Bytes that a message takes besides what it says."""
TURN = 32
"""Messages after which others have their turn."""


class Mailbox:
    """What an application is told, in order; bounded in bytes, not in number."""

    def __init__(self) -> None:
        self._into, self._out_of = trio.open_memory_channel[tuple[ASGIReceiveEvent, int]](math.inf)
        self._bytes = 0
        self._put = 0
        self._room = trio.Event()
        self.is_last = False
        """Whether it was told that its client has left, or that all is said."""

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Hand over a message, and wait while too much is waiting.

        That the client has left does not wait; who has ended is told nothing more.
        """
        self.is_last = message["type"] in ("http.disconnect", "websocket.disconnect")
        while self._bytes >= WAITING and not self.is_last:
            self._room = trio.Event()
            await self._room.wait()
        self._put += 1
        if self._put % TURN == 0 and not self.is_last:
            await trio.lowlevel.checkpoint()
        size = OF_A_MESSAGE + _size(message)
        try:
            self._into.send_nowait((message, size))
        except trio.BrokenResourceError:
            return
        self._bytes += size

    async def take(self) -> ASGIReceiveEvent:
        """Wait for the next message; one that is there already costs no turn of the loop."""
        try:
            message, size = self._out_of.receive_nowait()
        except trio.WouldBlock:
            message, size = await self._out_of.receive()
        self._bytes -= size
        self._room.set()
        return message

    def close(self) -> None:
        """Nothing is taken any more."""
        self._out_of.close()
        self._bytes = 0
        self._room.set()


def _size(message: ASGIReceiveEvent) -> int:
    if message["type"] == "http.request":
        return len(message["body"])
    if message["type"] == "websocket.receive":
        return len(message.get("bytes") or message.get("text") or b"")
    return 0


class Applications(TaskGroup):
    """The applications of a connection, each with a task and a mailbox."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Begin one; returns what hands messages to it."""
        mailbox = Mailbox()

        async def answer(
            scope: Scope,
            receive: ASGIReceiveCallable,
            send: ASGISendCallable,
            sync_spawn: Callable[..., Any],
            call_soon: Callable[..., Any],
        ) -> None:
            """Take from this mailbox, and not from hypercorn's queue."""
            try:
                await app(scope, mailbox.take, send, sync_spawn, call_soon)
            finally:
                mailbox.close()

        async def tell(message: ASGISendEvent | None) -> None:
            """Send; to nobody, it is not done before others have had their turn.

            An application that waits for nothing else would not learn that its client has left.
            """
            if mailbox.is_last and message is not None:
                await trio.lowlevel.checkpoint()
            await send(message)

        await super().spawn_app(answer, config, scope, tell)
        return mailbox.put
