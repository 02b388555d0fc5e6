"""A socket whose bytes are TLS's.

Owns the handshake with its limit, and the records between the socket and the connection.
Never knows HTTP, except that a client may speak it where TLS is expected; nor certificates: the
context has them.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

import structlog
import trio

from ._heads import RefusedError
from ._transport import READ_SIZE, Transport

HANDSHAKE_TIMEOUT = 5.0
"""Seconds for the whole handshake, however slowly its bytes come."""
RECORDS = 64 * 1024
"""Bytes that are encrypted before they are sent; what the system does not take waits."""
_HANDSHAKE = 22
"""The first byte of TLS: the type of a record of the handshake."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class TlsTransport(Transport):
    """A connected socket that speaks TLS. The socket's state is the base class's.

    Args:
        connected: the socket, which this object closes.
        context: the certificate and the demands on clients.

    Raises:
        OSError: the client is gone already.
    """

    is_secure = True

    def __init__(self, connected: trio.socket.SocketType, context: ssl.SSLContext) -> None:
        super().__init__(connected)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = b""
        """Records that the system has not taken yet."""
        self._ahead = 0
        """Bytes of the data that is being sent whose records are in `_unsent`."""
        self._has_ended = False
        """Whether the client has ended TLS, and sends no more."""
        self._is_plain = False
        """Whether the client speaks no TLS, so that it gets its response without."""

    async def open(self) -> bool:
        """Make the handshake; False if the client has not completed it, which is logged.

        Raises:
            OSError: the connection is lost.
            trio.ClosedResourceError: the socket was closed here.
            RefusedError: the client speaks no TLS. The next data is sent to it as it is.
        """
        data, reason = b"", f"it was not complete within {HANDSHAKE_TIMEOUT:g} s"
        with trio.move_on_after(HANDSHAKE_TIMEOUT):
            data = await super().receive()
            if data:
                reason = await self._shake_hands(data)
        if not data:
            return False  # A probe of a load balancer, perhaps.
        if reason:
            _log.info("TLS handshake failed", client=self.client, reason=reason)
        return not reason

    async def _shake_hands(self, data: bytes) -> str:
        """Make the handshake, which begins with this data; returns the reason if it has failed."""
        if data[0] != _HANDSHAKE:
            self._is_plain = True
            raise RefusedError(400, "TLS is spoken here: write https://")
        while True:
            self._incoming.write(data)
            reason, is_complete = "", False
            try:
                self._tls.do_handshake()
                is_complete = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                reason = _in_words(error)
            await self._send_records()  # An alert says to the client what is wrong.
            if reason or is_complete:
                return reason
            data = await super().receive()
            if not data:
                return "the client has ended it"

    async def _send_records(self) -> None:
        self._unsent = self._outgoing.read()
        if not self._flush():
            unsent, self._unsent = self._unsent, b""
            await super().send_rest(unsent, 0)

    async def receive(self) -> bytes:
        """Wait for data; empty when the client sends no more. A checkpoint.

        Raises:
            OSError: the connection is lost, or what came is no TLS.
            trio.ClosedResourceError: the socket was closed here.
        """
        has_waited = False
        while (data := self._decrypted()) is None:
            received = await super().receive()
            has_waited = True
            if not received:
                return b""  # Without TLS's own end; HTTP knows its own.
            self._incoming.write(received)
        if not has_waited:
            await trio.lowlevel.checkpoint()
        return data

    def _decrypted(self) -> bytes | None:
        """The data of the records that have come; None if more of them have to come."""
        data = b""
        try:
            # An exception for each request, as a read without data raises it, costs 2 µs.
            while len(data) < READ_SIZE and (self._incoming.pending or self._tls.pending()):
                more = self._tls.read(READ_SIZE)
                data += more
                if not more:
                    self._has_ended = True
                    break
        except ssl.SSLWantReadError:
            pass  # The rest of a record has to come.
        except ssl.SSLError as error:
            if not data:
                _log.info("TLS failed", client=self.client, reason=_in_words(error))
                raise
        self._answer_update()
        return data if data or self._has_ended else None

    def _answer_update(self) -> None:
        """Send TLS's own answer to an update of keys, if it has one and nothing else is sent.

        Raises:
            OSError: the client asks for answers and does not read them.
        """
        if self._outgoing.pending > READ_SIZE:
            raise ConnectionAbortedError("the client does not read")
        if self._outgoing.pending and not (self._unsent or self.is_sending):
            self._unsent = self._outgoing.read()
            self._flush()

    def send_some(self, data: bytes | memoryview) -> int:
        """See `Transport`. The records of further data may wait here, for `send_rest`."""
        if self._is_plain:
            return super().send_some(data)
        sent = self._ahead = 0
        if not self._flush():
            return 0
        while sent < len(data):
            part = data[sent : sent + RECORDS]
            self._tls.write(part)
            self._unsent = self._outgoing.read()
            if not self._flush():
                self._ahead = len(part)
                return sent
            sent += len(part)
        return sent

    async def send_rest(self, data: bytes | memoryview, sent: int) -> None:
        """See `Transport`."""
        if self._is_plain:
            await super().send_rest(data, sent)
            return
        with memoryview(data) as rest:
            while sent < len(rest):
                ahead, self._ahead = self._ahead, 0
                unsent, self._unsent = self._unsent, b""
                await super().send_rest(unsent, 0)
                sent += ahead
                sent += self.send_some(rest[sent:])

    def _flush(self) -> bool:
        """Send the waiting records, as far as the system takes them; says whether it took all."""
        if self._unsent:
            self._unsent = self._unsent[super().send_some(self._unsent) :]
        return not self._unsent

    def try_send(self, data: bytes) -> bool:
        """Send data without a wait; return False if the system takes a part of it only."""
        with suppress(OSError):
            return self.send_some(data) == len(data)
        return True

    @property
    def has_unread(self) -> bool:
        """Whether the client has sent data that is not read yet, or has closed its side."""
        return bool(self._tls.pending() or self._incoming.pending) or super().has_unread

    async def lingering_close(self) -> None:
        """End TLS, then close as `Transport` does."""
        with suppress(OSError, trio.ClosedResourceError):
            with suppress(ssl.SSLError):  # There may be no TLS to end.
                self._tls.unwrap()
            self._unsent += self._outgoing.read()
            self._flush()
        await super().lingering_close()


def _in_words(error: ssl.SSLError) -> str:
    """The reason of a failure, as OpenSSL or the client names it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is refused: {error.verify_message}"
    return (error.reason or "no TLS").lower().replace("_", " ")
