"""One connection to RabbitMQ: connected once, and lost once.

Owns what each failure of the client means, and how long an answer may take.
Never knows queues and messages, nor Trivet.
"""

# pyright: reportUnknownMemberType=false
# aiormq has futures without types.

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import attrs
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionClosed,
    ConnectionFrameError,
    ConnectionNotAllowed,
    ConnectionSyntaxError,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from .._brokers._client import AwayError, CutOffError, MessageRefusedError, RefusedError
from ._channel import BatchChannel, RoomyConnection, open_channel

# What it would say, with a traceback, is raised here, and said by the plugin in a line.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

HEARTBEAT = 10
"""Seconds. After two of them RabbitMQ gives to others what a machine held that is gone."""


@attrs.frozen(kw_only=True)
class Server:
    """Where RabbitMQ is, and how patient to be with it."""

    url: str = attrs.field(repr=False)
    """`amqp://user:password@host:port/vhost`, or `amqps://`."""
    timeout: float = 5.0
    """Seconds for one answer, and for a connection."""
    name: str = ""
    """By what the server's operator knows the connection."""


@contextmanager
def translated(seconds: float) -> Generator[None]:
    """Raise what aiormq raises as what it means."""
    try:
        yield
    except TimeoutError:
        raise AwayError(f"no answer within {seconds:g} s") from None
    except asyncio.CancelledError as error:
        # Of a connection that is lost the client cancels all that waits for it.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise meant_by(error) from None  # noqa: ASYNC104 - nobody has cancelled this task
    except (AMQPError, OSError, RuntimeError) as error:
        raise meant_by(error) from None


def meant_by(error: BaseException | None) -> AwayError:
    """What a failure of the connection means."""
    text = ", ".join(map(str, error.args)) if error is not None else ""
    cause = None if error is None else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return RefusedError("url", f"the certificate is not trusted: {cause.verify_message}")
    if isinstance(error, (ProbableAuthenticationError, AuthenticationError)):
        return RefusedError("url", f"not with these credentials: {text}")
    if isinstance(error, (ConnectionNotAllowed, ChannelAccessRefused)):
        return RefusedError("url", text)
    if isinstance(error, InvalidFrameError) and "Connection.OpenOk" in text:
        return RefusedError("url", "there is no such virtual host, or not for this user")
    if isinstance(error, (ChannelPreconditionFailed, ConnectionFrameError, ConnectionSyntaxError)):
        return MessageRefusedError(text)
    said = text.partition(". Read")[0] or "the connection is lost"
    is_told = isinstance(error, ConnectionClosed)
    is_cut = isinstance(error, (AMQPConnectionError, OSError)) and not is_told
    return CutOffError(said) if is_cut else AwayError(said)


@attrs.define
class _Transport(TransportFactory):
    """Remembers what is open: of a server that stands still no leave can be taken."""

    made: TransportFactory
    writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See `TransportFactory`."""
        reader, self.writer = await self.made.create(url, **kwargs)
        return reader, self.writer

    def abort(self) -> None:
        """Close it at once."""
        if self.writer is not None:
            self.writer.transport.abort()


class Line:
    """A connection. Made by `open_line`."""

    def __init__(self, server: Server) -> None:
        self.timeout = server.timeout
        url, is_tls = URL(server.url), server.url.startswith("amqps")
        self._transport = _Transport(TLSTransportFactory() if is_tls else TCPTransportFactory())
        self._connection = RoomyConnection(
            url.with_query({"heartbeat": str(HEARTBEAT), "name": server.name}),
            context=ssl.create_default_context() if is_tls else None,
            transport_factory=self._transport,
        )
        self.end: AwayError | None = None
        """Why nothing more is to be expected of it."""
        self._waiting: asyncio.Future[None] | None = None
        self._confirms: Sequence[asyncio.Future[object]] = ()

    async def begin(self) -> None:
        """Connect.

        Raises:
            AwayError: it does not answer.
            RefusedError: it refuses the credentials.
        """
        with self.translated():
            async with asyncio.timeout(self.timeout):
                await self._connection.connect()
        self._connection.closing.add_done_callback(self._lost)

    @contextmanager
    def translated(self) -> Generator[None]:
        """As the function of this name; after it the connection is of no use."""
        try:
            with translated(self.timeout):
                yield
        except AwayError as error:
            self.fail(error)
            raise self.end or error from None

    @contextmanager
    def translated_but(self, *expected: type[AMQPError]) -> Generator[None]:
        """The same, but for what an answer may be. It is one of the channel alone."""
        try:
            yield
        except expected:
            raise
        except BaseException as error:
            with self.translated():
                raise error from None

    def _lost(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self.fail(meant_by(error))

    def fail(self, error: AwayError) -> None:
        """Nothing more is to be expected of it."""
        self.end = self.end or error
        self.wake()
        for confirm in self._confirms:
            if not confirm.done():
                confirm.set_exception(self.end)
                confirm.exception()  # Perhaps nobody asks.

    def wake(self) -> None:
        """There is something to look at."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Wait until there is something to look at, for so long.

        Raises:
            AwayError: the connection is lost.
        """
        if self.end is None:
            self._waiting = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._waiting
        if self.end is not None:
            raise self.end

    async def confirmed(
        self, confirms: Sequence[asyncio.Future[object]]
    ) -> list[BaseException | None]:
        """Wait for confirms; says of each what was wrong with it.

        Raises:
            AwayError: some of them have not come.
        """
        self._confirms = confirms
        if self.end is not None:
            raise self.end
        with self.translated():
            with suppress(TimeoutError):
                async with asyncio.timeout(self.timeout):
                    for confirm in confirms:
                        if not confirm.done():
                            await asyncio.wait((confirm,))
            if not all(confirm.done() for confirm in confirms):
                if await self._is_blocked():
                    raise AwayError("it takes no messages, for want of memory or disk")
                raise TimeoutError
        self._confirms = ()
        if self.end is not None:
            raise self.end
        return [confirm.exception() for confirm in confirms]

    async def _is_blocked(self) -> bool:
        """Whether RabbitMQ has said that it reads nothing more for now."""
        try:
            async with asyncio.timeout(0):
                await self._connection.ready()
        except TimeoutError:
            return True
        return False

    async def channel(self, *, confirms: bool = False) -> BatchChannel:
        """Open one. It may end by what is asked of it."""
        with self.translated():
            async with asyncio.timeout(self.timeout):
                return await open_channel(self._connection, confirms=confirms)

    async def lasting_channel(self, *, confirms: bool = False) -> BatchChannel:
        """Open one whose end is the connection's."""
        channel = await self.channel(confirms=confirms)
        channel.closing.add_done_callback(self._lost)
        return channel

    async def leave(self, channel: BatchChannel) -> None:
        """Close a channel that has answered."""
        with self.translated():
            await channel.close(timeout=self.timeout)

    async def close(self) -> None:
        """Take leave, if there is somebody to take it of."""
        if self.end is not None:
            self._transport.abort()
        try:
            with suppress(AMQPError, OSError, TimeoutError, RuntimeError):
                async with asyncio.timeout(self.timeout):
                    await self._connection.close()
        finally:
            self._transport.abort()


@asynccontextmanager
async def open_line(server: Server) -> AsyncGenerator[Line]:
    """A connection that ends with the block; it is not made again.

    Raises:
        AwayError: it does not answer.
        RefusedError: it refuses the credentials.
    """
    line = Line(server)
    try:
        await line.begin()
        yield line
    finally:
        await line.close()
