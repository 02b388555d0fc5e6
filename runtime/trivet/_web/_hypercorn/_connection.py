"""One client's connection, whose faults stay its own, and which ends.

Owns the limits of a client: it cannot crash the program, hold the connection without reading, or
keep it after the last response; and how a disconnect is noticed.
Never knows requests and responses; they are the application's.
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
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]

from ..._faults._containment import split_failure, summary
from ._protocol import Protocol
from ._task_group import ConnectionTaskGroup

USER_TIMEOUT = 1000
"""Milliseconds that sent data may stay unread once the stop has begun."""
LINGER_TIMEOUT = 1.0
"""Seconds that a client has to close a connection after the last response, and an application to
end after its client has disconnected."""
SEND_TIMEOUT, MIN_SEND_RATE = 30.0, 500
"""Seconds after which a client that reads too slowly is disconnected, and bytes that it has to read
for each of them: a body may come as slowly."""
PROBE_AFTER = 5.0
"""Seconds after which a client from which nothing is read is probed, to see whether it is there."""
CLOSE_TIMEOUT = 1.0
"""Seconds in which a connection is closed, after which it is abandoned."""
READ_SIZE = 64 * 1024
"""Bytes that are read at once."""

_RESET = struct.pack("ii", 1, 0)
_GONE = select.POLLHUP | select.POLLERR
_HALF_CLOSED = getattr(select, "POLLRDHUP", 0)  # Linux has it.

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class Connection:
    """A connection; an error in it ends nothing else.

    Hypercorn's `TCPServer` has its place, and not its code: it closes a connection without a
    lingering close, starts a task for each idle time, and does not notice a client that is gone
    while nothing is read from it.
    """

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
        self._app = app
        self._config = config
        self._context = context
        self._stream = stream
        self._socket = stream.socket
        self._contains_interrupts = contains_interrupts
        self._send_lock = trio.Lock()
        self._reading = trio.CancelScope()
        self._is_idle = True
        self._is_ending = False
        self._is_reading = False
        self._is_half_closed = False
        self._probe_at = math.inf
        self._is_probed_by_system = False
        self._sent = 0
        self._is_sending = False
        self._send_deadline = math.inf
        self._acknowledged = 0

    async def run(self) -> None:
        """Serve the client until it disconnects, or is idle for too long, or the stop ends it."""
        try:
            await self._run()
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            cancelled, fault = split_failure(error, contains_interrupts=self._contains_interrupts)
            if fault is not None:
                _log.warning("connection failed", error=summary(fault), exc_info=fault)
            if cancelled is not None:
                raise cancelled from None  # noqa: ASYNC104

    def set_user_timeout(self) -> None:
        """Disconnect the client, from now on, when it reads nothing for a second (on Linux).

        Set from the beginning, it would cut off clients that only pause.
        """
        if sys.platform == "linux" and self._is_open_tcp():
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)

    def abort(self) -> None:
        """End the connection now, also while it sends, which no cancellation interrupts."""
        self._socket.close()

    def close_if_idle(self) -> None:
        """End the connection if there is no request."""
        if self._is_idle:
            self._reading.cancel()

    def check_peer(self) -> None:
        """End the connection if the client is gone, or does not read; to be called now and then.

        Reading shows by itself that a client has disconnected. Nothing is read while the
        application has enough to do, and after the client has closed its side.
        """
        if self._socket.fileno() >= 0:
            self._check_send_rate()
        if self._is_reading or self._is_ending or self._socket.fileno() < 0:
            self._probe_at = math.inf
            return
        state = _poll(self._socket)
        has_left = state & _HALF_CLOSED and self._protocol.is_websocket
        if state & _GONE or has_left:
            self._end_reading()
        else:
            self._probe_if_due()

    def _is_open_tcp(self) -> bool:
        return self._socket.fileno() >= 0 and self._socket.family != socket.AF_UNIX

    def _check_send_rate(self) -> None:
        """Disconnect a client that has much to read and reads too little of it."""
        now = trio.current_time()
        if not self._is_sending:
            self._send_deadline = math.inf
            return
        acknowledged = self._sent - _unacknowledged(self._socket)
        if self._send_deadline != math.inf:
            if now < self._send_deadline:
                return
            if acknowledged - self._acknowledged < SEND_TIMEOUT * MIN_SEND_RATE:
                _log.info("client does not read", client=self._protocol.client, after=SEND_TIMEOUT)
                self._reset()
                return
        self._send_deadline = now + SEND_TIMEOUT
        self._acknowledged = acknowledged

    def _reset(self) -> None:
        """End the connection now, and drop the data that the client has not read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def _probe_if_due(self) -> None:
        """Probe the client at its time."""
        now = trio.current_time()
        if self._probe_at == math.inf:
            self._probe_at = now + PROBE_AFTER
        elif now >= self._probe_at and not self._is_sending:
            self._probe_at = now + PROBE_AFTER
            self._probe()

    def _probe(self) -> None:
        """Send data that a client that is gone answers with a reset, and any other one ignores.

        The end of a client's data cannot show that it is gone: it may be behind more data than is
        read, or the client may have closed its own side only.
        """
        probe = self._protocol.probe
        if not probe:
            self._let_system_probe()
            return
        with suppress(OSError):  # If the client is gone, the next check notices it.
            if os.write(self._socket.fileno(), probe) < len(probe):
                self._reset()  # Data behind half a probe would not be understood.

    def _let_system_probe(self) -> None:
        """Have the system probe the client, where HTTP has no message for it, as HTTP/1.0 has none.

        The system of a client that has closed its socket answers with a reset, once it has
        forgotten the connection: Linux after a minute.
        """
        if self._is_probed_by_system or not self._is_open_tcp():
            return
        self._is_probed_by_system = True
        seconds = max(1, math.ceil(PROBE_AFTER))
        for option in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):
            if hasattr(socket, option):  # The first is Linux's, the second macOS's.
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def _handle_event(self, event: Event) -> None:
        """Send data, or note that the connection is idle, or has to end."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self._set_idle(event.idle)
        else:
            self._end_reading()

    async def _send(self, data: bytes) -> None:
        try:
            self._send_lock.acquire_nowait()  # It takes no turn of the loop, as `async with` does.
        except trio.WouldBlock:
            await self._send_lock.acquire()
        try:
            with trio.CancelScope(shield=True):
                await self._send_all(data)
        except (OSError, trio.ClosedResourceError):
            self._end_reading()
        finally:
            self._is_sending = False
            self._send_lock.release()
        if self._is_half_closed and not self._protocol.outlives_half_close:
            self._end_reading()

    async def _send_all(self, data: bytes) -> None:
        """Send data, and count it."""
        self._is_sending = True
        with memoryview(data) as rest:
            sent = 0
            while sent < len(rest):
                some = await self._socket.send(rest[sent:])
                sent += some
                self._sent += some

    def _end_reading(self) -> None:
        self._is_ending = True
        self._reading.cancel()

    def _set_idle(self, is_idle: bool) -> None:
        """Limit the time until the next request; hypercorn starts a task to do so, each time."""
        self._is_idle = is_idle
        seconds = self._config.keep_alive_timeout if is_idle else math.inf
        self._reading.deadline = trio.current_time() + seconds

    async def _read(self) -> None:
        self._set_idle(True)
        with self._reading:
            await self._read_until_end()
        self._is_half_closed = False
        await self._protocol.handle(Closed())
        if self._is_ending:
            await lingering_close(self._stream)

    async def _read_until_end(self) -> None:
        data: bytes | bytearray = b" "
        while data:
            self._is_reading = True
            try:
                data = await self._stream.receive_some(READ_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            finally:
                self._is_reading = False
            await self._protocol.handle(RawData(bytes(data)))
        if not self._is_idle and self._protocol.outlives_half_close:
            self._is_half_closed = True
            await trio.sleep_forever()  # Until the response is complete.

    async def _run(self) -> None:
        family = self._socket.family
        try:
            client = parse_socket_addr(family, self._socket.getpeername())
            server = parse_socket_addr(family, self._socket.getsockname())
            with trio.CancelScope() as applications:
                async with ConnectionTaskGroup() as task_group:
                    self._protocol = Protocol(
                        self._app,
                        self._config,
                        self._context,
                        task_group,
                        client,
                        server,
                        self._handle_event,
                    )
                    await self._read()
                    # An application that does not read its messages is not told of the disconnect.
                    applications.deadline = trio.current_time() + LINGER_TIMEOUT
        except OSError:
            self._is_ending = True  # The client is gone.
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
                await self._close()

    async def _close(self) -> None:
        with suppress(
            trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError
        ):  # The client is gone, or a send is still blocked.
            await self._stream.send_eof()
        await self._stream.aclose()


def _poll(connected: trio.socket.SocketType) -> int:
    """The system's knowledge of the client, also while nothing is read."""
    poll = select.poll()
    poll.register(connected.fileno(), _HALF_CLOSED)
    events = poll.poll(0)
    return events[0][1] if events else 0


def _unacknowledged(connected: trio.socket.SocketType) -> int:
    """Bytes that were sent and not acknowledged yet, where the system tells."""
    try:
        answer = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    (count,) = struct.unpack("i", answer)
    return int(count)


async def lingering_close(stream: trio.SocketStream) -> None:
    """Close the sending side, and let the client read the data that was sent.

    To close the socket while there is unread data would reset the connection, and lose the
    response.
    """
    gone = suppress(trio.BrokenResourceError, trio.ClosedResourceError)
    with trio.move_on_after(LINGER_TIMEOUT), gone:
        with suppress(trio.BusyResourceError):  # The end of a response is still being sent.
            await stream.send_eof()
        while await stream.receive_some(READ_SIZE):
            continue
