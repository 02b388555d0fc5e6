"""The client at the other end of a connection: its data, and whether it is still there.

Owns the received data that nobody has taken yet, and how it is noticed that a client has closed its
side, is gone, or does not read.
Never knows requests and frames; it sends as a probe the bytes that it is given.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Protocol

import structlog
import trio

from ._transport import READ_SIZE, Transport

PROBE_AFTER = 5.0
"""Seconds after which a client that may be gone is probed: one that has closed its side, or sends
more than is read."""
CLOSE_TIMEOUT = 1.0
"""Seconds that an application has to notice that its client has disconnected."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class Presence(Enum):
    """The states of a client."""

    HERE = auto()
    HALF_CLOSED = auto()
    """The client sends nothing more, and may still read."""
    GONE = auto()
    """The client is not there, or gets nothing more, because half a message was sent, say."""


_HERE, _HALF_CLOSED, _GONE = Presence  # A member of an Enum takes long to look up.


class Talk(Protocol):
    """The part of a request or a websocket that matters here."""

    @property
    def probe(self) -> bytes:
        """Data that a client that is gone answers with a reset, and any other one ignores."""
        ...

    @property
    def takes_both_sides(self) -> bool:
        """Whether a client that has closed its side is gone."""
        ...


class Peer:
    """One client.

    Args:
        transport: the way to the client.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.received = bytearray()
        """Data that was received, and not taken yet."""
        self.presence = _HERE
        self.scope = trio.CancelScope()
        """The scope of the connection, which is cancelled if its end takes too long."""
        self.requests = trio.CancelScope()
        """The scope of all requests of the connection, which is cancelled to cut one off. One for
        each would be the most costly part of a short request."""
        self._waiting: trio.CancelScope | None = None
        self._probe_at = math.inf

    @property
    def is_gone(self) -> bool:
        """Whether nothing is received from the client, or sent to it, any more."""
        return self.presence is _GONE

    async def receive_more(self) -> bool:
        """Wait for data; returns False if the client sends no more, or is gone. A checkpoint."""
        try:
            data = await self.transport.receive()
        except (OSError, trio.ClosedResourceError):
            self.presence = _GONE
            return False
        self.received += data
        return bool(data)

    async def write(self, data: bytes) -> None:
        """Send data; a checkpoint only where the system does not take it at once."""
        try:
            sent = self.transport.send_some(data)
            if sent < len(data):
                await self.transport.send_rest(data, sent)
        except (OSError, trio.ClosedResourceError):
            self.lose()
        except BaseException:
            self.lose()  # A part may be sent, and nothing can follow it.
            raise

    async def write_within(self, data: bytes, limit: float) -> None:
        """Send data, even if the calling task is cancelled; the client has `limit` seconds."""
        try:
            sent = self.transport.send_some(data)
            if sent < len(data):
                with trio.move_on_after(limit, shield=True) as sending:
                    await self.transport.send_rest(data, sent)
                if sending.cancelled_caught:
                    self.lose()
        except (OSError, trio.ClosedResourceError):
            self.lose()
        except BaseException:
            self.lose()  # As above.
            raise

    def lose(self) -> None:
        """Note that the client is gone; an application that does not notice is cancelled."""
        self.presence = _GONE
        self.end_waiting()
        self.scope.deadline = trio.current_time() + CLOSE_TIMEOUT

    async def wait_until_gone(self, talk: Talk) -> None:
        """Wait until the client is gone, or `end_waiting` is called."""
        with trio.CancelScope() as self._waiting:
            while self.presence is not _GONE:
                if self.presence is _HALF_CLOSED or len(self.received) >= READ_SIZE:
                    await trio.sleep_forever()
                if not await self.receive_more() and self.presence is _HERE:
                    self.presence = _HALF_CLOSED
                    self.check_sides(talk)
        self._waiting = None

    def end_waiting(self) -> None:
        """End the wait until the client is gone, if there is one."""
        if self._waiting is not None:
            self._waiting.cancel()

    def check_sides(self, talk: Talk) -> None:
        """Let go of a client that has closed its side, where it is of no use without."""
        if self.presence is _HALF_CLOSED and talk.takes_both_sides:
            self.lose()

    def check(self, talk: Talk) -> None:
        """Notice that the client is gone; to be called now and then while an application runs.

        A read notices a disconnect at once; but nothing is read while the application asks for no
        more, while more has come than it takes, and after the client has closed its side.
        """
        transport = self.transport
        if self.presence is _GONE or transport.is_reading:
            self._probe_at = math.inf
        elif transport.is_gone or (talk.takes_both_sides and transport.is_half_closed):
            self.lose()
        elif transport.has_unread or self.presence is _HALF_CLOSED:
            self._probe_if_due(talk)

    def _probe_if_due(self, talk: Talk) -> None:
        """Probe the client, once every `PROBE_AFTER` seconds.

        The end of a client's data cannot show that it is gone: it may be behind more data than is
        read, or the client may have closed its own side only.
        """
        now = trio.current_time()
        if self._probe_at == math.inf:
            self._probe_at = now + PROBE_AFTER
        elif now >= self._probe_at and not self.transport.is_sending:
            self._probe_at = now + PROBE_AFTER
            probe = talk.probe
            if not probe:
                self.transport.let_system_probe()
            elif not self.transport.try_send(probe):
                self.transport.reset()  # Data after half a probe would not be understood.

    def drop_if_behind(self) -> None:
        """Disconnect the client if it reads too slowly; to be called now and then."""
        if self.transport.falls_behind():
            _log.info("client does not read", client=self.transport.client)
            self.transport.reset()
