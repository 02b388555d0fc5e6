"""A plain socket, and the state of its other end.

Owns the socket: reading, sending, and how a client that is gone or does not read is noticed.
Never knows HTTP.

The connection uses these methods and nothing else of a socket, so that another transport is another
class and not another server: `_tls` has one.
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
from typing import cast

import trio

USER_TIMEOUT = 1000
"""Milliseconds that sent data may stay unacknowledged once the stop has begun."""
LINGER_TIMEOUT = 1.0
"""Seconds that a client has to close a connection after the last response."""
SEND_TIMEOUT, MIN_SEND_RATE = 30.0, 500
"""Seconds after which a client that reads too slowly is disconnected, and bytes that it has to read
for each of them."""
PROBE_EVERY = 5
"""Seconds between two probes by the system."""
READ_SIZE = 64 * 1024
"""Bytes that are read at once."""

Address = tuple[str, int | None] | None
"""A host and a port, or the path of a Unix socket and None; None where the system names nothing."""

_RESET = struct.pack("ii", 1, 0)
_GONE = select.POLLHUP | select.POLLERR
_HALF_CLOSED = getattr(select, "POLLRDHUP", 0)  # Linux has it.


class Transport:
    """A connected stream socket.

    Args:
        connected: the socket, which this object closes.

    Raises:
        OSError: the client is gone already.
    """

    is_secure = False
    """Whether nobody between the client and this process can read the data."""

    def __init__(self, connected: trio.socket.SocketType) -> None:
        self._socket = connected
        self._descriptor = connected.fileno()
        self.client = _address(connected.family, connected.getpeername())
        self.server = _address(connected.family, connected.getsockname())
        self.is_reading = False
        """Whether a task waits for bytes, so that reading shows by itself that a client is gone."""
        self.is_sending = False
        """Whether a task waits until the client takes more."""
        self.received: int = 0
        """Bytes that have come from the client."""
        self.sent: int = 0
        """Bytes that the system has taken for the client."""
        self._send_deadline = math.inf
        self._acknowledged = 0

    async def open(self) -> bool:
        """Prepare the connection; False if the client has not taken part. Here nothing is done."""
        return True

    async def receive(self) -> bytes:
        """Wait for data, at most 64 KiB; empty when the client sends no more. A checkpoint.

        Raises:
            OSError: the connection is lost.
            trio.ClosedResourceError: the socket was closed here.
        """
        self.is_reading = True
        try:
            while self._descriptor >= 0:
                await trio.lowlevel.wait_readable(self._descriptor)
                try:
                    data = os.read(self._descriptor, READ_SIZE)
                except BlockingIOError:
                    continue
                self.received += len(data)
                return data
            raise trio.ClosedResourceError
        finally:
            self.is_reading = False

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send data; a checkpoint only where the system does not take it at once.

        Raises:
            OSError: the connection is lost.
            trio.ClosedResourceError: the socket was closed here.
        """
        sent = self.send_some(data)
        if sent < len(data):
            await self.send_rest(data, sent)

    def send_some(self, data: bytes | memoryview) -> int:
        """Send as much data as the system takes at once; returns the number of bytes.

        Raises:
            OSError: the connection is lost.
            trio.ClosedResourceError: the socket was closed here.
        """
        if self._descriptor < 0:
            raise trio.ClosedResourceError
        try:
            sent = os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        self.sent += sent
        return sent

    async def send_rest(self, data: bytes | memoryview, sent: int) -> None:
        """Send the data behind the first `sent` bytes, as `send_all` does."""
        self.is_sending = True
        try:
            with memoryview(data) as rest:
                while sent < len(rest):
                    if self._descriptor < 0:
                        raise trio.ClosedResourceError
                    await trio.lowlevel.wait_writable(self._descriptor)
                    with suppress(BlockingIOError):
                        some = os.write(self._descriptor, rest[sent:])
                        sent += some
                        self.sent += some
        finally:
            self.is_sending = False

    def try_send(self, data: bytes) -> bool:
        """Send data without a wait; return False if the system takes a part of it only."""
        with suppress(OSError):
            return os.write(self._descriptor, data) == len(data)
        return True

    @property
    def is_closed(self) -> bool:
        """Whether the socket was closed here."""
        return self._descriptor < 0

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed or reset the connection, as far as the system knows."""
        return bool(self._state() & _GONE)

    @property
    def has_unread(self) -> bool:
        """Whether the client has sent data that is not read yet, or has closed its side."""
        return bool(self._state() & (select.POLLIN | _HALF_CLOSED))

    @property
    def is_half_closed(self) -> bool:
        """Whether the client has closed its side (on Linux)."""
        return bool(self._state() & _HALF_CLOSED)

    def _state(self) -> int:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN | _HALF_CLOSED)
        seen = poll.poll(0)
        return seen[0][1] if seen else 0

    def falls_behind(self) -> bool:
        """Whether the client reads too slowly; to be called now and then."""
        now = trio.current_time()
        if not self.is_sending:
            self._send_deadline = math.inf
            return False
        acknowledged = self.sent - self._unacknowledged()
        if self._send_deadline != math.inf:
            if now < self._send_deadline:
                return False
            if acknowledged - self._acknowledged < SEND_TIMEOUT * MIN_SEND_RATE:
                return True
        self._send_deadline = now + SEND_TIMEOUT
        self._acknowledged = acknowledged
        return False

    def _unacknowledged(self) -> int:
        """Bytes that were sent and are not acknowledged yet, where the system tells."""
        try:
            answer = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        (count,) = struct.unpack("i", answer)
        return int(count)

    def stop_reading(self) -> None:
        """End reading: a task that reads gets the data in the system's buffer, and then the end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def set_user_timeout(self) -> None:
        """Disconnect the client, from now on, when it reads nothing for a second (on Linux).

        Set from the beginning, it would cut off clients that only pause.
        """
        if sys.platform == "linux" and not self.is_closed and self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)

    def let_system_probe(self) -> None:
        """Have the system probe the client, where HTTP has no message for it, as HTTP/1.0 has none.

        The system of a client that has closed its socket answers with a reset, once it has
        forgotten the connection: Linux after a minute.
        """
        if self._socket.family == socket.AF_UNIX:
            return
        for option in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):
            if hasattr(socket, option):  # The first is Linux's, the second macOS's.
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), PROBE_EVERY)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def lingering_close(self) -> None:
        """Close the sending side, and let the client read the data that was sent, for a second.

        To close the socket while there is unread data would reset the connection, and lose the
        response.
        """
        gone = suppress(OSError, trio.ClosedResourceError)
        with trio.move_on_after(LINGER_TIMEOUT), gone:
            self._socket.shutdown(socket.SHUT_WR)
            while await Transport.receive(self):  # noqa: ASYNC110 - the data is the event
                await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Close now, and drop the data that the client has not read."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close now; a task that waits for the socket gets `trio.ClosedResourceError`."""
        self._descriptor = -1
        self._socket.close()


def _address(family: int, name: object) -> Address:
    if isinstance(name, tuple):
        host, port, *_ = cast("tuple[object, ...]", name)
        return (host, port) if isinstance(host, str) and isinstance(port, int) else None
    return (name, None) if isinstance(name, str) and name and family == socket.AF_UNIX else None
