"""One connection to RabbitMQ, and the meaning of each of its failures.

Owns the errors that aiormq's own are translated into, and the time limit of an answer. A connection
is made once and lost once.
Never knows queues and messages, nor Trivet.
"""

# pyright: reportUnknownMemberType=false
# aiormq has futures without types.

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

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

from .._brokers._client import (
    BrokerRefusedError,
    BrokerUnavailableError,
    ConnectionLostError,
    MessageRefusedError,
    Server,
)
from .._brokers._library_logs import our_calls, our_records_left_out
from ._library import LOGGERS, BatchChannel, BatchConnection, Transport, open_channel

HEARTBEAT = 10
"""Seconds. Without two heartbeats RabbitMQ delivers the messages of a vanished machine again."""


@contextmanager
def translating(seconds: float) -> Generator[None]:
    """Raise each of aiormq's errors as a connector's error.

    Args:
        seconds: the time limit in the block, for the text of its error.
    """
    try:
        with our_calls():
            yield
    except TimeoutError:
        raise BrokerUnavailableError(f"no answer within {seconds:g} s") from None
    except asyncio.CancelledError as error:
        # When a connection is lost, aiormq cancels every task that waits for it.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise translated(error) from None  # noqa: ASYNC104 - nobody has cancelled this task
    except (AMQPError, OSError, RuntimeError) as error:
        raise translated(error) from None


def translated(error: BaseException | None) -> BrokerUnavailableError:
    """The connector's error for an error of aiormq; None is a connection that just ended."""
    text = ", ".join(map(str, error.args)) if error is not None else ""
    cause = None if error is None else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BrokerRefusedError("url", f"the certificate is not trusted: {cause.verify_message}")
    if isinstance(error, (ProbableAuthenticationError, AuthenticationError)):
        return BrokerRefusedError("url", f"not with these credentials: {text}")
    if isinstance(error, (ConnectionNotAllowed, ChannelAccessRefused)):
        return BrokerRefusedError("url", text)
    if isinstance(error, InvalidFrameError) and "Connection.OpenOk" in text:
        return BrokerRefusedError("url", "there is no such virtual host, or not for this user")
    if isinstance(error, (ChannelPreconditionFailed, ConnectionFrameError, ConnectionSyntaxError)):
        return MessageRefusedError(text)
    reason = text.partition(". Read")[0] or "the connection is lost"
    has_reason = isinstance(error, ConnectionClosed)
    is_lost = isinstance(error, (AMQPConnectionError, OSError)) and not has_reason
    return ConnectionLostError(reason) if is_lost else BrokerUnavailableError(reason)


class Connection:
    """A connection, its channels, and the tasks that wait for it."""

    def __init__(self, server: Server) -> None:
        self.timeout = server.timeout
        url, is_tls = URL(server.url), server.url.startswith("amqps")
        self._transport = Transport(is_tls=is_tls)
        self._amqp = BatchConnection(
            url.with_query({"heartbeat": str(HEARTBEAT), "name": server.name}),
            context=ssl.create_default_context() if is_tls else None,
            transport_factory=self._transport,
        )
        self.error: BrokerUnavailableError | None = None
        """The first error of the connection, after which it is useless; None while it works."""
        self._news: asyncio.Future[None] | None = None
        self._confirms: Sequence[asyncio.Future[object]] = ()
        self._while_open = ExitStack()

    async def open(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailableError: RabbitMQ does not answer.
            BrokerRefusedError: RabbitMQ refuses the credentials.
        """
        self._while_open.enter_context(our_records_left_out(*LOGGERS))
        with self.translating():
            async with asyncio.timeout(self.timeout):
                await self._amqp.connect()
        self._amqp.closing.add_done_callback(self._on_closed)

    @contextmanager
    def translating(self) -> Generator[None]:
        """Raise each of aiormq's errors as a connector's error, and give the connection up."""
        try:
            with translating(self.timeout):
                yield
        except BrokerUnavailableError as error:
            self.fail(error)
            raise self.error or error from None

    @contextmanager
    def translating_except(self, *expected: type[AMQPError]) -> Generator[None]:
        """Translate all errors except these, which end a channel and not the connection."""
        try:
            with our_calls():
                yield
        except expected:
            raise
        except BaseException as error:
            with self.translating():
                raise error from None

    def _on_closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self.fail(translated(error))

    def fail(self, error: BrokerUnavailableError) -> None:
        """Make the connection useless, and fail what waits for it; the first error counts."""
        self.error = self.error or error
        self.wake()
        for confirm in self._confirms:
            if not confirm.done():
                confirm.set_exception(self.error)
                confirm.exception()  # Perhaps no task awaits it any more.

    def wake(self) -> None:
        """Wake the task that waits for news."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def wait_for_news(self, seconds: float) -> None:
        """Wait until `wake` is called, for at most `seconds` seconds.

        Raises:
            BrokerUnavailableError: the connection is lost.
        """
        if self.error is None:
            self._news = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news
        if self.error is not None:
            raise self.error

    async def confirmed(
        self, confirms: Sequence[asyncio.Future[object]]
    ) -> list[BaseException | None]:
        """Wait for confirms; returns the error of each, or None.

        Raises:
            BrokerUnavailableError: some confirm has not come.
        """
        self._confirms = confirms
        if self.error is not None:
            raise self.error
        with self.translating():
            with suppress(TimeoutError):
                async with asyncio.timeout(self.timeout):
                    for confirm in confirms:
                        if not confirm.done():
                            await asyncio.wait((confirm,))
            if not all(confirm.done() for confirm in confirms):
                if await self._is_blocked():
                    reason = "it takes no messages, for want of memory or disk"
                    raise BrokerUnavailableError(reason)
                raise TimeoutError
        self._confirms = ()
        if self.error is not None:
            raise self.error
        return [confirm.exception() for confirm in confirms]

    async def _is_blocked(self) -> bool:
        """Whether RabbitMQ has blocked the connection: it reads nothing more for now."""
        try:
            async with asyncio.timeout(0):
                await self._amqp.ready()
        except TimeoutError:
            return True
        return False

    async def open_channel(self, *, confirms: bool = False) -> BatchChannel:
        """Open a channel for one request, whose refusal may end the channel."""
        with self.translating():
            async with asyncio.timeout(self.timeout):
                return await open_channel(self._amqp, confirms=confirms)

    async def open_lasting_channel(self, *, confirms: bool = False) -> BatchChannel:
        """Open a channel whose end makes the connection useless."""
        channel = await self.open_channel(confirms=confirms)
        channel.closing.add_done_callback(self._on_closed)
        return channel

    async def close_channel(self, channel: BatchChannel) -> None:
        """Close a channel after its request was answered."""
        with self.translating():
            await channel.close(timeout=self.timeout)

    async def close(self) -> None:
        """Close the connection; in order if RabbitMQ still answers."""
        if self.error is not None:
            self._transport.abort()
        try:
            with our_calls(), suppress(AMQPError, OSError, TimeoutError, RuntimeError):
                async with asyncio.timeout(self.timeout):
                    await self._amqp.close()
        finally:
            self._transport.abort()
            self._while_open.close()


@asynccontextmanager
async def connected(server: Server) -> AsyncGenerator[Connection]:
    """A connection that ends with the block. It is not made again.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer.
        BrokerRefusedError: RabbitMQ refuses the credentials.
    """
    connection = Connection(server)
    try:
        await connection.open()
        yield connection
    finally:
        await connection.close()
