"""One connection to Redis, and the meaning of each of its failures.

Owns the client's options, and the errors that coredis' own are translated into.
Never knows streams and groups, nor Trivet.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import coredis
from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    RedisError,
    StreamConsumerGroupError,
    WrongTypeError,
)
from coredis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from coredis.retry import NoRetryPolicy

from .._brokers._client import (
    BrokerRefusedError,
    BrokerUnavailableError,
    ConnectionLostError,
    MessageRefusedError,
    Server,
)
from .._brokers._library_logs import our_calls, our_records_left_out
from .._error_text import describe
from ._library import LOGGERS, RedisClient

TOO_LARGE = ("Protocol error", "proto-max-bulk-len", "too large")
"""Redis' words for a message that it never takes; it may end the connection after them."""


@contextmanager
def translating() -> Generator[None]:
    """Raise each of coredis' errors as a connector's error."""
    try:
        with our_calls():
            yield
    except (RedisError, TimeoutError, OSError) as error:
        raise translated(error) from None


def translated(error: Exception) -> BrokerUnavailableError:
    """The connector's error for an error of coredis."""
    if isinstance(error, RedisConnectionError | TimeoutError | OSError):
        return _lost(error)
    failure = BrokerUnavailableError(f"Redis refuses: {error}")
    if isinstance(error, AuthenticationError | AuthorizationError):
        failure = BrokerRefusedError("url", f"not with these credentials: {error}")
    elif isinstance(error, WrongTypeError):
        failure = BrokerRefusedError("stream", "a key of this name holds something else")
    elif isinstance(error, StreamConsumerGroupError):
        failure = BrokerRefusedError("stream", f"it, or its group, is gone: {error}")
    elif "DB index" in str(error):
        failure = BrokerRefusedError("url", f"there is no such database: {error}")
    elif any(words in str(error) for words in TOO_LARGE):
        failure = MessageRefusedError(f"Redis refuses: {error}")
    return failure


def _lost(error: Exception) -> BrokerUnavailableError:
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        reason = f"the certificate is not trusted: {describe(error.__cause__)}"
        return BrokerRefusedError("url", reason)
    is_silent = isinstance(error, TimeoutError)
    return (BrokerUnavailableError if is_silent else ConnectionLostError)(describe(error))


@asynccontextmanager
async def connected(server: Server) -> AsyncGenerator[RedisClient]:
    """A client whose connections end with the block.

    An exception of the block is raised alone, not in the group of the client's nursery.

    Raises:
        BrokerUnavailableError: Redis does not answer.
        BrokerRefusedError: Redis refuses the credentials.
    """
    options: dict[str, Any] = {}
    if server.url.startswith("rediss:"):  # By itself coredis would take any certificate.
        options["ssl_context"] = ssl.create_default_context()
    client = cast(
        "RedisClient",
        coredis.Redis.from_url(
            server.url,
            verify_version=False,
            retry_policy=NoRetryPolicy(),
            stream_timeout=server.timeout,
            connect_timeout=server.timeout,
            **options,
        ),
    )
    failure: BaseException | None = None
    with our_records_left_out(*LOGGERS):
        try:
            async with client:
                try:
                    yield client
                except Exception as error:  # Out of the client's nursery it would be in a group.
                    failure = error
        except BaseExceptionGroup as group:
            raise _only(group) from None
    if failure is not None:
        raise failure


def _only(error: BaseException) -> BaseException:
    """The one exception in a group; the group itself if there are several."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _only(inner[0]) if len(inner) == 1 else error
