"""A websocket, whose messages are taken from its client as they are received.

Owns how many messages wait in memory, and that a websocket ends with its client.
Never knows what receives them.
"""

from __future__ import annotations

from typing import Any

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart.signals import websocket_received
from quart_trio.asgi import TrioASGIWebsocketConnection
from quart_trio.wrappers import TrioWebsocket
from werkzeug.exceptions import RequestEntityTooLarge

from .._faults._containment import members
from ._exchange import current_exchange
from ._requests import count_json

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")

WAITING = 0
"""Messages that wait here to be received, beside the one being read: the server has a place for
more, which is bounded in bytes."""


INVALID_DATA, TOO_LARGE = 1007, 1009
"""Codes with which a websocket is closed whose client has sent what is no JSON, or too much."""


class UnreadableMessageError(ValueError):
    """A message is no JSON that can be read, which is its client's fault."""

    def __init__(self, reason: str, close_code: int) -> None:
        super().__init__(reason)
        self.close_code = close_code


def unreadable_message(crash: BaseException) -> UnreadableMessageError | None:
    """The message at which a handler has failed, where nothing else was the matter."""
    faults = list(members(crash))
    first = faults[0]
    ours = all(isinstance(fault, UnreadableMessageError) for fault in faults)
    return first if ours and isinstance(first, UnreadableMessageError) else None


def log_unreadable(fault: UnreadableMessageError) -> None:
    """Say in one line that a client has sent what cannot be read."""
    exchange = current_exchange()
    _log.info("malformed message", route=exchange.route, plugin=exchange.plugin, reason=str(fault))


class Websocket(TrioWebsocket):
    """Quart's, whose newer versions let any number of messages wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        self.arrive, self._arrived = trio.open_memory_channel[str | bytes](WAITING)

    async def receive(self) -> str | bytes:
        """Wait for the next message; open the websocket, where that is not done."""
        await self.accept()  # pyright: ignore[reportUnknownMemberType]
        return await self._arrived.receive()

    async def receive_json(self) -> Any:
        """Wait for the next message, and decode it.

        Raises:
            UnreadableMessageError: it is no JSON, or has too many values. It is a ValueError;
                where the handler does not catch it, the websocket is closed, by 1007 or 1009.
        """
        message = await self.receive()
        quart: Any = self  # Which tells no types of its decoder.
        try:
            await count_json(message.encode() if isinstance(message, str) else message)
            return quart.json_module.loads(message)
        except RequestEntityTooLarge:
            reason = "the message has too many values"
            raise UnreadableMessageError(reason, TOO_LARGE) from None
        except (ValueError, RecursionError):
            reason = "the message is no JSON that can be read"
            raise UnreadableMessageError(reason, INVALID_DATA) from None


class WebsocketConnection(TrioASGIWebsocketConnection):
    """Quart's, whose handler is cancelled when its client has left, in every version."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Let the handler talk to its client, as long as both are there."""
        websocket: Any = self._create_websocket_from_scope(send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.handle_websocket, nursery, websocket, send)
            await self._take_in(websocket, receive)
            nursery.cancel_scope.cancel()

    async def _take_in(self, websocket: Websocket, receive: ASGIReceiveCallable) -> None:
        """Hand over what the client says, until it has left."""
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            if event["type"] == "websocket.receive":
                text = event.get("text")
                message = (event["bytes"] or b"") if text is None else text
                wrapper: Any = self.app.ensure_async
                await websocket_received.send_async(message, _sync_wrapper=wrapper)
                await websocket.arrive.send(message)
