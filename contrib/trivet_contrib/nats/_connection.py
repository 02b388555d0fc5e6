"""One connection to NATS, and the meaning of each of its failures.

Owns the client's options, and the errors that nats-py's own are translated into. A connection is
made once and lost once.
Never knows JetStream's messages, nor Trivet.
"""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import attrs
import nats.errors
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import APIError, ServiceUnavailableError

from .._brokers._client import (
    BrokerRefusedError,
    BrokerUnavailableError,
    ConnectionLostError,
    MessageRefusedError,
    Server,
)
from ._library import STATUS, CarefulClient
from ._settings import seed_of

NOT_ENABLED = (None, 10039, 10076)
"""Error codes that mean JetStream is disabled; None if nothing answered."""
CREDENTIALS_REFUSED = (
    "authorization",
    "authentication",
    "permissions violation",
    "revoked",
)
"""Words of the server with which it refuses credentials."""

TOO_LARGE = "maximum payload"

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class NatsServer(Server):
    """The address of NATS, several if it is a cluster, and the credentials for it."""

    credentials: str | None = attrs.field(default=None, repr=False)
    """A user's JWT and seed, or the seed alone; None for none."""


class CredentialsRefusedError(BrokerRefusedError):
    """The server refuses the credentials."""


@contextmanager
def translating() -> Generator[None]:
    """Raise each of nats-py's errors as a connector's error."""
    try:
        yield
    except (APIError, nats.errors.Error, OSError, TimeoutError) as error:
        raise translated(error) from None


def translated(error: BaseException) -> BrokerUnavailableError:
    """The connector's error for an error of nats-py."""
    if isinstance(error, APIError):
        return _refusal_by_jetstream(error)
    text = str(error) or ("no answer" if isinstance(error, TimeoutError) else type(error).__name__)
    text = text.removeprefix("nats: ")
    if isinstance(error, ssl.SSLCertVerificationError):
        return BrokerRefusedError("url", f"the certificate is not trusted: {text}")
    if isinstance(error, nats.errors.SecureConnWantedError):
        return BrokerRefusedError("url", "the server takes no TLS")
    if any(words in text.lower() for words in CREDENTIALS_REFUSED):
        return CredentialsRefusedError("url", f"not with these credentials: {text}")
    if TOO_LARGE in text.lower():
        return MessageRefusedError(text)
    is_lost = isinstance(error, nats.errors.UnexpectedEOF | ConnectionError)
    return ConnectionLostError(text) if is_lost else BrokerUnavailableError(text)


def _refusal_by_jetstream(error: APIError) -> BrokerUnavailableError:
    if isinstance(error, ServiceUnavailableError) and error.err_code in NOT_ENABLED:
        reason = "JetStream is not enabled there, or not for this account"
        return BrokerRefusedError("url", reason)
    return BrokerUnavailableError(f"JetStream refuses: {error.description}")


class Connection:
    """A connection, and the futures that fail when it does. Made by `connected`."""

    def __init__(self, client: Client, timeout: float) -> None:
        self.client = client
        self.timeout = timeout
        self.js: JetStreamContext = client.jetstream(timeout=timeout)
        self._failing: set[asyncio.Future[Any]] = set()
        self._error: BrokerUnavailableError | None = None

    @property
    def no_answer(self) -> str:
        """The words for an answer that has not come in time."""
        return f"no answer within {self.timeout:g} s"

    def fail(self, error: BrokerUnavailableError) -> None:
        """Fail all futures of this connection, now and later; the first error counts."""
        self._error = self._error or error
        for future in self._failing:
            if not future.done():
                future.set_exception(self._error)

    @contextmanager
    def failing(self, future: asyncio.Future[Any]) -> Generator[None]:
        """Fail a future, during the block, if the connection fails.

        Raises:
            BrokerUnavailableError: the connection has failed already.
        """
        if self._error is not None:
            raise self._error
        self._failing.add(future)
        try:
            yield
        finally:
            self._failing.discard(future)

    @contextmanager
    def translating(self) -> Generator[None]:
        """Raise each of nats-py's errors as a connector's; a failure of the connection goes first.

        A request that is not permitted gets no answer: the connection's failure says why.
        """
        try:
            with translating():
                yield
        except BrokerUnavailableError:
            if self._error is not None:
                raise self._error from None
            raise

    async def until(self, future: asyncio.Future[T], seconds: float) -> T:
        """Wait for a future, for at most `seconds` seconds.

        Raises:
            BrokerUnavailableError: the time is over, or the connection is lost.
        """
        with self.failing(future):
            try:
                async with asyncio.timeout(seconds):
                    return await future
            except TimeoutError:
                raise BrokerUnavailableError(self.no_answer) from None


def status_of(message: Msg) -> str:
    """The status of a message that the server made; empty for a message of a program."""
    headers: Mapping[str, str] = message.headers or {}
    return "" if message.data else headers.get(STATUS, "")


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncGenerator[Connection]:
    """A connection that ends with the block. It is not made again.

    Raises:
        BrokerUnavailableError: NATS does not answer.
        BrokerRefusedError: NATS refuses the credentials.
    """
    client = CarefulClient()
    connection = Connection(client, server.timeout)
    errors: list[Exception] = []

    async def on_error(error: Exception) -> None:
        """Note an error of the client's own tasks."""
        errors.append(error)
        failure = translated(error)
        if isinstance(failure, BrokerRefusedError):  # The requests that wait would get no answer.
            connection.fail(failure)

    async def on_closed() -> None:
        """Fail everything that waits, when the connection has ended."""
        last = client.last_error or (errors[-1] if errors else None)
        closed = BrokerUnavailableError("the connection is closed")
        connection.fail(translated(last) if last else closed)

    try:
        with translating():
            try:
                await client.connect(**_options(server), error_cb=on_error, closed_cb=on_closed)
            except nats.errors.NoServersError:
                raise (errors[-1] if errors else BrokerUnavailableError("no server")) from None
        yield connection
    except CredentialsRefusedError as error:
        if server.credentials is None:
            raise
        raise BrokerRefusedError("credentials", error.reason) from None
    finally:
        await client.close()


def _options(server: NatsServer) -> dict[str, Any]:
    urls = [urlsplit(each.strip()) for each in server.url.split(",")]
    options: dict[str, Any] = {
        "servers": [f"{url.scheme}://{url.netloc.rpartition('@')[2]}" for url in urls],
        "name": server.name,
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": 0,
        "connect_timeout": server.timeout,
        "ping_interval": server.timeout,
        "max_outstanding_pings": 1,
        "flush_timeout": server.timeout,
    }
    for url in urls:
        if url.username and url.password is not None:
            options |= {"user": unquote(url.username), "password": unquote(url.password)}
        elif url.username:
            options["token"] = unquote(url.username)
    if server.credentials is not None:
        seed = seed_of(server.credentials)
        given = RawCredentials(server.credentials) if seed is None else seed
        options["user_credentials" if seed is None else "nkeys_seed_str"] = given
    if any(url.scheme == "tls" for url in urls):
        options["tls"] = ssl.create_default_context()
    return options
