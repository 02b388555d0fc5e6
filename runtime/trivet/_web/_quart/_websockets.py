"""Quart's websocket and its connection, with back-pressure and limits.

Owns how many messages wait in memory, which messages can be read, and that a handler ends with its
client.
Never knows the handler.
"""

from __future__ import annotations

from typing import Any

import structlog
import trio
from quart.signals import websocket_received
from quart_trio.asgi import TrioASGIWebsocketConnection
from quart_trio.wrappers import TrioWebsocket
from werkzeug.exceptions import RequestEntityTooLarge

from ..._faults._containment import members
from .._asgi import Receive
from .._context import current_context
from ._requests import check_json_size

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")

MAX_WAITING_MESSAGES = 0
"""Messages that wait here for the handler, besides the one being read: the server has a queue for
more, which is bounded in bytes."""

INVALID_DATA, TOO_LARGE = 1007, 1009
"""Close codes for a client that has sent malformed JSON, or too much of it."""


class UnreadableMessageError(ValueError):
    """A message is no JSON that can be read, which is its client's fault."""

    def __init__(self, reason: str, close_code: int) -> None:
        super().__init__(reason)
        self.close_code = close_code


def unreadable_message(fault: BaseException) -> UnreadableMessageError | None:
    """The error of an unreadable message, where the fault of a handler is nothing else."""
    faults = list(members(fault))
    first = faults[0]
    ours = all(isinstance(each, UnreadableMessageError) for each in faults)
    return first if ours and isinstance(first, UnreadableMessageError) else None


def log_unreadable(error: UnreadableMessageError) -> None:
    """Log in one line that a client has sent an unreadable message."""
    context = current_context()
    _log.info("malformed message", route=context.route, plugin=context.plugin, reason=str(error))


class Websocket(TrioWebsocket):
    """Quart's websocket with a bounded buffer; in newer versions any number of messages wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        self.messages, self._messages = trio.open_memory_channel[str | bytes](MAX_WAITING_MESSAGES)

    async def receive(self) -> str | bytes:
        """Wait for the next message; accept the handshake first, where the handler has not."""
        await self.accept()  # pyright: ignore[reportUnknownMemberType]
        return await self._messages.receive()

    async def receive_json(self) -> Any:
        """Wait for the next message, and decode it.

        Raises:
            UnreadableMessageError: it is malformed, or has too many values. It is a ValueError;
                where the handler does not catch it, the websocket is closed with 1007 or 1009.
        """
        message = await self.receive()
        quart: Any = self  # Quart's decoder has no types.
        try:
            await check_json_size(message.encode() if isinstance(message, str) else message)
            return quart.json_module.loads(message)
        except RequestEntityTooLarge:
            reason = "the message has too many values"
            raise UnreadableMessageError(reason, TOO_LARGE) from None
        except (ValueError, RecursionError):
            reason = "the message is no JSON that can be read"
            raise UnreadableMessageError(reason, INVALID_DATA) from None


class WebsocketConnection(TrioASGIWebsocketConnection):
    """Quart's connection, which cancels the handler when its client has disconnected.

    Quart's types of `receive` and `send` are hypercorn's; here they are ASGI's.
    """

    async def __call__(self, receive: Receive, send: Any) -> None:  # type: ignore[override]
        """Run the handler for as long as its client is connected."""
        websocket: Any = self._create_websocket_from_scope(send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.handle_websocket, nursery, websocket, send)
            await self._receive_messages(websocket, receive)
            nursery.cancel_scope.cancel()

    async def _receive_messages(self, websocket: Websocket, receive: Receive) -> None:
        """Pass on the client's messages, until it has disconnected."""
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            if event["type"] == "websocket.receive":
                text = event.get("text")
                message = (event.get("bytes") or b"") if text is None else text
                wrapper: Any = self.app.ensure_async
                await websocket_received.send_async(message, _sync_wrapper=wrapper)
                await websocket.messages.send(message)
