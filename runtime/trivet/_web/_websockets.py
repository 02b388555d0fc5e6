"""A websocket, whose messages are taken from its client as they are received.

Owns how many messages wait in memory, and that a websocket ends with its client.
Never knows what receives them.
"""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart.signals import websocket_received
from quart_trio.asgi import TrioASGIWebsocketConnection
from quart_trio.wrappers import TrioWebsocket

WAITING = 0
"""Messages that wait here to be received, beside the one in hand: the server has a place for more,
which is bounded in bytes."""


class Websocket(TrioWebsocket):
    """Quart's, whose newer versions let any number of messages wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        self.arrive, self._arrived = trio.open_memory_channel[str | bytes](WAITING)

    async def receive(self) -> str | bytes:
        """Wait for the next message; open the websocket, where that is not done."""
        await self.accept()  # pyright: ignore[reportUnknownMemberType]
        return await self._arrived.receive()


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
