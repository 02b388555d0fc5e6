"""One websocket, from its handshake to its end; wsproto parses and writes the frames.

Owns the answer to the handshake, the limit of a message, the close codes of a client's faults, and
the turns between frames.
Never knows which application receives the messages.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

import trio
from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, generate_accept_token

from .._asgi import ASGIApp, SendMessage, WebsocketAccept, WebsocketReceive, WebsocketScope
from ._heads import Head
from ._receive_queue import ReceiveQueue
from ._request import Response, ResponseError, own_response
from ._transport import Transport

PING = b"\x89\x00"
FRAMES_PER_TURN = 100
"""Frames after which other tasks have their turn."""


def subprotocols(head: Head) -> list[str]:
    """The subprotocols that a client offers."""
    offered = head.get(b"sec-websocket-protocol").decode("ascii")
    return [name.strip() for name in offered.split(",") if name.strip()]


class _State(Enum):
    HANDSHAKE = auto()
    """The application has not answered the handshake yet."""
    REFUSING = auto()
    """The application sends a response, as to a request."""
    OPEN = auto()
    OVER = auto()
    """The websocket was closed or refused."""


class Websocket:
    """One websocket.

    Args:
        head: the handshake.
        transport: the connection's.
        max_size: bytes that a message may have.
        ended: called when the client has disconnected, or the websocket was closed.
    """

    def __init__(
        self,
        head: Head,
        transport: Transport,
        *,
        max_size: int,
        ended: Callable[[], None],
    ) -> None:
        self._head = head
        self._transport = transport
        self._max_size = max_size
        self._ended = ended
        self._state = _State.HANDSHAKE
        self._frames = Frames(ConnectionType.SERVER)
        self._queue = ReceiveQueue()
        self._response = Response(head)
        self._response.keeps_alive = False
        self._writing = trio.Lock()
        self._parts: list[str | bytes] = []
        self._size = 0

    @property
    def probe(self) -> bytes:
        """A frame that shows whether the client is there; empty while none can be sent."""
        is_free = self._state is _State.OPEN and not self._writing.locked()
        return PING if is_free else b""

    @property
    def takes_both_sides(self) -> bool:
        """A websocket needs a client that can answer a close."""
        return True

    async def run(self, app: ASGIApp, scope: WebsocketScope) -> None:
        """Await the application in this task, while another task reads, until it has ended."""
        await self._queue.put({"type": "websocket.connect"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            try:
                await app(scope, self._queue.take, self.send)
            finally:
                self._queue.close()
                nursery.cancel_scope.cancel()
        await self._end()

    async def _end(self) -> None:
        """Refuse or close the websocket, where the application has not."""
        if self._state is _State.HANDSHAKE:
            await self._refuse(500)
        elif self._state is _State.OPEN:
            await self._close(CloseReason.INTERNAL_ERROR)

    async def send(self, message: SendMessage) -> None:
        """Send a message of the application; none once the websocket is over."""
        if self._state is _State.OVER:
            # An application that waits for nothing else would not learn of the disconnect.
            await trio.lowlevel.checkpoint()
            return
        if self._state is _State.HANDSHAKE:
            await self._answer_handshake(message)
        elif self._state is _State.REFUSING and message["type"] == "websocket.http.response.body":
            more = message.get("more_body", False)
            await self._write(self._response.body_part(message.get("body", b""), more=more))
            if not more:
                self._state = _State.OVER
        elif self._state is _State.OPEN and message["type"] == "websocket.send":
            data, text = message.get("bytes"), message.get("text") or ""
            event = TextMessage(text) if data is None else BytesMessage(bytes(data))
            await self._write(self._frames.send(event))
        elif self._state is _State.OPEN and message["type"] == "websocket.close":
            await self._close(message.get("code", 1000), message.get("reason"))
        else:
            raise _misplaced(message, self._state)

    async def _answer_handshake(self, message: SendMessage) -> None:
        if message["type"] == "websocket.accept":
            await self._accept(message)
        elif message["type"] == "websocket.close":
            await self._refuse(403)
        elif message["type"] == "websocket.http.response.start":
            self._state = _State.REFUSING
            headers = message.get("headers", ())
            await self._write(self._response.begin(message["status"], headers, left=0))
        else:
            raise _misplaced(message, self._state)

    async def _accept(self, message: WebsocketAccept) -> None:
        lines = [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
            b"Sec-WebSocket-Accept: %b\r\n"
            % generate_accept_token(self._head.get(b"sec-websocket-key")),
        ]
        chosen = message.get("subprotocol")
        if chosen is not None:
            if chosen not in subprotocols(self._head):
                raise ResponseError(f"the client has not offered the subprotocol {chosen!r}")
            lines.append(b"Sec-WebSocket-Protocol: %b\r\n" % chosen.encode("ascii"))
        # The headers are checked, and those of the server's own left out.
        rest = Response(self._head)
        rest.has_body = False
        rest.begin(204, message.get("headers", ()), left=0)
        lines.append(rest.held.partition(b"\r\n")[2])
        self._state = _State.OPEN
        await self._write(b"".join(lines))

    async def _refuse(self, status: int) -> None:
        self._state = _State.OVER
        await self._write(own_response(status, [], b""))

    async def _close(self, code: int, reason: str | None = None) -> None:
        self._state = _State.OVER
        await self._write_event(CloseConnection(code, reason))

    async def _listen(self) -> None:
        """Read until the client has disconnected, or the websocket is over."""
        code = await self._frames_to_the_end()
        self._queue.put_last({"type": "websocket.disconnect", "code": code, "reason": None})
        self._ended()

    async def _frames_to_the_end(self) -> int:
        """Read frames; returns the close code for the application."""
        while True:
            try:
                data = await self._transport.receive()
            except (OSError, trio.ClosedResourceError):
                data = b""
            if not data:
                self._state = _State.OVER
                return CloseReason.ABNORMAL_CLOSURE
            if self._state is _State.HANDSHAKE:  # A frame before the handshake is answered.
                await self._refuse(400)
                return CloseReason.ABNORMAL_CLOSURE
            if self._state is _State.OPEN:
                code = await self._handle_data(data)
                if code is not None:
                    return code

    async def _handle_data(self, data: bytes) -> int | None:
        """Handle the frames in received data; returns the close code if they end the websocket."""
        self._frames.receive_data(data)
        for number, event in enumerate(self._frames.events(), 1):
            if isinstance(event, (TextMessage, BytesMessage)):
                if await self._collect(event):
                    await self._close(CloseReason.MESSAGE_TOO_BIG)
                    return CloseReason.MESSAGE_TOO_BIG
            elif isinstance(event, Ping):
                await self._write_event(event.response())
            elif isinstance(event, CloseConnection):
                if self._frames.state is ConnectionState.REMOTE_CLOSING:
                    await self._write_event(event.response())
                    self._state = _State.OVER
                elif self._state is _State.OPEN:
                    await self._close(event.code)
                return event.code
            if self._state is not _State.OPEN:
                return CloseReason.NORMAL_CLOSURE
            if number % FRAMES_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        return None

    async def _collect(self, event: TextMessage | BytesMessage) -> bool:
        """Add a frame to its message, and pass a whole one on; returns whether it is too large.

        The size is that on the wire, and not in characters.
        """
        data = event.data
        self._size += len(data.encode()) if isinstance(data, str) else len(data)
        if self._size > self._max_size:
            self._parts.clear()
            return True
        self._parts.append(data if isinstance(data, str) else bytes(data))
        if event.message_finished:
            message: WebsocketReceive = {"type": "websocket.receive", "text": None, "bytes": None}
            if isinstance(event, TextMessage):
                message["text"] = "".join(map(str, self._parts))
            else:
                pieces = (part for part in self._parts if isinstance(part, bytes))
                message["bytes"] = b"".join(pieces)
            self._parts.clear()
            self._size = 0
            await self._queue.put(message)
        return False

    async def _write_event(self, event: Event) -> None:
        try:
            data = self._frames.send(event)
        except LocalProtocolError:
            return  # The client has closed it meanwhile.
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        """Send data; an error is left to the task that reads."""
        try:
            self._writing.acquire_nowait()  # Unlike `async with`, no turn of the loop.
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            await self._transport.send_all(data)
        except (OSError, trio.ClosedResourceError):
            self._state = _State.OVER
        except BaseException:
            self._state = _State.OVER  # Half a frame may be sent, and nothing can follow it.
            raise
        finally:
            self._writing.release()


def _misplaced(message: SendMessage, state: _State) -> ResponseError:
    return ResponseError(f"{message['type']!r} is not for a websocket that is {state.name.lower()}")
