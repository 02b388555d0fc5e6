"""The frames of a websocket: hypercorn's stream, which closes as RFC 6455 has it.

Owns the limit of a message, the close codes of a client's faults, and the turns between frames.
Never knows which application receives the messages.
"""

from __future__ import annotations

from typing import Any, cast

import trio
from hypercorn.protocol.events import Body, Data, Event, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.typing import ASGISendEvent
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

FRAMES_PER_TURN = 100
"""Frames after which others have their turn."""


class WebsocketStream(WSStream):
    """One websocket, whose handshake could be read."""

    _size = 0
    _is_refused = False

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Send a message of the application, unless the client was refused."""
        if not self._is_refused:
            await super().app_send(message)

    async def handle(self, event: Event) -> None:
        """Handle an event of the connection."""
        if self.closed or not isinstance(event, (Body, Data)):
            await super().handle(event)
        elif self.handshake.accepted:
            self.connection.receive_data(event.data)
            await self._handle_events()
        elif self.state is ASGIWebsocketState.HANDSHAKE:
            self._is_refused = True
            self.state = ASGIWebsocketState.HTTPCLOSED
            await self._send_error_response(400)

    async def _handle_events(self) -> None:
        """Pass the messages on to the application, and answer the other frames."""
        for number, event in enumerate(self.connection.events(), 1):
            if isinstance(event, (TextMessage, BytesMessage)):
                await self._collect(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._end(event)
            if self.closed:
                return
            if number % FRAMES_PER_TURN == 0:
                await trio.lowlevel.checkpoint()

    async def _end(self, event: CloseConnection) -> None:
        """Answer the end of the websocket: a close frame, or one that could not be read."""
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            await self._send_wsproto_event(event.response())
            await self.send(StreamClosed(stream_id=self.stream_id))
        else:
            await self._fail(event.code)

    async def _collect(self, event: TextMessage | BytesMessage) -> None:
        """Add a frame to the message; its size is that on the wire, and not in characters."""
        data = event.data
        self._size += len(data.encode() if isinstance(data, str) else data)
        if self._size > self.buffer.max_length:
            await self._fail(CloseReason.MESSAGE_TOO_BIG)
            return
        self.buffer.extend(event)  # pyright: ignore[reportUnknownMemberType]
        if event.message_finished:
            buffer, stream = cast("Any", self.buffer), cast("Any", self)  # These have no types.
            message = buffer.to_message()
            self.buffer.clear()
            self._size = 0
            await stream.app_put(message)

    async def _fail(self, code: int) -> None:
        """Close with the code of the fault, and end."""
        await self._send_wsproto_event(CloseConnection(code=code))
        await self.send(StreamClosed(stream_id=self.stream_id))
