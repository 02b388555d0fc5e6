"""One client's connection: it ends alone, and it ends.

Owns what a client may do to the program with a connection: it cannot end it, nor hold on to it
without reading, nor go on when all is said; and how a client is seen to have left.
Never knows requests and answers; they are the application's.
"""

from __future__ import annotations

import fcntl
import math
import os
import select
import socket
import struct
import sys
import termios
from contextlib import suppress

import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]

from ..._faults._containment import includes, split_cancelled, summary
from ._applications import Applications
from ._protocol import Protocol

UNREAD_FOR = 1000
"""Milliseconds that sent data may stay unread once the stop has begun."""
LEAVE_WITHIN = 1.0
"""Seconds that a client has to close a connection on which all is said, and an application to take
notice of a client that has left."""
SEND_WITHIN, SEND_RATE = 30.0, 500
"""Seconds in which a client that has something to read reads so many bytes for each of them, or is
ended: a body may come as slowly."""
ASK_AFTER = 5.0
"""Seconds after which a client from which nothing is read is asked whether it is still there."""
CHUNK = 64 * 1024
"""Bytes that are read at once."""

_RESET = struct.pack("ii", 1, 0)
_GONE = select.POLLHUP | select.POLLERR
_SAYS_NO_MORE = getattr(select, "POLLRDHUP", 0)  # Linux has it.

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class Connection(TCPServer):
    """A connection that ends alone, whatever becomes of it."""

    _protocol: Protocol

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        *,
        contains_interrupts: bool,
    ) -> None:
        super().__init__(app, config, context, {}, stream)  # type: ignore[arg-type]
        self._stream = stream
        self._socket = stream.socket
        self._contains_interrupts = contains_interrupts
        self._listening = trio.CancelScope()
        self._is_idle = True
        self._is_over = False
        self._is_reading = False
        self._is_half_closed = False
        self._ask_at = math.inf
        self._sent = 0
        self._is_sending = False
        self._due = math.inf
        self._taken_before = 0

    async def run(self) -> None:
        """Serve the client until it leaves, or is idle for too long, or the stop ends it."""
        try:
            await self._run()
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            cancelled, fault = split_cancelled(error)
            if includes(fault, KeyboardInterrupt) and not self._contains_interrupts:
                raise
            if fault is not None:
                _log.warning("connection failed", error=summary(fault), exc_info=fault)
            if cancelled is not None:
                raise cancelled from None  # noqa: ASYNC104

    def give_up_on_silence(self) -> None:
        """From now on a client that reads nothing for a second is gone (on Linux).

        Set from the beginning, it would cut off clients that only pause.
        """
        is_open_tcp = self._socket.fileno() >= 0 and self._socket.family != socket.AF_UNIX
        if sys.platform == "linux" and is_open_tcp:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_FOR)

    def cut(self) -> None:
        """End it now, also while it sends, which is done in a shield."""
        self._socket.close()

    def leave_if_idle(self) -> None:
        """End it if nothing is going on."""
        if self._is_idle:
            self._listening.cancel()

    def look(self) -> None:
        """End it if the client is gone, or does not read; to be called now and then.

        Reading shows by itself that a client has left. Nothing is read while the application has
        enough to do, and after the client has said that it sends nothing more.
        """
        if self._socket.fileno() >= 0:
            self._look_at_sending()
        if self._is_reading or self._is_over or self._socket.fileno() < 0:
            self._ask_at = math.inf
            return
        state = _state(self._socket)
        has_left = state & _SAYS_NO_MORE and self._protocol.is_websocket
        if state & _GONE or has_left:
            self._say_no_more()
        else:
            self._ask()

    def _look_at_sending(self) -> None:
        """End a client that has much to read and reads too little of it."""
        now = trio.current_time()
        if not self._is_sending:
            self._due = math.inf
            return
        taken = self._sent - _unread(self._socket)
        if self._due != math.inf:
            if now < self._due:
                return
            if taken - self._taken_before < SEND_WITHIN * SEND_RATE:
                _log.info("client does not read", client=self._protocol.client, after=SEND_WITHIN)
                self._reset()
                return
        self._due = now + SEND_WITHIN
        self._taken_before = taken

    def _reset(self) -> None:
        """End it now, and forget what was not read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.cut()

    def _ask(self) -> None:
        """Send what a client that has left answers with a reset, and any other one ignores.

        Its leaving may be behind so much that it sent before that it cannot be seen.
        """
        now = trio.current_time()
        if self._ask_at == math.inf:
            self._ask_at = now + ASK_AFTER
        elif now >= self._ask_at and not self._is_sending:
            self._ask_at = now + ASK_AFTER
            question = self._protocol.question
            with suppress(OSError):  # If it is gone, the next look says so.
                if os.write(self._socket.fileno(), question) < len(question):
                    self._reset()  # What follows half a question would not be understood.

    async def protocol_send(self, event: Event) -> None:
        """Send, or end the connection, which is left to who reads from it."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self._idle(event.idle)
        else:
            self._say_no_more()

    async def _send(self, data: bytes) -> None:
        try:
            self.send_lock.acquire_nowait()  # Which has no turn of the loop, as `async with` has.
        except trio.WouldBlock:
            await self.send_lock.acquire()
        try:
            with trio.CancelScope(shield=True):
                await self._send_all(data)
        except (OSError, trio.ClosedResourceError):
            self._say_no_more()
        finally:
            self._is_sending = False
            self.send_lock.release()
        if self._is_half_closed and not self._protocol.outlives_silence:
            self._say_no_more()

    async def _send_all(self, data: bytes) -> None:
        """Send it, and count what was sent."""
        self._is_sending = True
        with memoryview(data) as rest:
            sent = 0
            while sent < len(rest):
                some = await self._socket.send(rest[sent:])
                sent += some
                self._sent += some

    def _say_no_more(self) -> None:
        self._is_over = True
        self._listening.cancel()

    def _idle(self, is_idle: bool) -> None:
        """Wait for the next request, for so long; hypercorn begins a task to do so, each time."""
        self._is_idle = is_idle
        seconds = self.config.keep_alive_timeout if is_idle else math.inf
        self._listening.deadline = trio.current_time() + seconds

    async def _read_data(self) -> None:
        self._idle(True)
        with self._listening:
            await self._listen()
        self._is_half_closed = False
        await self._protocol.handle(Closed())
        if self._is_over:
            await hang_up(self._stream)

    async def _listen(self) -> None:
        data: bytes | bytearray = b" "
        while data:
            self._is_reading = True
            try:
                data = await self.stream.receive_some(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            finally:
                self._is_reading = False
            await self._protocol.handle(RawData(bytes(data)))
        if not self._is_idle and self._protocol.outlives_silence:
            self._is_half_closed = True
            await trio.sleep_forever()  # Until all is said.

    async def _run(self) -> None:
        family = self._socket.family
        try:
            client = parse_socket_addr(family, self._socket.getpeername())
            server = parse_socket_addr(family, self._socket.getsockname())
            with trio.CancelScope() as applications:
                async with Applications() as task_group:
                    self._protocol = Protocol(
                        self.app,
                        self.config,
                        self.context,
                        task_group,
                        client,
                        server,
                        self.protocol_send,
                    )
                    await self._read_data()
                    # Who has messages waiting, and does not take them, cannot be told.
                    applications.deadline = trio.current_time() + LEAVE_WITHIN
        except OSError:
            self._is_over = True  # The client is gone.
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await self._close()


def _state(connected: trio.socket.SocketType) -> int:
    """What the system knows of the other end, also while nothing is read."""
    poll = select.poll()
    poll.register(connected.fileno(), _SAYS_NO_MORE)
    seen = poll.poll(0)
    return seen[0][1] if seen else 0


def _unread(connected: trio.socket.SocketType) -> int:
    """Bytes that were sent and that the client has not taken yet, where the system says so."""
    try:
        answer = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    (count,) = struct.unpack("i", answer)
    return int(count)


async def hang_up(stream: trio.SocketStream) -> None:
    """Say that nothing follows, and let the client read what was sent.

    To close while there is something unread would reset the connection, and lose it.
    """
    gone = suppress(trio.BrokenResourceError, trio.ClosedResourceError)
    with trio.move_on_after(LEAVE_WITHIN), gone:
        with suppress(trio.BusyResourceError):  # The end of an answer is still on its way.
            await stream.send_eof()
        while await stream.receive_some(CHUNK):
            continue
